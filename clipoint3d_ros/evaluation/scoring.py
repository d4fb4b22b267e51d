"""From frames and answers to the figures of `evaluate --json`.

| key | meaning |
|---|---|
| `classes` | the names answers choose from |
| `objects` | truth objects whose name is among the classes: the denominator of every accuracy |
| `instances` | all objects: those of the truth whatever their name, and those only the cloud shows |
| `frames`, `dropped_frames` | clouds replayed, and how many of them had no answer |
| `frozen`, `adapted` | `accuracy`, `macro_accuracy`, `answered_accuracy` (of the objects for which a class was named), `ece` (15 bins of equal width, objects with a named class); `adapted` is null without an adapter |
| `per_class` | by name: `n` objects, accuracy `frozen` and `adapted` (null where n is 0) |
| `confusion` | of the adapter where one was live, else of the frozen model: rows truth, columns what was named; an object for which no class was named is in no column |
| `latency_ms` | from sending a cloud to having its answer, over answered frames |
| `adapter_versions` | that answered, in order of appearance; 0 is the frozen model |
| `windows` | the stream cut into runs of whole frames with at least 50 scored objects (the last may have fewer): `start`, `end` in seconds of the stream (stamps of its first and last frame, bags laid end to end), accuracies within, the version at its end |
| `unknown` | beside the contract: share of scored objects, and of truth objects with other names (`rate_outside`), called unknown at the threshold `below` |
| `intervals` | beside the contract: 95 % bootstrap over frames of the accuracies of `frozen` and `adapted` |

Accuracies are fractions of 1. An object without an answer counts as wrong. A figure over nothing is null.
"""  # noqa: E501  (table)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameAnswer, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import TrueObject
from clipoint3d_ros.recognition.recognition import UNKNOWN

WINDOW = 50  # scored objects, at least


class Scored(NamedTuple):
    """One scored truth object with what was said of it (None: nothing)."""

    frame: Frame
    object: TrueObject
    frozen: Answer | None
    adapted: Answer | None


def scored_objects(frames: Sequence[Frame], replayed: Replayed) -> list[Scored]:
    """Every truth object whose name is among the classes, with the answers of its stamp and id."""
    return [
        Scored(
            frame,
            known,
            _answer(replayed.frozen.get(frame.key), frame, known),
            _answer((replayed.adapted or {}).get(frame.key), frame, known),
        )
        for frame in frames
        for known in frame.objects
        if known.name in replayed.classes
    ]


def score(frames: Sequence[Frame], replayed: Replayed, unknown_below: float = 0.0) -> dict[str, Any]:
    """All figures, ready for JSON (the module's table says what each means).

    Args:
        frames: of all bags, in the order of the stream.
        replayed: their answers; `unknown` must have been off, so that every object was given a class.
        unknown_below: the score under which an answer would have been "unknown".
    """
    classes = replayed.classes
    scored = scored_objects(frames, replayed)
    truth = np.array([classes.index(s.object.name) for s in scored], int)
    frozen = _indices([s.frozen for s in scored], classes)
    adapted = _indices([s.adapted for s in scored], classes) if replayed.adapted is not None else None
    live = replayed.frozen if replayed.adapted is None else replayed.adapted
    played = [frame for frame in frames if frame.recorded]
    versions = [live[frame.key].version for frame in played if frame.key in live]
    figures = {
        "classes": list(classes),
        "objects": len(scored),
        "instances": sum(len(_ids(frame)) for frame in frames),
        "frames": len(played),
        "dropped_frames": sum(frame.key not in live for frame in played),
        "frozen": _accuracies(truth, frozen, [s.frozen for s in scored], len(classes)),
        "adapted": None if adapted is None else _accuracies(truth, adapted, [s.adapted for s in scored], len(classes)),
        "per_class": _per_class(truth, frozen, adapted, classes),
        "confusion": {
            "classes": list(classes),
            "matrix": metrics.confusion(truth, frozen if adapted is None else adapted, len(classes)).tolist(),
        },
        "latency_ms": _latency([live[frame.key].latency for frame in played if frame.key in live]),
        "adapter_versions": list(dict.fromkeys(versions)),
        "windows": _windows(scored, truth, frozen, adapted, live),
        "unknown": _unknown(frames, scored, live, classes, unknown_below),
        "intervals": _intervals(scored, truth, frozen, adapted, len(classes)),
    }
    return _without_nan(figures)


def windows(objects_per_frame: Sequence[int], least: int = WINDOW) -> list[slice]:
    """Cut a stream into runs of whole frames with at least `least` objects; the last may have fewer.

    Args:
        objects_per_frame: scored objects of each frame.

    Returns:
        Slices over frames that cover the stream; empty where there is no object at all.
    """
    cuts, start, held = [], 0, 0
    for i, count in enumerate(objects_per_frame):
        held += count
        if held >= least:
            cuts.append(slice(start, i + 1))
            start, held = i + 1, 0
    if held:
        cuts.append(slice(start, len(objects_per_frame)))
    return cuts


def _answer(given: FrameAnswer | None, frame: Frame, known: TrueObject) -> Answer | None:
    if given is None:
        return None
    if known.id not in given.objects and len(frame.objects) == 1 and set(given.objects) == {""}:
        return given.objects[""]  # a cloud that is one object has no id to match by, and needs none
    return given.objects.get(known.id)


def _indices(answers: Sequence[Answer | None], classes: Sequence[str]) -> np.ndarray:
    """(M,) class indices, NONE where no class of these was named."""
    place = {name: i for i, name in enumerate(classes)}
    return np.array([metrics.NONE if a is None else place.get(a.label, metrics.NONE) for a in answers], int)


def _ids(frame: Frame) -> frozenset[str]:
    """Of all objects a frame holds; where the cloud is one object, truth's id and the cloud's "" are the same one."""
    known = frozenset(o.id for o in frame.objects)
    return known if known and frame.segments == {""} else known | frame.segments


def _accuracies(
    truth: np.ndarray, predicted: np.ndarray, answers: Sequence[Answer | None], classes: int
) -> dict[str, float]:
    named = predicted != metrics.NONE
    scores = np.array([0.0 if a is None else a.score for a in answers])
    return {
        "accuracy": metrics.accuracy(truth, predicted),
        "macro_accuracy": metrics.macro_accuracy(truth, predicted, classes),
        "answered_accuracy": metrics.answered_accuracy(truth, predicted),
        "ece": metrics.expected_calibration_error((truth == predicted)[named], scores[named]),
    }


def _per_class(
    truth: np.ndarray, frozen: np.ndarray, adapted: np.ndarray | None, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    counts = metrics.class_counts(truth, len(classes))
    before = metrics.class_accuracies(truth, frozen, len(classes))
    after = None if adapted is None else metrics.class_accuracies(truth, adapted, len(classes))
    return {
        name: {"n": int(counts[i]), "frozen": float(before[i]), "adapted": None if after is None else float(after[i])}
        for i, name in enumerate(classes)
    }


def _latency(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("p50", "p95", "p99", "max"))
    p50, p95, p99, longest = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(longest)}


def _windows(
    scored: Sequence[Scored],
    truth: np.ndarray,
    frozen: np.ndarray,
    adapted: np.ndarray | None,
    live: Mapping[FrameKey, FrameAnswer],
) -> list[dict[str, Any]]:
    frames = list(dict.fromkeys(s.frame.key for s in scored))
    place = {key: i for i, key in enumerate(frames)}
    of_frame = np.array([place[s.frame.key] for s in scored], int)
    times = {s.frame.key: s.frame.time for s in scored}
    found = []
    for cut in windows(np.bincount(of_frame, minlength=len(frames)).tolist() if frames else []):
        inside = (of_frame >= cut.start) & (of_frame < cut.stop)
        versions = [live[key].version for key in frames[: cut.stop] if key in live]
        found.append(
            {
                "start": times[frames[cut.start]],
                "end": times[frames[cut.stop - 1]],
                "objects": int(inside.sum()),
                "frozen": metrics.accuracy(truth[inside], frozen[inside]),
                "adapted": None if adapted is None else metrics.accuracy(truth[inside], adapted[inside]),
                "adapter_version": versions[-1] if versions else 0,
            }
        )
    return found


def _unknown(
    frames: Sequence[Frame],
    scored: Sequence[Scored],
    live: Mapping[FrameKey, FrameAnswer],
    classes: Sequence[str],
    below: float,
) -> dict[str, float]:
    inside = [_answer(live.get(s.frame.key), s.frame, s.object) for s in scored]
    outside = [
        _answer(live.get(frame.key), frame, known)
        for frame in frames
        for known in frame.objects
        if known.name and known.name not in classes
    ]
    return {"below": below, "rate": _unknown_rate(inside, below), "rate_outside": _unknown_rate(outside, below)}


def _unknown_rate(answers: Sequence[Answer | None], below: float) -> float:
    given = [a for a in answers if a is not None]
    return sum(a.label == UNKNOWN or a.score < below for a in given) / len(given) if given else math.nan


def _intervals(
    scored: Sequence[Scored], truth: np.ndarray, frozen: np.ndarray, adapted: np.ndarray | None, classes: int
) -> dict[str, dict[str, list[float]] | None]:
    place = {key: i for i, key in enumerate(dict.fromkeys(s.frame.key for s in scored))}
    scene = np.array([place[s.frame.key] for s in scored], int)

    def of(predicted: np.ndarray) -> dict[str, list[float]]:
        found = metrics.bootstrap_intervals(truth, predicted, scene, classes)
        return {"accuracy": list(found.accuracy), "macro_accuracy": list(found.macro_accuracy)}

    return {"frozen": of(frozen), "adapted": None if adapted is None else of(adapted)}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null says that there was nothing to take a figure of."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
