"""What became of every object: the versions over time, and why objects were missed or not scored."""

import pytest
from replays import CLASSES, answered

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Frame, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import TrueObject
from clipoint3d_ros.evaluation.outcomes import Version, ids, missed, outcomes, timeline, unscored


def frame(number, names, segments=(), recorded=True):
    objects = tuple(TrueObject(i, name) for i, name in names.items())
    return Frame(FrameKey(0, number), number / 2, objects, frozenset(segments), recorded)


def test_a_version_begins_with_the_first_frame_it_answered():
    frames = [frame(i, {"2": "box", "3": "can", "4": "bottle"}) for i in range(5)]
    said = [{"2": "box"}, {"2": "box"}, None, {"2": "box"}, {"2": "box"}]
    replayed = Replayed(CLASSES, {}, answered(frames, said, version=[0, 1, 1, 3, 0]))
    assert timeline(frames, replayed) == [Version(0, 0, 0), Version(0.5, 2, 1), Version(1.5, 6, 3), Version(2, 8, 0)]


def test_without_an_adapter_the_frozen_model_answers_throughout():
    frames = [frame(i, {"2": "box"}) for i in range(3)]
    assert timeline(frames, Replayed(CLASSES, answered(frames, [{"2": "box"}] * 3))) == [Version(0, 0, 0)]
    assert timeline(frames, Replayed(CLASSES, {})) == [], "nobody answered"


def test_every_miss_has_its_reason():
    frames = [
        frame(0, {"2": "box", "3": "can", "4": "mug", "5": "bottle"}),
        frame(1, {"2": "box", "3": "can"}),
        frame(2, {"2": "box"}, recorded=False),
    ]
    replayed = Replayed(CLASSES, answered(frames, [{"2": "can", "3": "unknown"}, None, None]))
    assert missed(frames, replayed) == {"no_cloud": 1, "dropped": 2, "no_segment": 1, "unknown": 1}
    found = outcomes(frames, replayed)
    assert (found.frozen.named == metrics.NONE).sum() == 5, "as many as the reasons together"
    assert found.frame.tolist() == [0, 0, 0, 1, 1, 2]


def test_the_misses_are_those_of_the_model_that_served():
    frames = [frame(0, {"2": "box"})]
    silent, speaking = answered(frames, [{}]), answered(frames, [{"2": "box"}])
    assert sum(missed(frames, Replayed(CLASSES, silent, speaking)).values()) == 0
    assert sum(missed(frames, Replayed(CLASSES, speaking, silent)).values()) == 1


@pytest.mark.parametrize(
    "frames",
    [
        [frame(0, {"2": "box", "3": "", "4": "bottle"}, ["2", "3", "4", "5", "6"]), frame(1, {"9": "can"}, ["8"])],
        [frame(0, {"7": "mug"}, [""]), frame(1, {}, [""])],
        [],
    ],
    ids=["labelled", "one object a cloud", "nothing"],
)
def test_scored_and_unscored_objects_are_all_there_are(frames):
    left = unscored(frames, CLASSES)
    scored = len(outcomes(frames, Replayed(CLASSES, {})).truth)
    assert scored + sum(left.values()) == sum(len(ids(f)) for f in frames)


def test_unscored_objects_are_told_apart():
    frames = [frame(0, {"2": "box", "3": "", "4": "bottle"}, ["2", "3", "4", "5", "6"])]
    assert unscored(frames, CLASSES) == {"other_classes": 1, "nameless": 1, "no_truth": 2}
