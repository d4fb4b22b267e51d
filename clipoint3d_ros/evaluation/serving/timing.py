"""How long recognition takes: rows by turns in one run, by stage, by number of objects and of points.

| key | meaning |
|---|---|
| `{row}.ms_per_object` | median over rounds of a whole frame of `objects`, divided by them |
| `{row}.stages_ms.{stage}` | `p50`, `p95`, `p99` of a frame's stage: project, encode, decide |
| `{row}.objects_per_second`, `.speedup` | of the median; against the baseline where there is one |
| `{row}.matrix_share` | of the machine's rate in that number format; operations counted with all views and patches |
| `{row}.peak_bytes` | most memory while the row ran: of the GPU, else of this process, all rows' models included |
| `baseline.ms_per_object` | median of the published inference, object by object |
| `growth.objects` | `served`: ms per object at each number of objects; median of a few turns, each of frames enough to have their share of objects in doubt |
| `growth.points` | `served`: ms of projecting one cloud of so many points; median of a few |
"""  # noqa: E501  (table)

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.evaluation.serving.machine import forget_peak, matrix_rate, peak_bytes, settle, tower_operations
from clipoint3d_ros.evaluation.serving.published import PublishedInference
from clipoint3d_ros.evaluation.serving.rows import Row
from clipoint3d_ros.geometry.views import view_directions
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.precision import resolve
from clipoint3d_ros.recognition.projection import Projection
from clipoint3d_ros.recognition.still import StillObjects

UP, SENSOR = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)
STAGES = ("project", "encode", "decide")
TURNS = 3  # of each number of objects and of points, after one that is not counted
MOST_FRAMES = 20  # of a turn


class GivenDoubt(Classifier):
    """A classifier of which a given share of the objects is in doubt: random weights know no doubt of their own."""

    def __init__(self, backbone: Backbone, classes: Descriptions, config: ClassifierConfig, share: float) -> None:
        super().__init__(backbone, classes, config)
        self._share, self._asked = share, 0

    def _in_doubt(self, projection: Projection, features: torch.Tensor) -> torch.Tensor:
        """Evenly spread over all objects ever asked for."""
        numbers = torch.arange(self._asked, self._asked + len(features), device=features.device, dtype=torch.float64)
        self._asked += len(features)
        return ((numbers + 1) * self._share).floor() > (numbers * self._share).floor()


def measure(
    backbones: Mapping[str, Backbone],
    rows: Sequence[Row],
    classes: Descriptions,
    clouds: Sequence[np.ndarray],
    objects: int,
    rounds: int,
    doubt: float | None,
    baseline: bool,
    told: Callable[[int], object] = lambda rounds: None,
) -> dict[str, Any]:
    """Time all rows by turns (the module's table says what comes back).

    Args:
        backbones: by `Row.patches`.
        rows: what is timed.
        classes: to tell apart.
        clouds: of objects in a levelled sensor frame, metres; repeated where there are fewer than `objects`.
        objects: of a frame.
        rounds: of all rows by turns, after one that is not counted.
        doubt: share of objects in doubt; None leaves that to the model.
        baseline: whether the published inference takes its turn too, with one object a round.
        told: called after each round.
    """
    frame = [clouds[i % len(clouds)] for i in range(objects)]
    served = {row.name: classifier_of(row, backbones[row.patches], classes, doubt) for row in rows}
    published = PublishedInference(backbones["all"], classes) if baseline else None
    looks = {row.name: StillObjects() if row.still else None for row in rows}
    seconds: dict[str, list[list[float]]] = {row.name: [] for row in rows}
    peaks = dict.fromkeys(seconds, 0)
    plain = []
    for number in range(rounds + 1):
        if published is not None:
            start = time.perf_counter()
            published(frame[number % objects])
            settle(backbones["all"].device)
            plain.append(time.perf_counter() - start)
        for row in rows:
            classifier, viewpoint = served[row.name], SENSOR if row.viewpoint else None
            forget_peak(classifier.device)
            seconds[row.name].append(stage_seconds(classifier, frame, viewpoint, looks[row.name]))
            peaks[row.name] = max(peaks[row.name], peak_bytes(classifier.device))
        told(1)
    found = {
        row.name: _figures(served[row.name], np.array(seconds[row.name][1:]), objects) | {"peak_bytes": peaks[row.name]}
        for row in rows
    }
    if published is not None:
        base = 1000 * float(np.median(plain[1:]))
        found["baseline"] = {"ms_per_object": base}
        for row in rows:
            found[row.name]["speedup"] = base / found[row.name]["ms_per_object"]
    return found


def classifier_of(row: Row, backbone: Backbone, classes: Descriptions, doubt: float | None = None) -> Classifier:
    """What a row serves with."""
    if doubt is None:
        return Classifier(backbone, classes, row.config)
    return GivenDoubt(backbone, classes, row.config, doubt)


def stage_seconds(
    classifier: Classifier, frame: Sequence[np.ndarray], viewpoint: Any, looks: StillObjects | None = None
) -> list[float]:
    """Seconds of each of `STAGES` for a frame; with `looks`, of objects that have not moved since the last one."""
    marks = [time.perf_counter()]
    projection = classifier.project(frame, UP, viewpoint)
    settle(classifier.device)
    marks.append(time.perf_counter())
    features = (
        classifier.encode(projection) if looks is None else _look(classifier, frame, projection, viewpoint, looks)
    )
    settle(classifier.device)
    marks.append(time.perf_counter())
    classifier.decide(projection, features)
    marks.append(time.perf_counter())
    return np.diff(marks).tolist()


def _look(
    classifier: Classifier, frame: Sequence[np.ndarray], projection: Projection, viewpoint: Any, looks: StillObjects
) -> torch.Tensor:
    """Features as the node has them where `reuse_still` is set, all at one moment."""
    eye = None if viewpoint is None else np.asarray(viewpoint)
    given = (0.0, range(len(frame)), frame, eye, projection.chosen, projection.weights)
    known = looks.recall(*given, classifier.looks_by)
    features = classifier.encode(projection, known)
    looks.remember(*given, features, known)
    return features


def growth(
    backbone: Backbone,
    row: Row,
    classes: Descriptions,
    clouds: Sequence[np.ndarray],
    counts: Sequence[int],
    points: Sequence[int],
    doubt: float | None,
) -> dict[str, dict[str, float]]:
    """`objects`: {count: ms per object of a frame}; `points`: {count: ms to project one cloud of so many points}."""
    viewpoint = SENSOR if row.viewpoint else None
    by_count = {}
    for count in counts:
        classifier = classifier_of(row, backbone, classes, doubt)  # its count of doubtful objects begins anew
        frame = [clouds[i % len(clouds)] for i in range(count)]
        frames = min(math.ceil(1 / doubt / count), MOST_FRAMES) if doubt else 1
        turns = [sum(sum(stage_seconds(classifier, frame, viewpoint)) for _ in range(frames)) for _ in range(TURNS + 1)]
        by_count[str(count)] = 1000 * float(np.median(turns[1:])) / frames / count
    classifier, rng, by_points = classifier_of(row, backbone, classes, doubt), np.random.default_rng(0), {}
    for size in points:
        cloud = (rng.normal(size=(size, 3)) * 0.1 + 1).astype(np.float32)
        seconds = [_projection_seconds(classifier, cloud) for _ in range(TURNS + 1)]
        by_points[str(size)] = 1000 * float(np.median(seconds[1:]))
    return {"objects": by_count, "points": by_points}


def _projection_seconds(classifier: Classifier, cloud: np.ndarray) -> float:
    start = time.perf_counter()
    classifier.project([cloud], UP, SENSOR)
    settle(classifier.device)
    return time.perf_counter() - start


def _figures(classifier: Classifier, seconds: np.ndarray, objects: int) -> dict[str, Any]:
    """Of one row; seconds (rounds, stages)."""
    per_object = float(np.median(seconds.sum(1))) / objects
    dtype = resolve(classifier.config.precision, classifier.device)
    operations = len(view_directions()) * tower_operations(classifier.backbone.visual)
    quantiles = np.percentile(1000 * seconds, (50, 95, 99), axis=0)
    return {
        "ms_per_object": 1000 * per_object,
        "objects_per_second": 1 / per_object,
        "precision": str(dtype).removeprefix("torch."),
        "matrix_share": operations / per_object / matrix_rate(dtype, classifier.device),
        "stages_ms": {
            stage: dict(zip(("p50", "p95", "p99"), map(float, quantiles[:, i]), strict=True))
            for i, stage in enumerate(STAGES)
        },
    }
