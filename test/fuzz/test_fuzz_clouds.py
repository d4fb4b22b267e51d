"""PointCloud2, boxes and rows of numbers from anybody's driver."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from fuzzing import answer, explore, floats, numbers
from hypothesis import strategies as st

from clipoint3d_ros.nodes.boxes import read_boxes, upright_boxes
from clipoint3d_ros.nodes.evidence import read_rows
from clipoint3d_ros.nodes.layout import Field, Malformed
from clipoint3d_ros.nodes.pointcloud import (
    FORMS,
    INSTANCE_FIELDS,
    SegmentConfig,
    all_points,
    read_segments,
    write_cloud,
)

NAMES = ("x", "y", "z", "instance_id", "cluster_id", "label", "rgb", "x_0", "", "X", "ring")
AXES = ("x", "y", "z")
DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
SPECIAL = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, -0.0])
REASONS = {"fields", "datatype", "size", "stride", "length", "label", "segments", "boxes", "frame"}


def any_field(draw):
    return Field(
        draw(st.sampled_from(NAMES)),
        draw(numbers) if draw(st.integers(0, 3)) == 0 else draw(st.integers(0, 40)),
        draw(st.integers(0, 255)) if draw(st.integers(0, 5)) == 0 else draw(st.integers(1, 8)),
        draw(numbers) if draw(st.integers(0, 5)) == 0 else 1,
    )


@st.composite
def wild_clouds(draw):
    """Numbers that need not agree in anything."""
    height, width, step = (draw(st.one_of(st.integers(0, 6), numbers)) for _ in range(3))
    row = width * step if draw(st.booleans()) else draw(numbers)
    length = row * height if 0 <= row * height < 10_000 and draw(st.integers(0, 3)) else draw(st.integers(0, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fields = [any_field(draw) for _ in range(draw(st.integers(0, 7)))]
    return SimpleNamespace(height=height, width=width, fields=fields, is_bigendian=draw(st.booleans()), point_step=step,
                           row_step=row, data=np.frombuffer(rng.bytes(length), np.uint8), is_dense=False)  # fmt: skip


@st.composite
def near_clouds(draw):
    """A sound cloud, of any numbers in any order, with at most a few attributes changed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.sampled_from([(1,), (40,), (300,), (4, 9), (0,), (3, 0), (0, 5)]))
    names = list(dict.fromkeys(["x", "y", "z", *draw(st.lists(st.sampled_from(NAMES), max_size=4))]))
    names = draw(st.permutations(names)) if draw(st.booleans()) else names
    columns = {}
    for name in names:
        number = np.dtype(
            draw(st.sampled_from(DTYPES)) if draw(st.integers(0, 2)) == 0 else "f4" if name in AXES else "u2"
        )
        values = rng.normal(0, 1, shape) if number.kind == "f" else rng.integers(0, 5, shape)
        values = values.astype(number)
        if number.kind == "f" and draw(st.integers(0, 2)) == 0:
            values[rng.random(shape) < 0.3] = draw(st.sampled_from(SPECIAL.tolist()))
        if number.kind in "iu" and draw(st.integers(0, 4)) == 0:
            edges = np.iinfo(number)
            values = rng.integers(edges.min, edges.max, shape, number, endpoint=True)
        several = name not in AXES and draw(st.integers(0, 5)) == 0
        columns[name] = np.stack([values] * 3, -1) if several else values
    given = write_cloud(columns, bigendian=draw(st.booleans()))
    steps = {}
    if draw(st.integers(0, 3)) == 0:
        steps["point_step"] = given.point_step + draw(st.integers(0, 9))
    if draw(st.integers(0, 3)) == 0:
        steps["row_step"] = given.width * steps.get("point_step", given.point_step) + draw(st.integers(0, 9))
    cloud = SimpleNamespace(**vars(write_cloud(columns, bigendian=given.is_bigendian, **steps)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        what = draw(st.sampled_from(["height", "width", "point_step", "row_step", "data", "fields", "field"]))
        if what == "data":
            cut = draw(st.integers(0, len(cloud.data)))
            cloud.data = bytes(cloud.data)[:cut] if draw(st.booleans()) else bytes(cloud.data) + bytes(cut)
        elif what == "fields" and cloud.fields:
            cloud.fields = draw(st.permutations(cloud.fields))[1:]
        elif what == "field":
            cloud.fields = [*cloud.fields, any_field(draw)]
        elif what not in ("fields", "field"):
            setattr(cloud, what, draw(numbers))
    return cloud


def as_message(cloud):
    """The same as ROS's own message, which its own reader reads; None where no message can hold it."""
    messages = pytest.importorskip("sensor_msgs.msg")
    try:
        fields = [
            messages.PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in cloud.fields
        ]
        told = {name: getattr(cloud, name) for name in ("height", "width", "is_bigendian", "point_step", "row_step")}
        message = messages.PointCloud2(fields=fields, is_dense=False, **told)
        message.data.frombytes(bytes(cloud.data))
    except AssertionError:
        return None
    return message


configs = st.builds(
    SegmentConfig,
    st.sampled_from((*FORMS, "auto", "auto", "labelled")),
    st.sampled_from([INSTANCE_FIELDS, INSTANCE_FIELDS, ("rgb",), ("x",), (), ("", "label")]),
    st.sampled_from([(0, 1), (0, 1), (), (-1, 2**40)]),
    st.sampled_from([512, 512, 1, 3]),
)


@st.composite
def box_messages(draw):
    """None, or a Detection3DArray of some boxes, sound or not."""
    if draw(st.integers(0, 2)):
        return None
    detections = []
    for index in range(draw(st.integers(0, 4))):
        wild = draw(st.integers(0, 2)) == 0
        number = floats if wild else st.floats(0.1, 2)
        x, y, z, a, b, c, d, e, f, g = (draw(number) for _ in range(10))
        pose = SimpleNamespace(position=SimpleNamespace(x=x, y=y, z=z), orientation=SimpleNamespace(x=a, y=b, z=c, w=d))
        box = SimpleNamespace(center=pose, size=SimpleNamespace(x=e, y=f, z=g))
        detections.append(SimpleNamespace(id=str(index), bbox=box))
    return SimpleNamespace(header=SimpleNamespace(frame_id=draw(st.sampled_from(["camera", "camera", "", "map"]))),
                           detections=detections)  # fmt: skip


def check_segments(cloud, config, message):
    def read():
        boxes = None if message is None else read_boxes(message, "camera")
        return read_segments(cloud, config, boxes), boxes

    found = answer(read, Malformed)
    if found is None:
        return
    segments, boxes = found
    assert len(segments) <= config.max_segments
    for segment in segments:
        assert segment.points.dtype == np.float32
        assert segment.points.ndim == 2
        assert segment.points.shape[1] == 3
        assert np.isfinite(segment.points).all()
        assert len(segment.points) <= cloud.height * cloud.width
        assert len(segment.points) or segment.box is not None
    names = [segment.id for segment in segments]
    assert boxes is not None or len(set(names)) == len(names), f"one name twice among {names}"
    around = upright_boxes([segment.points for segment in segments if len(segment.points)])
    for box in around:
        assert np.isfinite(box.centre).all(), "a box lies nowhere"
        assert np.isfinite(box.size).all(), "a box has no size"
    everything = answer(lambda: all_points(cloud), Malformed)
    assert everything is None or everything.shape == (cloud.height * cloud.width, 3)


@pytest.mark.parametrize("ros", [False, True], ids=["plain", "ros"])
@pytest.mark.parametrize("kind", ["near", "wild"])
@pytest.mark.timeout(0)
def test_any_cloud_is_read_as_sound_segments_or_refused_with_a_reason(kind, ros):
    if ros:
        pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

    def check(cloud, config, message):
        given = as_message(cloud) if ros else cloud
        if given is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_segments(given, config, message)

    clouds = near_clouds() if kind == "near" else wild_clouds()
    explore(f"clouds {kind} {'ros' if ros else 'plain'}", check, cloud=clouds, config=configs, message=box_messages())


@st.composite
def images(draw):
    """Rows of float32, or what claims to be."""
    height, width = (abs(draw(st.one_of(st.integers(0, 9), numbers))) for _ in range(2))  # unsigned on the wire
    step = 4 * width if draw(st.booleans()) else abs(draw(numbers))
    length = height * step if 0 <= height * step < 5000 and draw(st.integers(0, 2)) else draw(st.integers(0, 200))
    content = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(length)
    encoding = draw(st.sampled_from(["32FC1"] * 6 + ["rgb8", ""]))
    return SimpleNamespace(height=height, width=width, step=step, data=content, encoding=encoding,
                           is_bigendian=draw(st.integers(0, 1)))  # fmt: skip


@pytest.mark.timeout(0)
def test_any_image_is_read_as_rows_or_refused_in_words():
    def check(image):
        rows = answer(lambda: read_rows(image), ValueError)
        if rows is not None:
            assert rows.shape == (image.height, image.width)
            assert rows.dtype == np.float32
            assert rows.nbytes <= len(image.data), "rows that nobody sent"

    explore("rows", check, image=images())
