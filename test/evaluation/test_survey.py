"""Frames of labelled bags before anything is replayed."""

import numpy as np
import pytest
from labelled import labelled_bag

from clipoint3d_ros.evaluation.answers import FrameKey, survey
from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, BagError, LabelledBag, TrueObject

XYZ, INSTANCE = np.ones((4, 3), np.float32), np.array([0, 1, 5, 6])


def rewrite(path, messages):
    """A bag of (cloud stamp or None, truth stamp or None) messages, in seconds."""
    from clipoint3d_ros.evaluation import bag_writer

    with BagWriter(path) as bag:
        for cloud, truth in messages:
            write, both = bag._writer.write, (bag._points, bag._truth)
            keep = [c for c, stamp in zip(both, (cloud, truth), strict=True) if stamp is not None]
            for connection in keep:
                stamp = (cloud if connection is bag._points else truth) * SECOND
                header = bag._header(stamp, "level")
                message = (
                    bag_writer._point_cloud(header, XYZ, INSTANCE)
                    if connection is bag._points
                    else bag_writer._detection_array(header, [TrueObject("5", "box")])
                )
                write(connection, stamp, bag_writer.typestore().serialize_cdr(message, connection.msgtype))
    return LabelledBag(path)


def test_frames_carry_truth_and_the_clouds_own_ids(tmp_path):
    bag = LabelledBag(labelled_bag(tmp_path / "bag", [{"2": "box", "3": ""}, {"2": "can"}]))
    first, second = survey([bag])
    assert first.key == FrameKey(0, 5 * SECOND)
    assert [(o.id, o.name) for o in first.objects] == [("2", "box"), ("3", "")]
    assert first.segments == {"2", "3"}
    assert (first.time, second.time) == (0, 0.5)


def test_bags_are_laid_end_to_end(tmp_path):
    bags = [LabelledBag(labelled_bag(tmp_path / n, [{"2": "box"}] * 3)) for n in "ab"]
    frames = list(survey(bags))
    assert [f.key.bag for f in frames] == [0, 0, 0, 1, 1, 1]
    assert [f.time for f in frames] == [0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_truth_without_a_cloud_and_clouds_without_truth_are_frames(tmp_path):
    frames = list(survey([rewrite(tmp_path / "bag", [(1, 1), (2, None), (None, 3)])]))
    assert [(f.time, len(f.objects), f.recorded) for f in frames] == [(0, 1, True), (1, 0, True), (2, 1, False)]


def test_truth_that_belongs_to_no_cloud_is_an_error_in_words(tmp_path):
    with pytest.raises(BagError, match=r"none of the 1 messages on /ground_truth carries the stamp .* 1\.000000000 s"):
        list(survey([rewrite(tmp_path / "bag", [(1, None), (None, 2)])]))


def test_two_clouds_of_one_stamp_are_an_error_in_words(tmp_path):
    with pytest.raises(BagError, match="two clouds on /segments carry the stamp"):
        list(survey([rewrite(tmp_path / "bag", [(1, 1), (1, None)])]))


def test_an_empty_bag_is_an_error_in_words(tmp_path):
    with pytest.raises(BagError, match="has no message on /segments"):
        list(survey([rewrite(tmp_path / "bag", [(None, 1)])]))
