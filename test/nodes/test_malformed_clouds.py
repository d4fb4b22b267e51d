"""Clouds that contradict themselves: one sentence each, never an answer."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from clouds_made import FLAT, changed_cloud, image_scene, scene

from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.nodes.layout import MAX_POINTS, Field, Malformed, check_layout
from clipoint3d_ros.nodes.pointcloud import SegmentConfig, read_segments, write_cloud

FLOAT, UINT = 7, 6
X, Y, Z = Field("x", 0, FLOAT, 1), Field("y", 4, FLOAT, 1), Field("z", 8, FLOAT, 1)
LABEL = Field("instance_id", 12, UINT, 1)


def good():
    return scene()


def with_fields(*fields, **changes):
    return changed_cloud(good(), fields=list(fields), **changes)


def claiming(height, width):
    cloud = good()
    return changed_cloud(cloud, height=height, width=width, row_step=width * cloud.point_step)


def every_point_an_object():
    columns = dict(zip("xyz", np.ones((3, 4000), np.float32), strict=True))
    return write_cloud(columns | {"label": np.arange(4000.0)})


def cut(count):
    return changed_cloud(good(), data=good().data[:-count])


MALFORMED = {
    "no fields at all": ("fields", lambda: with_fields()),
    "no x": ("fields", lambda: with_fields(Y, Z, LABEL)),
    "no y": ("fields", lambda: with_fields(X, Z, LABEL)),
    "no z": ("fields", lambda: with_fields(X, Y, LABEL)),
    "X in capitals": ("fields", lambda: with_fields(replace(X, name="X"), Y, Z, LABEL)),
    "two x": ("fields", lambda: with_fields(X, replace(X, offset=12), Y, Z)),
    "two labels": ("fields", lambda: with_fields(X, Y, Z, LABEL, LABEL, point_step=16)),
    "three numbers in x": ("fields", lambda: with_fields(replace(X, count=3), LABEL, Y, Z)),
    "no number in x": ("fields", lambda: with_fields(replace(X, count=0), Y, Z, LABEL)),
    "two numbers in the label": ("fields", lambda: with_fields(X, Y, Z, replace(LABEL, datatype=4, count=2))),
    "x over y": ("fields", lambda: with_fields(X, replace(Y, offset=2), Z, LABEL)),
    "label over z": ("fields", lambda: with_fields(X, Y, Z, replace(LABEL, offset=9))),
    "an unread field over z": ("fields", lambda: with_fields(X, Y, Z, Field("rgb", 8, FLOAT, 1), LABEL)),
    "negative offset": ("fields", lambda: with_fields(replace(X, offset=-4), Y, Z, LABEL)),
    "offset that is no number": ("fields", lambda: with_fields(replace(X, offset="0a"), Y, Z, LABEL)),
    "datatype 0 for z": ("datatype", lambda: with_fields(X, Y, replace(Z, datatype=0), LABEL)),
    "datatype 9 for x": ("datatype", lambda: with_fields(replace(X, datatype=9), Y, Z, LABEL)),
    "datatype 200 for the label": ("datatype", lambda: with_fields(X, Y, Z, replace(LABEL, datatype=200))),
    "label past the point": ("stride", lambda: with_fields(X, Y, Z, replace(LABEL, offset=14))),
    "unread field past the point": ("stride", lambda: with_fields(X, Y, Z, LABEL, Field("n", 8, FLOAT, 3))),
    "doubles in a point for floats": ("stride", lambda: with_fields(X, Y, replace(Z, datatype=8, offset=12), LABEL)),
    "point_step 0": ("stride", lambda: changed_cloud(good(), point_step=0)),
    "point_step 12": ("stride", lambda: changed_cloud(good(), point_step=12)),
    "point_step longer than the row allows": ("stride", lambda: changed_cloud(good(), point_step=32)),
    "point_step not whole": ("stride", lambda: changed_cloud(good(), point_step=16.5)),
    "row_step 0": ("stride", lambda: changed_cloud(good(), row_step=0)),
    "row_step one short": ("stride", lambda: changed_cloud(good(), row_step=good().row_step - 1)),
    "row_step none": ("stride", lambda: changed_cloud(good(), row_step=None)),
    "data without points, width": ("length", lambda: claiming(1, 0)),
    "data without points, height": ("length", lambda: claiming(0, 1700)),
    "negative height": ("size", lambda: changed_cloud(good(), height=-1)),
    "more points than any sensor": ("size", lambda: claiming(1, MAX_POINTS + 1)),
    "four billion squared": ("size", lambda: claiming(2**32 - 1, 2**32 - 1)),
    "one byte short": ("length", lambda: cut(1)),
    "one point short": ("length", lambda: cut(16)),
    "no data": ("length", lambda: changed_cloud(good(), data=b"")),
    "one byte too many": ("length", lambda: changed_cloud(good(), data=bytes(good().data) + b"\0")),
    "rows that the data has not": ("length", lambda: changed_cloud(good(), height=2)),
    "width of another cloud": ("length", lambda: claiming(1, 12)),
    "numbers that are no bytes": ("length", lambda: changed_cloud(good(), data=[999] * len(good().data))),
    "words for bytes": ("length", lambda: changed_cloud(good(), data="x" * len(good().data))),
    "image without labels": ("label", lambda: changed_cloud(image_scene(4, 425), fields=[X, Y, Z])),
    "every point an object": ("segments", every_point_an_object),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_cloud_is_one_sentence_with_a_reason(name):
    reason, make = MALFORMED[name]
    with pytest.raises(CloudError) as caught:
        read_segments(make())
    sentence = str(caught.value)
    assert isinstance(caught.value, Malformed)
    assert caught.value.reason == reason, f"{name}: counted as {caught.value.reason}: {sentence}"
    assert len(sentence) > 20, f"{name}: '{sentence}' is no sentence"
    assert "\n" not in sentence, f"{name}: '{sentence}' is more than one line"


def test_there_are_thirty_of_them():
    assert len(MALFORMED) >= 30


def test_an_asked_for_label_field_that_is_missing_is_named_with_what_is_there():
    with pytest.raises(Malformed, match=r"'segment' not found .* it has x, y, z, instance_id; set 'instance_field'"):
        read_segments(good(), SegmentConfig(instance_field=("segment",)))


def test_labels_expected_but_absent():
    cloud = write_cloud(dict(zip("xyz", FLAT.T, strict=True)))
    with pytest.raises(Malformed, match="publish one cloud per object"):
        read_segments(cloud, SegmentConfig(input_form="labelled"))


def test_boxes_expected_but_absent():
    with pytest.raises(Malformed, match="no boxes came"):
        read_segments(good(), SegmentConfig(input_form="boxes"))


def test_a_form_nobody_knows():
    with pytest.raises(Malformed, match="auto, labelled, object, boxes"):
        read_segments(good(), SegmentConfig(input_form="mesh"))


@pytest.mark.parametrize(
    "field", [Field("rgba", 12, 6, 1), Field("time", 12, 11, 1), Field("pad", 12, 2, 0), Field("rgb", 12, 7, 1)]
)
def test_a_strange_field_that_nobody_reads_is_nobodys_trouble(field):
    fields = [X, Y, Z, Field("rgb_", 12, 7, 1), field]
    cloud = changed_cloud(good(), fields=fields)
    assert len(read_segments(cloud, SegmentConfig(input_form="object"))) == 1


def test_any_object_with_the_attributes_will_do():
    cloud = SimpleNamespace(**vars(good()))
    cloud.data = np.frombuffer(cloud.data, np.uint8)
    assert [segment.id for segment in read_segments(cloud)] == ["5", "9"]


@pytest.mark.parametrize(
    "more",
    [
        [Field("rgb", 16, 2, 3), Field("rgb_0", 20, 2, 1)],
        [Field("", 16, 2, 1)],
        [Field("padding", 16, 2, 10_000)],
        [Field(f"f{number}", 16, 2, 1) for number in range(1000)],
    ],
    ids=["names that would be made twice", "no name", "ten thousand numbers", "a thousand fields"],
)
def test_what_ros_s_own_reader_does_not_survive_is_read_by_strides(more):
    cloud = good()
    step = max(field.end for field in more)
    raw = np.zeros((cloud.width, step), np.uint8)
    raw[:, :16] = np.frombuffer(cloud.data, np.uint8).reshape(cloud.width, 16)
    cloud = changed_cloud(cloud, fields=[*cloud.fields, *more], point_step=step, row_step=raw.size, data=raw.tobytes())
    assert not check_layout(cloud).plain
    assert check_layout(good()).plain
    assert len(read_segments(cloud, SegmentConfig(input_form="object"))) == 1
