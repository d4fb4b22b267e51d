"""Corpora for tests, made at once: each class an ellipsoid of its own, complete and half seen."""

import numpy as np

from clipoint3d_ros.pretraining.corpus import COMPLETE, SENSOR_NAMES, Corpus


def corpus_of(classes, each=2, seed=0):
    """`each` complete clouds of every class, then as many that sensors saw, every second one with a faulty segment,
    and every fourth half hidden."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(classes)), 2 * each)
    camera = np.arange(len(labels)) >= len(labels) // 2
    points = rng.normal(size=(len(labels), 200, 3))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    points *= 0.1 + 0.03 * np.stack([labels, labels % 2, labels % 3], 1)[:, None]
    points[camera, :, 2] = np.abs(points[camera, :, 2])
    order = np.cumsum(camera) - 1
    return Corpus(
        classes=tuple(classes),
        points=(points - points.mean(1, keepdims=True)).astype(np.float16),
        labels=labels,
        camera=camera,
        elevation=np.where(camera, 0.5, 0.0).astype(np.float32),
        words=[("plain", "standing")] * len(labels),
        sensor=np.where(camera, order % len(SENSOR_NAMES), COMPLETE).astype(np.int8),
        visible=np.where(camera & (order % 4 == 0), 0.5, 1.0).astype(np.float32),
        faulty=camera & (order % 2 == 1),
        dimensions=np.ptp(points, axis=1).astype(np.float32),
    )
