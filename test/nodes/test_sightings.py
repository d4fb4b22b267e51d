"""Messages of one stamp find together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clipoint3d_ros.nodes.evidence import COLUMNS
from clipoint3d_ros.nodes.sightings import Gathering, Parts, sightings
from clipoint3d_ros.recognition.tracks import Tracker, TrackerConfig

NAMES = ("detections", "features", "evidence")


def message(sec, nanosec=0, of=""):
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), of=of)


@pytest.fixture
def gathering():
    return Gathering(NAMES, depth=3)


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_a_frame_is_whole_with_its_last_part_in_whatever_order_they_come(gathering, order):
    first, second, last = order
    assert gathering.add(first, message(1)) is None
    assert gathering.add(second, message(1)) is None
    parts = gathering.add(last, message(1, of="last"))
    assert getattr(parts, last).of == "last"
    assert parts.objects is None


def test_clouds_are_waited_for_where_they_are_a_part():
    gathering = Gathering((*NAMES, "objects"))
    assert [gathering.add(name, message(1)) for name in NAMES] == [None] * 3
    assert gathering.add("objects", message(1)).objects is not None


def test_parts_of_other_stamps_do_not_mix(gathering):
    for sec in (1, 2):
        assert gathering.add("detections", message(sec, of=sec)) is None
        assert gathering.add("features", message(sec)) is None
    assert gathering.add("evidence", message(2)).detections.of == 2
    assert gathering.add("evidence", message(1)).detections.of == 1
    assert gathering.missed == 0


def test_stamps_that_stay_incomplete_leave_and_are_counted(gathering):
    for sec in range(1, 6):
        gathering.add("detections", message(sec))
    assert gathering.missed == 2
    gathering.add("features", message(1))
    assert gathering.add("evidence", message(1)) is None, "stamp 1 was forgotten"


def test_a_bag_that_starts_again_does_not_find_the_parts_of_its_last_round(gathering):
    gathering.add("features", message(1, of="first round"))
    gathering.add("detections", message(60))
    gathering.add("detections", message(1, of="second round"))
    assert gathering.add("evidence", message(1, of="second round")) is None, "features of the first round were taken"
    parts = gathering.add("features", message(1, of="second round"))
    assert {getattr(parts, name).of for name in NAMES} == {"second round"}


def test_neighbours_out_of_order_are_no_jump(gathering):
    gathering.add("features", message(1, 800_000_000))
    gathering.add("detections", message(2))
    gathering.add("detections", message(1, 800_000_000))
    assert gathering.add("evidence", message(1, 800_000_000)) is not None


def rows_of(width):
    """An image without a row."""
    return SimpleNamespace(encoding="32FC1", is_bigendian=0, height=0, width=width, step=4 * width, data=b"")


def image_of(rows):
    rows = np.asarray(rows, "<f4")
    height, width = rows.shape
    return SimpleNamespace(
        encoding="32FC1", is_bigendian=0, height=height, width=width, step=4 * width, data=rows.tobytes()
    )


def answered(names, **evidence):
    """Parts of a frame whose objects were answered by these names."""
    place = SimpleNamespace(x=1.0, y=0.0, z=0.0)
    box = SimpleNamespace(center=SimpleNamespace(position=place), size=place)
    answers = [[SimpleNamespace(hypothesis=SimpleNamespace(class_id=name))] for name in names]
    detections = [SimpleNamespace(id=str(i), bbox=box, results=results) for i, results in enumerate(answers)]
    rows = np.zeros((len(names), len(COLUMNS)))
    for name, column in evidence.items():
        rows[:, COLUMNS.index(name)] = column
    frame = SimpleNamespace(header=message(1).header, detections=detections)
    return Parts(frame, image_of(np.ones((len(names), 8))), image_of(rows))


def knowing(text, frozen_text=None):
    """A companion that learns from the features of a network of these words."""
    return SimpleNamespace(text=text, frozen_text=text if frozen_text is None else frozen_text, scale=2.0)


def test_an_object_answered_unknown_is_seen_too_as_none_of_the_classes():
    """How many of the robot's objects are of any class is told from all of them."""
    parts = answered(("can", "unknown", "shoe"), familiarity=(0.9, 0.3, 0.9))
    seen = sightings(parts, ("mug", "can"), knowing(torch.ones(2, 8)), Tracker(), {0})
    assert [(s.id, s.label) for s in seen] == [("0", 1), ("1", -1)]
    assert seen[1].familiarity == pytest.approx(0.3)


def test_logits_are_told_to_be_the_frozen_model_s_while_its_features_are_learned_from_and_no_longer():
    text = torch.arange(16.0).reshape(2, 8)
    for companion, frozen in ((knowing(text), True), (knowing(text.clone(), text), False)):
        (seen,) = sightings(answered(("can",), version=3), ("mug", "can"), companion, Tracker(), {3})
        assert seen.frozen == frozen
        assert seen.logits.tolist() == [2 * 28.0, 2 * 92.0]


def test_tracks_are_of_the_frame_that_they_are_told_to_be_in():
    def tracks(tracker, *shifts):
        moves = [(np.eye(3), np.array([shift, 0.0, 0.0])) for shift in shifts]
        parts, companion = answered(("can",)), knowing(torch.ones(2, 8))
        return [sightings(parts, ("mug", "can"), companion, tracker, {0}, move)[0].track for move in moves]

    assert tracks(Tracker(), 0.0, 0.05, 0.5) == [1, 1, 2]
    assert tracks(Tracker(TrackerConfig(ids_last_s=60.0)), 0.0, 0.5, 5.0) == [1, 1, 1]


def test_jumps_back_are_told_of():
    jumps = []
    gathering = Gathering(NAMES, jumped=lambda: jumps.append(1))
    for sec in (60, 59, 61, 1, 2):
        gathering.add("detections", message(sec))
    assert len(jumps) == 2


@pytest.mark.parametrize("objects", [None, rows_of(7)])
def test_a_frame_without_objects_has_no_sightings_and_is_no_failure(objects):
    frame = SimpleNamespace(header=message(1).header, detections=[])
    parts = Parts(frame, rows_of(len(COLUMNS)), rows_of(len(COLUMNS)), objects)
    companion = SimpleNamespace(text=torch.zeros(2, 8), scale=1.0)
    assert np.size(sightings(parts, ("mug", "can"), companion, Tracker(), {0})) == 0
