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
| `intervals` | beside the contract: 95 % bootstrap over frames of `accuracy`, `macro_accuracy` and `ece` of `frozen` and `adapted`; nulls where all scored objects are of one frame |
| `adapter_timeline` | beside the contract: `start` in seconds of the stream, scored `objects` before it, `version` that answered from there on |
| `gain` | beside the contract, null without an adapter: `accuracy`, `macro_accuracy` and `ece`, adapted less frozen; their paired 95 % `intervals` over frames; objects `mended` (frozen wrong, adapted right) and `broken` (the other way) |
| `missed` | beside the contract: scored objects without a named class, by why: `no_cloud`, `dropped` frame, `no_segment` of their id in the answer, called `unknown` |
| `unscored` | beside the contract: objects of `other_classes`, `nameless` in the truth, or with `no_truth`; with `objects` these are all `instances` |
| `bags` | of `evaluate`, see `bag_rows`: each recording by itself, and why those that failed did |

Accuracies are fractions of 1. An object without an answer counts as wrong. A figure over nothing is null.
"""  # noqa: E501  (table)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameAnswer, FrameKey, Replayed
from clipoint3d_ros.evaluation.outcomes import (
    Outcomes,
    Verdicts,
    answer_to,
    ids,
    missed,
    outcomes,
    timeline,
    unscored,
)
from clipoint3d_ros.evaluation.streams.metrics import gains
from clipoint3d_ros.recognition.recognition import UNKNOWN

WINDOW = 50  # scored objects, at least


def score(frames: Sequence[Frame], replayed: Replayed, unknown_below: float = 0.0) -> dict[str, Any]:
    """All figures, ready for JSON (the module's table says what each means).

    Args:
        frames: of all bags, in the order of the stream.
        replayed: their answers; `unknown` must have been off, so that every object was given a class.
        unknown_below: the score under which an answer would have been "unknown".
    """
    classes, found, live = replayed.classes, outcomes(frames, replayed), replayed.served
    played = [frame for frame in frames if frame.recorded]
    versions = timeline(frames, replayed)
    figures = {
        "classes": list(classes),
        "objects": len(found.truth),
        "instances": sum(len(ids(frame)) for frame in frames),
        "frames": len(played),
        "dropped_frames": sum(frame.key not in live for frame in played),
        "frozen": _accuracies(found, found.frozen),
        "adapted": None if found.adapted is None else _accuracies(found, found.adapted),
        "per_class": _per_class(found),
        "confusion": {
            "classes": list(classes),
            "matrix": metrics.confusion(found.truth, found.served.named, len(classes)).tolist(),
        },
        "latency_ms": _latency([live[frame.key].latency for frame in played if frame.key in live]),
        "adapter_versions": list(dict.fromkeys(version.version for version in versions)),
        "windows": _windows(found, live),
        "unknown": _unknown(frames, found, live, unknown_below),
        "intervals": {
            "frozen": _intervals(found, found.frozen),
            "adapted": None if found.adapted is None else _intervals(found, found.adapted),
        },
        "adapter_timeline": [version._asdict() for version in versions],
        "gain": None if found.adapted is None else _gain(found, found.adapted),
        "missed": missed(frames, replayed),
        "unscored": unscored(frames, classes),
    }
    return _without_nan(figures)


def bag_rows(
    frames: Sequence[Frame], replayed: Replayed, bags: Sequence[Path], failed: Mapping[Path, str] | None = None
) -> list[dict[str, Any]]:
    """Every bag by itself: `bag`, `frames`, `dropped_frames`, `objects`, `frozen` and `adapted` accuracies, and
    `failed`: null, or why nothing of it is in the figures.

    Args:
        bags: paths, by the number in the frames' keys. failed: {path: sentence}; they come last.
    """
    rows: list[dict[str, Any]] = []
    of_bag: list[list[Frame]] = [[] for _ in bags]
    for frame in frames:
        of_bag[frame.key.bag].append(frame)
    for path, own in zip(bags, of_bag, strict=True):
        found = outcomes(own, replayed)
        rows.append(
            {
                "bag": str(path),
                "frames": sum(frame.recorded for frame in own),
                "dropped_frames": sum(frame.recorded and frame.key not in replayed.served for frame in own),
                "objects": len(found.truth),
                "frozen": _accuracies(found, found.frozen),
                "adapted": None if found.adapted is None else _accuracies(found, found.adapted),
                "failed": None,
            }
        )
    empty = dict.fromkeys(rows[0] if rows else ("bag", "failed"))
    rows += [empty | {"bag": str(path), "failed": why} for path, why in (failed or {}).items()]
    return _without_nan(rows)


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


def _accuracies(found: Outcomes, of: Verdicts) -> dict[str, float]:
    return {
        "accuracy": metrics.accuracy(found.truth, of.named),
        "macro_accuracy": metrics.macro_accuracy(found.truth, of.named, len(found.classes)),
        "answered_accuracy": metrics.answered_accuracy(found.truth, of.named),
        "ece": found.calibration(of).error,
    }


def _per_class(found: Outcomes) -> dict[str, dict[str, Any]]:
    def accuracies(of: Verdicts | None) -> list[Any]:
        if of is None:
            return [None] * len(found.classes)
        return metrics.class_accuracies(found.truth, of.named, len(found.classes)).tolist()

    counts = metrics.class_counts(found.truth, len(found.classes)).tolist()
    rows = zip(found.classes, counts, accuracies(found.frozen), accuracies(found.adapted), strict=True)
    return {name: {"n": count, "frozen": before, "adapted": after} for name, count, before, after in rows}


def _latency(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("p50", "p95", "p99", "max"))
    p50, p95, p99, longest = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(longest)}


def _windows(found: Outcomes, live: Mapping[FrameKey, FrameAnswer]) -> list[dict[str, Any]]:
    frames = list({s.frame.key: s.frame for s in found.scored}.values())
    cuts = []
    for cut in windows(np.bincount(found.frame, minlength=len(frames)).tolist() if frames else []):
        inside = (found.frame >= cut.start) & (found.frame < cut.stop)
        versions = [live[frame.key].version for frame in frames[: cut.stop] if frame.key in live]
        cuts.append(
            {
                "start": frames[cut.start].time,
                "end": frames[cut.stop - 1].time,
                "objects": int(inside.sum()),
                "frozen": float(found.right("frozen")[inside].mean()),
                "adapted": None if found.adapted is None else float(found.right("adapted")[inside].mean()),
                "adapter_version": versions[-1] if versions else 0,
            }
        )
    return cuts


def _unknown(
    frames: Sequence[Frame], found: Outcomes, live: Mapping[FrameKey, FrameAnswer], below: float
) -> dict[str, float]:
    inside = [answer_to(live.get(s.frame.key), s.frame, s.object) for s in found.scored]
    outside = [
        answer_to(live.get(frame.key), frame, known)
        for frame in frames
        for known in frame.objects
        if known.name and known.name not in found.classes
    ]
    return {"below": below, "rate": _unknown_rate(inside, below), "rate_outside": _unknown_rate(outside, below)}


def _unknown_rate(answers: Sequence[Answer | None], below: float) -> float:
    given = [a for a in answers if a is not None]
    return sum(a.label == UNKNOWN or a.score < below for a in given) / len(given) if given else math.nan


def _intervals(found: Outcomes, of: Verdicts) -> dict[str, list[float]]:
    if _one_frame(found):
        return {key: [math.nan, math.nan] for key in ("accuracy", "macro_accuracy", "ece")}
    accuracies = metrics.bootstrap_intervals(found.truth, of.named, found.frame, len(found.classes))
    return {
        "accuracy": list(accuracies.accuracy),
        "macro_accuracy": list(accuracies.macro_accuracy),
        "ece": list(metrics.calibration_interval(found.calibration(of))),
    }


def _gain(found: Outcomes, adapted: Verdicts) -> dict[str, Any]:
    before, after = found.right("frozen"), found.right("adapted")
    gained = gains([found.truth], [after], [before], [found.frame])
    claims, less = found.calibration(adapted), found.calibration(found.frozen)
    intervals = {
        "accuracy": gained.micro_ci95,
        "macro_accuracy": gained.macro_ci95,
        "ece": metrics.calibration_interval(claims, less),
    }
    return {
        "accuracy": gained.micro,
        "macro_accuracy": gained.macro,
        "ece": claims.error - less.error,
        "intervals": {key: [math.nan] * 2 if _one_frame(found) else list(of) for key, of in intervals.items()},
        "mended": int((after & ~before).sum()),
        "broken": int((before & ~after).sum()),
    }


def _one_frame(found: Outcomes) -> bool:
    """Whether there is nothing to draw frames from: the interval would have no width, as if all were certain."""
    return len(np.unique(found.frame)) < 2


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null says that there was nothing to take a figure of."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
