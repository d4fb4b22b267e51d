"""A segmenter against labelled scenes, alone and as the first half of raw cloud → labels.

Segments and objects are paired one to one so that their summed IoU is largest. Every object is then one of four:

| | |
|---|---|
| matched | its segment has an IoU of at least 0.5 with it |
| over-segmented | else, and two or more segments that lie mostly in it cover at least half of it |
| under-segmented | else, and at least half of it lies in a segment that is mostly other, or holds half of another |
| missed | else |

Down the chain an object is named rightly when it is matched and its segment is given its name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.scenes import Scene
from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.geometry.segmentation.segment import FIRST_OBJECT, SegmenterConfig, segment
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.recognition import UNKNOWN

MATCHED = 0.5  # IoU
MIN_POINTS = 100  # of an object that is scored
FATES = ("matched", "over_segmented", "under_segmented", "missed")
CHAIN = ("truth", "segments")  # whose masks the classifier was given


@dataclass(frozen=True)
class Overlap:
    """One scene's K objects and their fate.

    ids: K of the truth. iou: (K,) with the paired segment, 0 where none was left. segment: (K,) its label, 0 for none.
    fate: K of FATES. extra: segments at least half of which lie on no object.
    """

    ids: tuple[int, ...]
    iou: np.ndarray
    segment: np.ndarray
    fate: tuple[str, ...]
    extra: int


def overlap(truth: np.ndarray, labels: np.ndarray, min_points: int = MIN_POINTS) -> Overlap:
    """Compare labels with the truth.

    Args:
        truth: (N,) 0 background, 1 table, 2 and up one object each; points without return are background.
        labels: (N,) the same of a segmenter.
        min_points: objects of fewer points are not scored.
    """
    shared = np.zeros((max(int(truth.max(initial=0)), 1) + 1, max(int(labels.max(initial=0)), 1) + 1), np.int64)
    np.add.at(shared, (truth, labels), 1)
    points = shared.sum(1)
    ids = np.array([i for i in range(FIRST_OBJECT, len(points)) if points[i] >= min_points], int)
    both, sizes = shared[ids, FIRST_OBJECT:], shared[:, FIRST_OBJECT:].sum(0)
    union = points[ids, None] + sizes - both
    share = both / np.maximum(union, 1)
    rows, columns = linear_sum_assignment(-share)
    iou, paired = np.zeros(len(ids)), np.zeros(len(ids), int)
    iou[rows] = share[rows, columns]
    paired[rows] = np.where(share[rows, columns] > 0, columns + FIRST_OBJECT, 0)
    within = (both > 0) & (2 * both >= sizes)  # segments that lie mostly in the object
    holds = 2 * both >= points[ids, None]
    over = (within.sum(1) >= 2) & (2 * (both * within).sum(1) >= points[ids])
    under = (holds & (~within | (holds.sum(0) >= 2))).any(1)
    fate = np.select([iou >= MATCHED, over, under], FATES[:3], FATES[3])
    on_objects = shared[FIRST_OBJECT:, FIRST_OBJECT:].sum(0)
    extra = int(((sizes > 0) & (2 * on_objects <= sizes)).sum())
    return Overlap(tuple(ids.tolist()), iou, paired, tuple(fate.tolist()), extra)


def figures(
    stream: Iterable[Scene], classifier: Classifier | None = None, config: SegmenterConfig | None = None
) -> dict[str, Any]:
    """Segment every scene and score it; with a classifier the chain as well.

    Returns:
        `scenes`, `objects`, `mean_iou`, `median_iou`; `matched`, `over_segmented`, `under_segmented`, `missed` counts
        of objects; `extra` segments on no object; `ms` per cloud: p50, p95, max. `chain`, null without a classifier:
        `objects` with a name among the classes, and by whose masks, `truth` and `segments`: `accuracy`,
        `macro_accuracy`; `matched_accuracy` of both over the matched objects alone.
    """
    iou: list[float] = []
    fates: list[str] = []
    took_ms: list[float] = []
    extra, count = 0, 0
    named: list[tuple[int, bool, int, int]] = []  # class, matched, its answer by truth and by segments
    for scene in stream:
        points = scenes.level_points(scene).reshape(-1, 3)
        truth = np.where(np.isfinite(points).all(1), scene.instance.reshape(-1), 0).astype(int)
        start = time.perf_counter()
        labels = segment(points, np.array([0.0, 0.0, 1.0]), np.zeros(3), config or SegmenterConfig())
        took_ms.append(1000 * (time.perf_counter() - start))
        found = overlap(truth, labels)
        iou += found.iou.tolist()
        fates += found.fate
        extra, count = extra + found.extra, count + 1
        if classifier is not None:
            named += _named(scene, points, truth, labels, found, classifier)
    if not iou:
        raise ValueError(f"no object of {MIN_POINTS} points or more in {count} scenes: there is nothing to score")
    p50, p95, top = (float(v) for v in (*np.percentile(took_ms, (50, 95)), max(took_ms)))
    return {
        "benchmark": "segmentation",
        "scenes": count,
        "objects": len(iou),
        "mean_iou": float(np.mean(iou)),
        "median_iou": float(np.median(iou)),
        **{fate: fates.count(fate) for fate in FATES},
        "extra": extra,
        "ms": {"p50": p50, "p95": p95, "max": top},
        "chain": None if classifier is None else _chain(named, len(classifier.classes)),
    }


def _named(
    scene: Scene, points: np.ndarray, truth: np.ndarray, labels: np.ndarray, found: Overlap, classifier: Classifier
) -> list[tuple[int, bool, int, int]]:
    classes = list(classifier.classes)
    rows = [k for k, i in enumerate(found.ids) if scene.classes.get(i) in classes]
    by_truth = _answers(classifier, [points[truth == found.ids[k]] for k in rows])
    matched = [k for k in rows if found.fate[k] == "matched"]
    answers = _answers(classifier, [points[labels == found.segment[k]] for k in matched])
    by_segments = dict(zip(matched, answers, strict=True))
    return [
        (classes.index(scene.classes[found.ids[k]]), k in by_segments, said, by_segments.get(k, metrics.NONE))
        for k, said in zip(rows, by_truth, strict=True)
    ]


def _answers(classifier: Classifier, clouds: list[np.ndarray]) -> list[int]:
    """Class indices, NONE where it did not say; the clouds are levelled with the sensor at the origin."""
    if not clouds:
        return []
    said = classifier.classify(clouds, up=(0.0, 0.0, 1.0), viewpoint=(0.0, 0.0, 0.0))
    return [metrics.NONE if r.label == UNKNOWN else classifier.classes.index(r.label) for r in said]


def _chain(named: list[tuple[int, bool, int, int]], classes: int) -> dict[str, Any] | None:
    if not named:
        return None
    truth, matched, *answers = (np.array(column) for column in zip(*named, strict=True))
    told: dict[str, Any] = {"objects": len(truth), "matched": int(matched.sum())}
    for masks, said in zip(CHAIN, answers, strict=True):
        told[masks] = {
            "accuracy": metrics.accuracy(truth, said),
            "macro_accuracy": metrics.macro_accuracy(truth, said, classes),
            "matched_accuracy": metrics.accuracy(truth[matched], said[matched]) if matched.any() else None,
        }
    return told


def summary(told: dict[str, Any]) -> str:
    """The figures for a terminal."""
    ms, chain = told["ms"], told["chain"]
    lines = [
        f"{told['objects']} objects in {told['scenes']} scenes: mean IoU {told['mean_iou']:.3f}, median "
        f"{told['median_iou']:.3f}",
        ", ".join(f"{told[fate]} {fate.replace('_', '-')}" for fate in FATES)
        + f"; {told['extra']} segments on nothing",
        f"{ms['p50']:.0f} ms a cloud (95 % {ms['p95']:.0f}, longest {ms['max']:.0f})",
    ]
    if chain:
        lines.append(f"named rightly, of {chain['objects']} objects with a name ({chain['matched']} matched):")
        for masks, what in zip(CHAIN, ("with the truth's masks", "raw cloud → segments → names"), strict=True):
            row = chain[masks]
            of_matched = "–" if row["matched_accuracy"] is None else f"{100 * row['matched_accuracy']:.1f} %"
            lines.append(
                f"  {what}: {100 * row['accuracy']:.1f} %, macro {100 * row['macro_accuracy']:.1f} %, of the matched "
                f"{of_matched}"
            )
    return "\n".join(lines)
