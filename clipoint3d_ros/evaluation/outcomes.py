"""What became of every object of a replay: named rightly or wrongly, by which version of the adapter, or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameAnswer, Replayed
from clipoint3d_ros.evaluation.bags import TrueObject
from clipoint3d_ros.recognition.recognition import UNKNOWN


class Scored(NamedTuple):
    """One scored truth object with what was said of it (None: nothing)."""

    frame: Frame
    object: TrueObject
    frozen: Answer | None
    adapted: Answer | None


class Version(NamedTuple):
    """From here on another version answered.

    start: seconds into the stream, of the first frame it answered. objects: scored before that frame.
    """

    start: float
    objects: int
    version: int


@dataclass(frozen=True)
class Verdicts:
    """One model's answers to the M scored objects.

    named: (M,) class indices, `metrics.NONE` where no class was named. score: (M,) in [0, 1], 0 without an answer.
    """

    named: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Outcomes:
    """All M scored objects in the order of the stream.

    classes: the C names answers choose from. scored: who they are. truth: (M,) class indices. frame: (M,) consecutive
    numbers, equal for the objects of one frame. adapted: None where no adapter was asked for.
    """

    classes: tuple[str, ...]
    scored: tuple[Scored, ...]
    truth: np.ndarray
    frame: np.ndarray
    frozen: Verdicts
    adapted: Verdicts | None

    @property
    def served(self) -> Verdicts:
        """Of the model that answered on the robot."""
        return self.frozen if self.adapted is None else self.adapted

    def calibration(self, of: Verdicts) -> metrics.Calibration:
        """The objects for which a class was named."""
        named = of.named != metrics.NONE
        return metrics.Calibration((of.named == self.truth)[named], of.score[named], self.frame[named])

    def right(self, model: str) -> np.ndarray:
        """(M,) bool, whether "frozen" or "adapted" named the object rightly."""
        return getattr(self, model).named == self.truth


def outcomes(frames: Sequence[Frame], replayed: Replayed) -> Outcomes:
    """Truth and answers as arrays."""
    scored = tuple(scored_objects(frames, replayed))
    place = {key: i for i, key in enumerate(dict.fromkeys(s.frame.key for s in scored))}
    return Outcomes(
        classes=tuple(replayed.classes),
        scored=scored,
        truth=np.array([replayed.classes.index(s.object.name) for s in scored], int),
        frame=np.array([place[s.frame.key] for s in scored], int),
        frozen=_verdicts([s.frozen for s in scored], replayed.classes),
        adapted=None if replayed.adapted is None else _verdicts([s.adapted for s in scored], replayed.classes),
    )


def scored_objects(frames: Sequence[Frame], replayed: Replayed) -> list[Scored]:
    """Every truth object whose name is among the classes, with the answers of its stamp and id."""
    return [
        Scored(
            frame,
            known,
            answer_to(replayed.frozen.get(frame.key), frame, known),
            answer_to((replayed.adapted or {}).get(frame.key), frame, known),
        )
        for frame in frames
        for known in frame.objects
        if known.name in replayed.classes
    ]


def answer_to(given: FrameAnswer | None, frame: Frame, known: TrueObject) -> Answer | None:
    """What a frame's answer says of one of its objects, None where it says nothing."""
    if given is None:
        return None
    if known.id not in given.objects and len(frame.objects) == 1 and set(given.objects) == {""}:
        return given.objects[""]  # a cloud that is one object has no id to match by, and needs none
    return given.objects.get(known.id)


def ids(frame: Frame) -> frozenset[str]:
    """Of all objects a frame holds; where the cloud is one object, truth's id and the cloud's "" are the same one."""
    known = frozenset(o.id for o in frame.objects)
    return known if known and frame.segments == {""} else known | frame.segments


def timeline(frames: Sequence[Frame], replayed: Replayed) -> list[Version]:
    """The versions that answered, each from where it took over; empty where nothing was answered."""
    found: list[Version] = []
    objects = 0
    for frame in frames:
        answer = replayed.served.get(frame.key)
        if answer is not None and (not found or found[-1].version != answer.version):
            found.append(Version(frame.time, objects, answer.version))
        objects += sum(known.name in replayed.classes for known in frame.objects)
    return found


def missed(frames: Sequence[Frame], replayed: Replayed) -> dict[str, int]:
    """Scored objects for which the model that served named no class, by why.

    no_cloud: the bag has no cloud of their stamp. dropped: their frame was never answered. no_segment: the answer does
    not list their id. unknown: called so.
    """
    counts = dict.fromkeys(("no_cloud", "dropped", "no_segment", "unknown"), 0)
    for one in scored_objects(frames, replayed):
        given = replayed.served.get(one.frame.key)
        answer = answer_to(given, one.frame, one.object)
        if given is None:
            counts["dropped" if one.frame.recorded else "no_cloud"] += 1
        elif answer is None:
            counts["no_segment"] += 1
        elif answer.label == UNKNOWN:
            counts["unknown"] += 1
    return counts


def unscored(frames: Sequence[Frame], classes: Sequence[str]) -> dict[str, int]:
    """Objects that no accuracy counts, by why.

    other_classes: truth has a name for them that is none of the classes. nameless: truth lists them without a name.
    no_truth: only the cloud shows them.
    """
    names = [known.name for frame in frames for known in frame.objects]
    return {
        "other_classes": sum(bool(name) and name not in classes for name in names),
        "nameless": sum(not name for name in names),
        "no_truth": sum(len(ids(frame)) - len({known.id for known in frame.objects}) for frame in frames),
    }


def _verdicts(answers: Sequence[Answer | None], classes: Sequence[str]) -> Verdicts:
    place = {name: i for i, name in enumerate(classes)}
    return Verdicts(
        named=np.array([metrics.NONE if a is None else place.get(a.label, metrics.NONE) for a in answers], int),
        score=np.array([0.0 if a is None else a.score for a in answers], float),
    )
