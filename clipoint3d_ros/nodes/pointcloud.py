"""PointCloud2 to one array per object, and back.

Three forms of input (see `read_segments`): a cloud whose points carry the number of their object, a cloud that is
one object, and a cloud with boxes. ROS is imported only where a ROS message is asked for or met, so that bags are
read by the same code on a machine without ROS. There is no loop over points anywhere.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.geometry.clouds import all_measured, measured
from clipoint3d_ros.nodes.boxes import Box, NamedBox, inside
from clipoint3d_ros.nodes.layout import CODES, Field, Layout, Malformed, check_layout, listed

INSTANCE_FIELDS = ("instance_id", "cluster_id", "label")
FORMS = ("auto", "labelled", "object", "boxes")
_ROWS = 8192  # that are fetched at once: some hundred kilobytes of a message


class Segment(NamedTuple):
    """One object as the sensor saw it.

    points: (N, 3) float32, metres, finite, in the cloud's frame; N = 0 only for a box with nothing in it.
    id: as published: the label, the box's id, or "" for a cloud that is one object.
    box: the published box, where the form has one.
    """

    points: np.ndarray
    id: str
    box: Box | None = None


@dataclass(frozen=True)
class SegmentConfig:
    """How a cloud becomes objects.

    input_form: "labelled", "object" or "boxes"; "auto" decides by the cloud (see `read_segments`).
    instance_field: names tried in order for the field that numbers the objects.
    ignore_instances: labels that are no object (0 background, 1 the table).
    max_segments: more objects than this in one cloud mean that the label field is something else; boxes likewise.
    """

    input_form: str = "auto"
    instance_field: tuple[str, ...] = INSTANCE_FIELDS
    ignore_instances: tuple[int, ...] = (0, 1)
    max_segments: int = 512


def read_segments(
    cloud: Any, config: SegmentConfig = SegmentConfig(), boxes: Sequence[NamedBox] | None = None
) -> list[Segment]:
    """The objects in a cloud.

    labelled: one segment per value of the label field, ascending, without `ignore_instances` and NaN labels.
    object: the whole cloud is one segment.
    boxes: one segment per box, in the order published, with the points inside it.
    auto: boxes where they are given; else labelled where the cloud has a label field, or where `instance_field`
    was changed from its default (somebody expects labels: their absence is an error); else, for an unorganised
    cloud, object. An organised cloud (height > 1) without labels is a camera's whole image, not an object, and
    is refused rather than given one confident wrong name; `input_form: object` insists.

    Args:
        cloud: an object with PointCloud2's attributes.
        config: the form and its settings.
        boxes: the boxes of the same stamp, in the cloud's frame.

    Returns:
        Segments of finite points; NaN and ±Inf rows are "no return" (REP-117) and dropped, as is what lies beyond
        `geometry.clouds.FURTHEST_M`.

    Raises:
        Malformed: a CloudError with the sentence and a reason to count it by.
    """
    form = _form(cloud, config, boxes)
    if form == "labelled":
        return _labelled(cloud, config)
    if form == "boxes":
        if boxes is None:
            raise Malformed("boxes", "input_form is 'boxes' but no boxes came with the cloud's stamp")
        if len(boxes) > config.max_segments:
            raise Malformed(
                "boxes",
                f"{len(boxes)} boxes came with the cloud, more than max_segments {config.max_segments}: each is looked "
                "at; publish fewer, or raise 'max_segments'",
            )
        return [Segment(points, box.id, box.box) for box, points in inside(_points(cloud), boxes)]
    points = _points(cloud)
    return [Segment(points, "")] if len(points) else []


def is_one_object(cloud: Any, config: SegmentConfig = SegmentConfig()) -> bool:
    """Whether a cloud that comes without boxes would be read as one object."""
    try:
        return _form(cloud, config, None) == "object"
    except Malformed:
        return False


def label_field(cloud: Any, config: SegmentConfig = SegmentConfig()) -> str | None:
    """The first of `instance_field` that the cloud has; None where it has none of them."""
    names = {str(field.name) for field in cloud.fields}
    return next((name for name in config.instance_field if name in names), None)


def all_points(cloud: Any) -> np.ndarray:
    """(height·width, 3) float32 metres, row by row, NaN or Inf where nothing came back; Malformed as `check_layout`."""
    layout = check_layout(cloud)
    return _gathered(read_columns(cloud, layout, ("x", "y", "z")), np.arange(layout.height * layout.width))


def read_columns(cloud: Any, layout: Layout, names: Sequence[str]) -> list[np.ndarray]:
    """Named fields of a checked cloud, each (height·width,) in the field's own dtype; views where possible.

    ROS's own reader is used where it is installed and knows the layout: it ignores row padding and swaps foreign
    byte orders inside the message, so those clouds are read by strides here.
    """
    if layout.width * layout.height == 0:
        return [np.empty(0, layout.number(layout.column(name))) for name in names]
    read_points = _ros_reader(cloud.__class__) if layout.plain else None
    if read_points is not None:
        structured = read_points(cloud, field_names=list(names))
        return [structured[name] for name in names]
    raw = _bytes(cloud.data)
    return [_column(raw, layout, layout.column(name)).reshape(-1) for name in names]


def _form(cloud: Any, config: SegmentConfig, boxes: Sequence[NamedBox] | None) -> str:
    if config.input_form not in FORMS:
        raise Malformed("label", f"input_form '{config.input_form}' is none of {listed(FORMS)}")
    if config.input_form != "auto":
        return config.input_form
    if boxes is not None:
        return "boxes"
    if label_field(cloud, config) is not None or tuple(config.instance_field) != INSTANCE_FIELDS:
        return "labelled"
    if cloud.height > 1:
        raise Malformed(
            "label",
            f"none of the label fields {listed(config.instance_field)} is in this organised cloud of {cloud.width} x "
            f"{cloud.height}: it has {listed(str(f.name) for f in cloud.fields)}; set 'instance_field', publish one "
            "cloud per object, or set 'input_form' to 'object' if it really is one object",
        )
    return "object"


def _labelled(cloud: Any, config: SegmentConfig) -> list[Segment]:
    name = label_field(cloud, config)
    if name is None:
        check_layout(cloud)  # a cloud that is broken altogether is told so first
        wanted = " or ".join(f"'{field}'" for field in config.instance_field) or "(none set)"
        raise Malformed(
            "label",
            f"label field {wanted} not found in the cloud: it has {listed(str(f.name) for f in cloud.fields)}; "
            "set 'instance_field' or publish one cloud per object",
        )
    layout = check_layout(cloud, ("x", "y", "z", name))
    *xyz, labels = read_columns(cloud, layout, ("x", "y", "z", name))
    labels = np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    rows = np.flatnonzero(_numbered(labels, config.ignore_instances))
    labels = labels.take(rows)  # without what is no object and pixels without return an object's runs are long
    starts, lengths = _runs(labels)
    order = _ascending(labels.take(starts))
    starts, lengths = starts[order], lengths[order]
    points = _gathered(xyz, rows.take(_ranges(starts, lengths)))
    return _grouped(points, lengths, labels.take(starts), name, config.max_segments)


def _numbered(labels: np.ndarray, ignored: Sequence[int]) -> np.ndarray:
    """Which of (N,) labels number an object: neither NaN nor ignored."""
    if labels.dtype.kind == "u" and set(ignored) == set(range(len(ignored))):
        return labels >= len(ignored)  # the usual 0 and 1, at once
    kept = np.isfinite(labels) if labels.dtype.kind == "f" else np.ones(len(labels), bool)
    for each in ignored:
        kept &= labels != each
    return kept


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal labels start in (N,), and how long they are: a camera's objects have one or so a line."""
    ends = np.append(np.flatnonzero(labels[1:] != labels[:-1]) + 1, len(labels))[: len(labels)]
    starts = np.append(0, ends[:-1])[: len(ends)]
    return starts, ends - starts


def _ascending(labels: np.ndarray) -> np.ndarray:
    """The stable order of labels. Numbers that fit 16 bits, as object numbers do, are sorted without comparing."""
    if len(labels) and labels.dtype.kind in "iu":
        low, high = int(labels.min()), int(labels.max())
        if high - low < 2**16:
            labels = (labels - labels.dtype.type(low)).astype(np.uint16)
    return labels.argsort(kind="stable")


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows start, start + 1, … of all runs, one run after another."""
    before = np.cumsum(lengths) - lengths
    rows = np.repeat(starts - before, lengths)
    rows += np.arange(len(rows))
    return rows


def _gathered(xyz: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """(len(rows), 3) float32 points of some rows of a cloud's columns, copied once, straight out of the message.

    Each axis lies by itself in memory (the array is the transpose of a contiguous one), so that extremes and products
    with a box's axes run over memory. Some rows at a time: y and z are then fetched into the cache with x.
    """
    points = np.empty((3, len(rows)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 is no measurement: it becomes Inf
        for first in range(0, len(rows), _ROWS):
            some = slice(first, first + _ROWS)
            for axis, column in zip(points, xyz, strict=True):
                axis[some] = column[rows[some]]
    return points.T


def _grouped(points: np.ndarray, lengths: np.ndarray, values: np.ndarray, name: str, limit: int) -> list[Segment]:
    """Segments of points that come in runs of `lengths` whose labels `values` ascend; points not finite are dropped."""
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])  # runs that begin an object
    sizes = np.add.reduceat(lengths, first) if len(first) else lengths
    if not all_measured(points):
        whole = measured(points).all(1)
        points = points.T.compress(whole, 1).T
        sizes = np.add.reduceat(whole, np.cumsum(sizes) - sizes, dtype=np.intp)
    seen = np.flatnonzero(sizes)
    if len(seen) > limit:
        raise Malformed(
            "segments",
            f"field '{name}' has {len(seen)} different values, more than max_segments {limit}: it does not look "
            "like object numbers; set 'instance_field' to the field that is",
        )
    cuts = pairwise([0, *np.cumsum(sizes[seen]).tolist()])
    names = map(_name, values[first[seen]].tolist())
    return [Segment(points[start:end], name) for (start, end), name in zip(cuts, names, strict=True)]


def _name(label: Any) -> str:
    """A label as text: whole numbers without a point, whatever type carried them."""
    return str(int(label)) if label == int(label) else str(float(label))


def _points(cloud: Any) -> np.ndarray:
    layout = check_layout(cloud)
    return _finite(*read_columns(cloud, layout, ("x", "y", "z")))


def _finite(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(M, 3) float32 of the finite rows, laid out as `_gathered`'s."""
    points = np.empty((3, len(x)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # as in `_gathered`
        points[0], points[1], points[2] = x, y, z
    return points.T if all_measured(points) else points.compress(measured(points).all(0), 1).T


def _column(raw: np.ndarray, layout: Layout, field: Field) -> np.ndarray:
    """One field as a strided view (height, width) of the raw bytes."""
    return np.ndarray(
        (layout.height, layout.width),
        layout.number(field),
        buffer=raw.data,
        offset=field.offset,
        strides=(layout.row_step, layout.point_step),
    )


def _bytes(data: Any) -> np.ndarray:
    """The message's data, whatever holds it, as flat uint8 without a copy where it is a buffer already."""
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError):
        pass
    values = np.asarray(data)
    if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() <= 255):
        raise Malformed("length", f"the cloud's data is {type(data).__name__} of {values.dtype}, not bytes")
    return values.astype(np.uint8).reshape(-1)


@functools.cache
def _ros_reader(kind: type) -> Callable[..., np.ndarray] | None:
    """sensor_msgs_py's reader, where it is installed and `kind` is the message it accepts."""
    try:
        from sensor_msgs.msg import PointCloud2
        from sensor_msgs_py.point_cloud2 import read_points
    except ImportError:
        return None
    return read_points if issubclass(kind, PointCloud2) else None


@dataclass
class Cloud:
    """A cloud with PointCloud2's attributes and nothing of ROS; `data` is array('B'), quick to put in a message."""

    height: int
    width: int
    fields: list[Field]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: array.array
    is_dense: bool


def write_cloud(
    columns: Mapping[str, np.ndarray],
    *,
    bigendian: bool = False,
    point_step: int | None = None,
    row_step: int | None = None,
) -> Cloud:
    """Arrays as a cloud: the inverse of `read_columns`.

    Args:
        columns: name to array, all (N,) or all (height, width), a last axis more for several numbers per point;
            dtypes of PointField (int8 to int32 and their unsigned, float32, float64).
        bigendian: byte order of the result.
        point_step: bytes per point, the fields' own width unless padded.
        row_step: bytes per row, width · point_step unless padded.

    Raises:
        CloudError: shapes that differ, a dtype PointField cannot name, or a step too short.
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shape = _shape(arrays)
    fields, offset = [], 0
    for name, column in arrays.items():
        number = column.dtype.newbyteorder("=")
        if number not in CODES:
            raise Malformed("datatype", f"column '{name}' is {column.dtype}, which PointField has no datatype for")
        count = int(np.prod(column.shape[len(shape) :], dtype=int))
        fields.append(Field(name, offset, CODES[number], count))
        offset = fields[-1].end
    height, width = shape if len(shape) == 2 else (1, shape[0])
    step = offset if point_step is None else point_step
    row = width * step if row_step is None else row_step
    if step < offset or row < width * step:
        raise Malformed("stride", f"steps {step} and {row} are shorter than {width} points of {offset} bytes a row")
    raw = np.zeros(height * row, np.uint8)
    layout = Layout(tuple(fields), height, width, step, row, bigendian)
    for field, column in zip(fields, arrays.values(), strict=True):
        if height * width == 0:
            break
        number, each = layout.number(field), column.reshape(height, width, field.count)
        strides = (row, step, number.itemsize)
        np.ndarray(each.shape, number, buffer=raw.data, offset=field.offset, strides=strides)[...] = each
    data = array.array("B")
    data.frombytes(raw.tobytes())
    dense = all(np.isfinite(arrays[name]).all() for name in ("x", "y", "z") if name in arrays)
    return Cloud(height, width, fields, bigendian, step, row, data, dense)


def _shape(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The points' common shape, (N,) or (height, width)."""
    if not arrays:
        raise Malformed("fields", "a cloud needs at least one column")
    shape = min((column.shape for column in arrays.values()), key=len)
    if len(shape) not in (1, 2) or any(column.shape[: len(shape)] != shape for column in arrays.values()):
        shapes = ", ".join(f"{name} {column.shape}" for name, column in arrays.items())
        raise Malformed("size", f"columns must share one shape (N,) or (height, width), but they have {shapes}")
    return shape


def cloud_message(cloud: Cloud, header: Any) -> Any:
    """A sensor_msgs/PointCloud2 of it under the given std_msgs/Header; needs ROS's message packages."""
    from sensor_msgs.msg import PointCloud2, PointField

    message = PointCloud2(
        header=header,
        height=cloud.height,
        width=cloud.width,
        is_bigendian=cloud.is_bigendian,
        point_step=cloud.point_step,
        row_step=cloud.row_step,
        is_dense=cloud.is_dense,
        fields=[PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in cloud.fields],
    )
    message.data = cloud.data  # as array('B') this is taken whole; any other sequence is checked byte by byte
    return message
