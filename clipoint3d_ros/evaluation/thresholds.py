"""From which score on each class's answers can be trusted: the lowest threshold that reaches a wanted precision.

Precision of a class at a threshold is the share of right ones among the answers that name it with at least that score,
objects of other classes included; recall the share of its objects that are named so. Both follow from the answers of a
labelled bag, given with `unknown` off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Frame, FrameKey, Replayed
from clipoint3d_ros.evaluation.console import aligned, percent
from clipoint3d_ros.evaluation.outcomes import answer_to

_DIGITS = 3  # of a threshold, where as many tell the answers on its two sides apart


class Named(NamedTuple):
    """All answers to objects whose name is known.

    named: (M,) index of the class each was called, `metrics.NONE` where none was. score: (M,) of it. truth: (M,) index
    of its class, `metrics.NONE` for objects of other classes. late: (M,) bool, in the second half of its recording.
    """

    named: np.ndarray
    score: np.ndarray
    truth: np.ndarray
    late: np.ndarray

    def at(self, chosen: np.ndarray) -> Named:
        """Those that `chosen` (M,) marks."""
        return Named(*(part[chosen] for part in self))


@dataclass(frozen=True)
class Wanted:
    """What a threshold is to reach.

    precision: of the answers above it. least: answers above it that this must rest on. surely: whether the lower end
    of its 95 % interval must reach the precision, instead of the share itself.
    """

    precision: float = 0.95
    least: int = 20
    surely: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.precision < 1:
            raise ValueError(f"the precision wanted must lie between 0 and 1, but is {self.precision:g}")
        if self.least < 1:
            raise ValueError(f"a precision must rest on at least 1 answer, but is to rest on {self.least}")


@dataclass(frozen=True)
class Proposal:
    """One class.

    objects: of it. answers: that named it, right or wrong. threshold: proposed, None where there is none. kept: answers
    at or above it. precision, recall: (before, after), None over nothing. interval: of the precision after.
    why: there is no threshold, else "".
    """

    name: str
    objects: int
    answers: int
    threshold: float | None
    kept: int
    precision: tuple[float | None, float | None]
    recall: tuple[float | None, float | None]
    interval: tuple[float, float] | None
    why: str = ""


def named(frames: Sequence[Frame], replayed: Replayed) -> Named:
    """What the model that served said of every object with a name."""
    place = {name: i for i, name in enumerate(replayed.classes)}
    late, rows = _second_halves(frames), []
    for frame in frames:
        for known in frame.objects:
            answer = answer_to(replayed.served.get(frame.key), frame, known)
            if known.name:
                called = metrics.NONE if answer is None else place.get(answer.label, metrics.NONE)
                score = 0.0 if answer is None else answer.score
                rows.append((called, score, place.get(known.name, metrics.NONE), frame.key in late))
    columns = np.array(rows, float).reshape(-1, 4).T
    return Named(columns[0].astype(int), columns[1], columns[2].astype(int), columns[3].astype(bool))


def _second_halves(frames: Sequence[Frame]) -> set[FrameKey]:
    """The later half of each bag's frames, by stamp: the next frame shows what this one does, a later half may not."""
    stamps: dict[int, list[int]] = {}
    for frame in frames:
        stamps.setdefault(frame.key.bag, []).append(frame.key.stamp)
    return {FrameKey(bag, stamp) for bag, own in stamps.items() for stamp in sorted(own)[(len(own) + 1) // 2 :]}


def propose(found: Named, classes: Sequence[str], wanted: Wanted) -> list[Proposal]:
    """One proposal a class."""
    return [_proposal(found, index, name, wanted) for index, name in enumerate(classes)]


def together(found: Named, thresholds: np.ndarray) -> tuple[float | None, float | None]:
    """Precision of all answers that reach their class's threshold (C,), and the share of the objects of any of the
    classes that are named rightly by them."""
    kept = (found.named != metrics.NONE) & (found.score >= thresholds[found.named])
    right = int((kept & (found.named == found.truth)).sum())
    return _share(right, int(kept.sum())), _share(right, int((found.truth != metrics.NONE).sum()))


def held_out(found: Named, classes: Sequence[str], wanted: Wanted) -> tuple[float | None, float | None]:
    """What `together` finds when the recordings' first halves are judged by thresholds from their second ones, and the
    other way round: what to expect of scenes that no threshold was chosen on."""
    limits = np.zeros(len(found.named))
    for half in (found.late, ~found.late):
        limits[half] = as_array(propose(found.at(~half), classes, wanted))[found.named[half]]
    kept = (found.named != metrics.NONE) & (found.score >= limits)
    right = int((kept & (found.named == found.truth)).sum())
    return _share(right, int(kept.sum())), _share(right, int((found.truth != metrics.NONE).sum()))


def as_array(proposals: Sequence[Proposal]) -> np.ndarray:
    """(C,) thresholds, 0 where none is proposed."""
    return np.array([one.threshold or 0.0 for one in proposals])


def figures(found: Named, classes: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """Everything, ready for JSON."""
    proposals = propose(found, classes, wanted)
    before, after = together(found, np.zeros(len(classes))), together(found, as_array(proposals))
    other = held_out(found, classes, wanted)
    return {
        "wanted": vars(wanted),
        "classes": [vars(one) | {"interval": list(one.interval) if one.interval else None} for one in proposals],
        "all": {"precision": [before[0], after[0]], "recall": [before[1], after[1]]},
        "held_out": {"precision": other[0], "recall": other[1]},
    }


def summary(result: Mapping[str, Any]) -> str:
    """The figures as text for a terminal."""
    rows = [["class", "objects", "answers", "threshold", "precision", "→", "95 %", "on", "recall", "→"]]
    for one in result["classes"]:
        counts = [str(one["objects"]), str(one["answers"])]
        threshold = "-" if one["threshold"] is None else f"{one['threshold']:g}"
        span = " to ".join(percent(end) for end in one["interval"]) if one["interval"] else ""
        precision, recall = (list(map(percent, one[key])) for key in ("precision", "recall"))
        if one["threshold"] is None:
            span, kept, precision[1], recall[1] = "", "", "", ""
        else:
            kept = str(one["kept"])
        rows.append([one["name"], *counts, threshold, *precision, span, kept, *recall])
    all_of = result["all"]
    rows.append(
        [
            "all",
            *("" for _ in range(3)),
            *map(percent, all_of["precision"]),
            "",
            "",
            *map(percent, all_of["recall"]),
        ]
    )
    lines = [aligned(rows), ""]
    lines += [f"{one['name']}: no threshold, {one['why']}" for one in result["classes"] if one["why"]]
    other = (f"{key} {percent(result['held_out'][key])}" for key in ("precision", "recall"))
    lines.append(f"judged by thresholds from the other half of each recording: {', '.join(other)}")
    return "\n".join(lines)


def parameter_file(result: Mapping[str, Any], heading: str) -> str:
    """A parameter file for the perception node.

    Args:
        heading: one line on where it comes from.
    """
    words = [f'"{one["name"]}={one["threshold"]:g}"' for one in result["classes"] if one["threshold"] is not None]
    left = [f"# {one['name']}: no threshold, {one['why']}" for one in result["classes"] if one["why"]]
    lines = [f"# {heading}", *left, "/**:", "  ros__parameters:"]
    lines.append(f"    unknown_below_class: [{', '.join(words)}]" if words else '    unknown_below_class: ""')
    return "\n".join(lines) + "\n"


def _proposal(found: Named, index: int, name: str, wanted: Wanted) -> Proposal:
    mine = found.named == index
    order = np.argsort(-found.score[mine], kind="stable")
    score, right = found.score[mine][order], (found.truth[mine] == index)[order]
    objects, answers = int((found.truth == index).sum()), len(score)
    before = _share(int(right.sum()), answers), _share(int(right.sum()), objects)
    kept = _kept(score, right, wanted)
    if kept is None:
        return Proposal(
            name,
            objects,
            answers,
            None,
            answers,
            (before[0], before[0]),
            (before[1], before[1]),
            metrics.wilson(int(right.sum()), answers) if answers else None,
            _why(score, right, wanted),
        )
    rightly = int(right[:kept].sum())
    return Proposal(
        name,
        objects,
        answers,
        0.0 if kept == answers else _between(score[kept], score[kept - 1]),
        kept,
        (before[0], _share(rightly, kept)),
        (before[1], _share(rightly, objects)),
        metrics.wilson(rightly, kept),
    )


def _kept(score: np.ndarray, right: np.ndarray, wanted: Wanted) -> int | None:
    """How many answers the lowest threshold keeps that reaches what is wanted; None where none does.

    Args:
        score, right: (A,) of one class's answers, the highest score first.
    """
    for kept in _cuts(score, wanted.least)[::-1]:
        if _reached(int(right[:kept].sum()), kept, wanted) >= wanted.precision:
            return kept
    return None


def _cuts(score: np.ndarray, least: int) -> list[int]:
    """How many answers, at least so many, a threshold can keep: those of one score stay together."""
    count = len(score)
    return [kept for kept in range(least, count + 1) if kept == count or score[kept] < score[kept - 1]]


def _reached(right: int, kept: int, wanted: Wanted) -> float:
    return metrics.wilson(right, kept)[0] if wanted.surely else right / kept


def _why(score: np.ndarray, right: np.ndarray, wanted: Wanted) -> str:
    if len(score) < wanted.least:
        few = "1 answer is" if len(score) == 1 else f"{len(score)} answers are"
        return f"{few} too few to say, {wanted.least} are asked for"
    reached = {kept: _reached(int(right[:kept].sum()), kept, wanted) for kept in _cuts(score, wanted.least)}
    best = max(reached, key=lambda kept: reached[kept])
    sure = " surely" if wanted.surely else ""
    return (
        f"{percent(wanted.precision)} is not reached{sure} on {wanted.least} answers: "
        f"{percent(reached[best])} at best, from {score[best - 1]:.3f} on"
    )


def _between(below: float, above: float) -> float:
    """A number above `below` and not above `above`, half-way, as short as may be."""
    middle = (below + above) / 2
    for digits in range(_DIGITS, 17):
        short = round(float(middle), digits)
        if below < short <= above:
            return short
    return float(above)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
