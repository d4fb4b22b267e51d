"""Replays made by hand: a labelled bag, and what two models said of its objects."""

from labelled import labelled_bag

from clipoint3d_ros.evaluation.answers import Answer, FrameAnswer, Replayed, survey
from clipoint3d_ros.evaluation.bags import LabelledBag

CLASSES = ("box", "can", "mug")


def answered(frames, labels, version=None, latency=0.02):
    """{frame's key: answers}; `labels` of each frame {id: label or (label, score)}, None for a dropped frame."""
    given = {}
    for number, (frame, said) in enumerate(zip(frames, labels, strict=True)):
        if said is not None:
            pairs = {key: of if isinstance(of, tuple) else (of, 0.5) for key, of in said.items()}
            served = version[number] if version is not None else 0
            given[frame.key] = FrameAnswer({key: Answer(*pair) for key, pair in pairs.items()}, latency, served)
    return given


def replay_by_hand(path, truth, frozen, adapted=None, versions=None, classes=CLASSES):
    """(bags, frames, replayed) of one bag of frames {id: name}."""
    bags = [LabelledBag(labelled_bag(path, truth))]
    frames = list(survey(bags))
    live = None if adapted is None else answered(frames, adapted, versions)
    return bags, frames, Replayed(tuple(classes), answered(frames, frozen), live)
