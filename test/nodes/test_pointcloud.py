"""PointCloud2 to objects and back, whatever the layout."""

from __future__ import annotations

import array
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from clouds_made import FLAT, TALL, changed_cloud, image_scene, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.nodes import pointcloud
from clipoint3d_ros.nodes.boxes import Box, NamedBox
from clipoint3d_ros.nodes.layout import Field, check_layout
from clipoint3d_ros.nodes.pointcloud import SegmentConfig, cloud_message, read_columns, read_segments, write_cloud

NUMBERS = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")


@st.composite
def layouts(draw):
    """Columns x, y, z, label and some others, of any types, with a layout to write them in."""
    organised = draw(st.booleans())
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 9))) if organised else (draw(st.integers(1, 40)),)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = {}
    for name in draw(st.permutations(["x", "y", "z", "label", "intensity", "normal"])):
        number = np.dtype(draw(st.sampled_from(NUMBERS)))
        width = (*shape, 3) if name == "normal" else shape
        values = rng.integers(0, 6 if name == "label" else 100, width).astype(number)
        if number.kind == "f" and draw(st.booleans()):
            broken = rng.random(width) < 0.2
            values[broken] = rng.choice([np.nan, np.inf, -np.inf], broken.sum())
        columns[name] = values
    fields = sum(column.dtype.itemsize * (3 if name == "normal" else 1) for name, column in columns.items())
    step = fields + draw(st.integers(0, 9))
    row = step * shape[-1] + draw(st.integers(0, 17))
    return columns, {"bigendian": draw(st.booleans()), "point_step": step, "row_step": row}


@settings(max_examples=150, deadline=None)
@given(layouts())
def test_what_is_written_is_read_whatever_type_order_and_padding(made):
    columns, steps = made
    cloud = write_cloud(columns, **steps)
    names = [name for name in columns if name != "normal"]
    for name, read in zip(names, read_columns(cloud, check_layout(cloud), names), strict=True):
        np.testing.assert_array_equal(read, columns[name].reshape(-1), err_msg=f"{name} came back different")


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_segments_are_what_a_loop_over_the_points_finds(made):
    columns, steps = made
    expected: dict[str, list] = {}
    flat = [columns[name].reshape(-1) for name in ("x", "y", "z", "label")]
    for x, y, z, label in zip(*flat, strict=True):
        if np.isfinite([x, y, z, label]).all() and label not in (0, 1):
            expected.setdefault(str(int(label)), []).append([x, y, z])
    found = read_segments(write_cloud(columns, **steps))
    assert [segment.id for segment in found] == sorted(expected, key=int)
    for segment in found:
        assert segment.points.dtype == np.float32
        np.testing.assert_array_equal(segment.points, np.array(expected[segment.id], np.float32))


@pytest.mark.parametrize("field", ["instance_id", "cluster_id", "label"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_labelled_cloud_becomes_its_objects(field, number):
    tall, flat = read_segments(scene(field, np.dtype(number)))
    assert (tall.id, flat.id) == ("5", "9")
    np.testing.assert_array_equal(np.sort(tall.points, 0), np.sort(TALL, 0))
    np.testing.assert_array_equal(np.sort(flat.points, 0), np.sort(FLAT, 0))


def test_the_first_of_the_fields_that_is_there_counts():
    cloud = write_cloud(
        {
            "x": np.ones(3),
            "y": np.ones(3),
            "z": np.ones(3),
            "label": np.full(3, 7, "u1"),
            "cluster_id": np.arange(2.0, 5),
        }
    )
    assert [s.id for s in read_segments(cloud)] == ["2", "3", "4"]
    assert [s.id for s in read_segments(cloud, SegmentConfig(instance_field=("label",)))] == ["7"]


def test_ignored_labels_are_a_choice():
    cloud = scene()
    assert [s.id for s in read_segments(cloud, SegmentConfig(ignore_instances=()))] == ["1", "5", "9"]
    assert [s.id for s in read_segments(cloud, SegmentConfig(ignore_instances=(5, -1, 300)))] == ["1", "9"]


def test_labels_that_are_no_numbers_are_nobody():
    labels = np.array([np.nan, np.inf, 2.0, 2.5, -3.0], np.float32)
    cloud = write_cloud({"x": np.ones(5), "y": np.ones(5), "z": np.ones(5), "label": labels})
    assert [s.id for s in read_segments(cloud)] == ["-3", "2", "2.5"]


def test_which_clouds_are_one_object():
    alone = write_cloud(dict(zip("xyz", TALL.T, strict=True)))
    image = write_cloud({name: TALL[:, axis].reshape(20, 20) for axis, name in enumerate("xyz")})
    assert pointcloud.is_one_object(alone)
    assert not pointcloud.is_one_object(alone, SegmentConfig(input_form="labelled"))
    assert not pointcloud.is_one_object(scene())
    assert pointcloud.is_one_object(scene(), SegmentConfig(input_form="object"))
    assert not pointcloud.is_one_object(image)


def test_an_unorganised_cloud_without_labels_is_one_object():
    (segment,) = read_segments(write_cloud(dict(zip("xyz", TALL.T, strict=True))))
    assert segment.id == ""
    np.testing.assert_array_equal(segment.points, TALL)


def test_an_image_without_labels_is_an_object_only_on_request():
    cloud = image_scene(30, 60)
    cloud = changed_cloud(cloud, fields=cloud.fields[:3])
    with pytest.raises(CloudError, match="input_form"):
        read_segments(cloud)
    (segment,) = read_segments(cloud, SegmentConfig(input_form="object"))
    assert len(segment.points) == 1600


def test_an_object_that_returned_nothing_is_not_there():
    nothing = np.full(20, np.nan, np.float32)
    assert read_segments(write_cloud({"x": nothing, "y": nothing, "z": nothing})) == []
    labels = np.full(20, 4, np.uint8)
    assert read_segments(write_cloud({"x": nothing, "y": nothing, "z": nothing, "label": labels})) == []


@pytest.mark.parametrize("shape", [(0,), (0, 0), (0, 7)])
@pytest.mark.parametrize("names", [("x", "y", "z"), ("x", "y", "z", "instance_id")])
def test_a_segmenter_that_sees_nothing_may_say_so(shape, names):
    empty = write_cloud({name: np.zeros(shape, np.float32) for name in names})
    assert read_segments(empty, SegmentConfig(input_form="labelled" if len(names) == 4 else "object")) == []


def test_a_double_beyond_a_float_is_no_measurement():
    x = np.array([1.0, 1e300, -1e300, 2.0])
    (segment,) = read_segments(write_cloud({"x": x, "y": np.ones(4), "z": np.ones(4)}))
    np.testing.assert_array_equal(segment.points[:, 0], [1, 2])


def test_boxes_take_the_points_inside_them_and_keep_their_order():
    boxes = [
        NamedBox("b", Box(np.array([0.6, -0.2, 0.02]), np.eye(3), np.array([0.2, 0.15, 0.03]))),
        NamedBox("empty", Box(np.array([9.0, 9, 9]), np.eye(3), np.ones(3))),
        NamedBox("a", Box(np.array([0.5, 0.1, 0.11]), np.eye(3), np.array([0.06, 0.06, 0.18]))),
    ]
    flat, empty, tall = read_segments(scene(), boxes=boxes)
    assert [s.id for s in (flat, empty, tall)] == ["b", "empty", "a"]
    assert len(empty.points) == 0
    assert len(flat.points) >= len(FLAT)
    assert 0.8 * len(TALL) < len(tall.points) <= len(TALL)
    assert tall.box is boxes[2].box


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, list, lambda d: np.frombuffer(d, np.uint8)])
def test_any_holder_of_bytes_will_do(kind):
    cloud = scene()
    ids = [segment.id for segment in read_segments(changed_cloud(cloud, data=kind(bytes(cloud.data))))]
    assert ids == ["5", "9"]


def test_reading_leaves_the_message_as_it_was():
    for bigendian in (False, True):
        cloud = scene(bigendian=bigendian)
        before = bytes(cloud.data)
        read_segments(cloud)
        assert bytes(cloud.data) == before


def test_written_clouds_know_whether_they_are_dense():
    assert not scene().is_dense
    assert write_cloud(dict(zip("xyz", TALL.T, strict=True))).is_dense


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "at least one column"),
        ({"x": np.ones(3), "y": np.ones(4)}, "one shape"),
        ({"x": np.ones(3, complex)}, "no datatype"),
        ({"x": np.float32(1)}, "one shape"),
    ],
)
def test_columns_that_are_no_cloud(columns, words):
    with pytest.raises(CloudError, match=words):
        write_cloud(columns)


def test_steps_too_short_to_write():
    with pytest.raises(CloudError, match="shorter"):
        write_cloud({"x": np.ones(3)}, point_step=7)


def test_a_bag_reader_s_message_is_read_the_same():
    """rosbags' own messages hold data as a numpy array and datatypes as plain numbers."""
    stores = pytest.importorskip("rosbags.typesys", reason="rosbags is not installed")
    types = stores.get_typestore(stores.Stores.ROS2_HUMBLE).types
    cloud, header = scene(), types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 2), "camera")
    fields = [types["sensor_msgs/msg/PointField"](f.name, f.offset, f.datatype, f.count) for f in cloud.fields]
    message = types["sensor_msgs/msg/PointCloud2"](
        header, cloud.height, cloud.width, fields, False, cloud.point_step, cloud.row_step,
        np.frombuffer(cloud.data, np.uint8), cloud.is_dense,
    )  # fmt: skip
    assert [segment.id for segment in read_segments(message)] == ["5", "9"]


@pytest.mark.ros
def test_a_ros_message_carries_the_cloud_unchanged():
    messages = pytest.importorskip("std_msgs.msg", reason="ROS message packages are not installed")
    pytest.importorskip("sensor_msgs.msg", reason="ROS message packages are not installed")
    cloud = image_scene()
    message = cloud_message(cloud, messages.Header(frame_id="camera"))
    assert isinstance(message.data, array.array)
    assert message.data == cloud.data
    assert [Field(f.name, f.offset, f.datatype, f.count) for f in message.fields] == cloud.fields
    for ours, theirs in zip(read_segments(cloud), read_segments(message), strict=True):
        np.testing.assert_array_equal(ours.points, theirs.points)


@pytest.mark.ros
def test_ros_own_reader_agrees_with_ours(monkeypatch):
    messages = pytest.importorskip("std_msgs.msg", reason="ROS message packages are not installed")
    pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")
    pointcloud._ros_reader.cache_clear()
    message = cloud_message(image_scene(), messages.Header())
    assert pointcloud._ros_reader(type(message)) is not None
    theirs = read_segments(message)
    monkeypatch.setattr(pointcloud, "_ros_reader", lambda kind: None)
    for one, other in zip(theirs, read_segments(message), strict=True):
        np.testing.assert_array_equal(one.points, other.points)


def test_no_ros_is_needed_to_read_a_cloud():
    code = (
        "import sys; import clipoint3d_ros.nodes.pointcloud, clipoint3d_ros.nodes.parameters, "
        "clipoint3d_ros.nodes.perception_config, clipoint3d_ros.nodes.frames; "
        "sys.exit(' '.join(m for m in ('rclpy', 'sensor_msgs', 'vision_msgs', 'tf2_ros') if m in sys.modules) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"imported: {ended.stderr}"


def camera_cloud():
    """640×480 with fifteen objects in rows, and lost pixels among theirs."""
    rng = np.random.default_rng(0)
    labels = np.ones((480, 640), np.uint32)
    for number in range(15):
        row, column = divmod(number, 5)
        labels[40 + row * 150 : 130 + row * 150, 30 + column * 125 : 110 + column * 125] = number + 2
    labels[rng.random(labels.shape) < 0.1] = 0
    xyz = {name: rng.normal(size=labels.shape).astype(np.float32) for name in "xyz"}
    return write_cloud(xyz | {"rgb": np.zeros(labels.shape, np.float32), "instance_id": labels})


def by_sorting_points(cloud):
    """The plain way: every point's label sorted, every field copied."""
    columns = read_columns(cloud, check_layout(cloud), ("x", "y", "z", "instance_id"))
    points, labels = np.stack(columns[:3], 1), columns[3]
    kept = (labels > 1) & np.isfinite(points).all(1)
    points, labels = points[kept], labels[kept]
    order = labels.argsort(kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(map(str, names), np.split(points[order], starts[1:]), strict=True))


def test_objects_are_cut_out_of_a_camera_s_cloud_twice_as_quickly_as_by_sorting_its_points():
    """Of one thread's processor time; seven times when measured."""
    cloud = camera_cloud()
    expected = by_sorting_points(cloud)
    for segment in read_segments(cloud):
        np.testing.assert_array_equal(segment.points, expected[segment.id])
    times = {read_segments: [], by_sorting_points: []}
    for way in [read_segments, by_sorting_points] * 8:
        start = time.thread_time()
        way(cloud)
        times[way].append(time.thread_time() - start)
    ratio = min(times[by_sorting_points]) / min(times[read_segments])
    assert ratio >= 2, f"only {ratio:.1f} times as quick"


@pytest.mark.parametrize("bigendian", [False, True])
def test_the_objects_points_are_copied_once(bigendian):
    """Straight out of the message: beside the result only some rows of one axis are ever held."""
    cloud = write_cloud(
        dict(zip("xyz", np.random.default_rng(0).normal(size=(3, 200_000)), strict=True)), bigendian=bigendian
    )
    xyz, rows = read_columns(cloud, check_layout(cloud), "xyz"), np.arange(0, 200_000, 2)
    tracemalloc.start()
    points = pointcloud._gathered(xyz, rows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert points.nbytes == len(rows) * 12
    assert most < points.nbytes + 100_000


def test_objects_are_parts_of_what_was_copied():
    first, *others = read_segments(camera_cloud())
    assert others
    assert all(each.points.base is first.points.base is not None for each in others)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)])
def test_a_cloud_without_points_may_have_long_rows(shape):
    cloud = write_cloud({name: np.zeros(shape, np.float32) for name in "xyz"}, row_step=100, point_step=20)
    assert len(cloud.data) == cloud.height * 100
    assert read_segments(cloud, SegmentConfig(input_form="object")) == []


@pytest.mark.parametrize("form", ["labelled", "object"])
def test_what_no_sensor_can_reach_is_no_return(form):
    """A float32 of 3e38 is finite, but neither its square is nor the box around it."""
    points = np.array([[1, 2, 3], [3e38, 0, 0], [0, -1e10, 0], [4, 5, 6]], np.float32)
    cloud = write_cloud(dict(zip("xyz", points.T, strict=True)) | {"instance_id": np.full(4, 5, np.uint8)})
    (segment,) = read_segments(cloud, SegmentConfig(input_form=form))
    np.testing.assert_array_equal(segment.points, [[1, 2, 3], [4, 5, 6]])


def test_more_boxes_than_objects_are_allowed_are_refused():
    boxes = [NamedBox(str(i), Box(np.zeros(3), np.eye(3), np.ones(3))) for i in range(4)]
    assert len(read_segments(scene(), SegmentConfig(max_segments=4), boxes)) == 4
    with pytest.raises(CloudError, match="4 boxes came with the cloud, more than max_segments 3"):
        read_segments(scene(), SegmentConfig(max_segments=3), boxes)
