"""What a PointCloud2 promises about its bytes, checked before anyone looks at them.

A cloud comes from somebody else's driver. Every number in it may contradict the others, and reading it unchecked
means garbage objects at best. Here each contradiction becomes one sentence and a short reason to count it by.
Nothing of ROS is imported: anything with PointCloud2's attributes will do (rclpy's message, rosbags' message).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipoint3d_ros.geometry.clouds import CloudError

# sensor_msgs/PointField's datatype enumeration.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
CODES = {np.dtype(kind): code for code, kind in NUMBERS.items()}
# Far above any sensor (a 128-beam lidar turn has 0.3 million), far below what would stop the machine.
MAX_POINTS = 2**25


class Malformed(CloudError):
    """A cloud (or its boxes) that contradicts itself or the parameters.

    reason: one short word for the counters: fields, datatype, size, stride, length, label, segments, boxes, frame.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Field:
    """One sensor_msgs/PointField: `offset` in bytes from the point's first, `datatype` a key of NUMBERS."""

    name: str
    offset: int
    datatype: int
    count: int

    @property
    def end(self) -> int:
        """The first byte after the field; an unknown datatype is taken as one byte wide."""
        width = np.dtype(NUMBERS.get(self.datatype, "u1")).itemsize
        return self.offset + self.count * width


@dataclass(frozen=True)
class Layout:
    """A cloud's checked arrangement: sizes in points, steps in bytes."""

    fields: tuple[Field, ...]
    height: int
    width: int
    point_step: int
    row_step: int
    bigendian: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def plain(self) -> bool:
        """Native byte order, no gaps between rows, few fields of distinct names with one known number each: what
        sensor_msgs_py reads. Of several numbers it makes fields of further names, which may be there already."""
        return (
            self.bigendian == (sys.byteorder == "big")
            and self.row_step == self.width * self.point_step
            and len(set(self.names)) == len(self.fields)
            and len(self.fields) <= 64
            and all(field.name and field.datatype in NUMBERS and field.count == 1 for field in self.fields)
        )

    def number(self, field: Field) -> np.dtype:
        """The field's dtype in the cloud's byte order."""
        return np.dtype((">" if self.bigendian else "<") + NUMBERS[field.datatype])

    def column(self, name: str) -> Field:
        """The one field of that name that holds one number per point.

        Raises:
            Malformed: there is none, or two, or it has an unknown datatype, or several numbers per point.
        """
        found = [field for field in self.fields if field.name == name]
        if not found:
            raise Malformed("fields", f"no field '{name}' in the cloud: it has {listed(self.names)}")
        if len(found) > 1:
            raise Malformed("fields", f"field '{name}' appears {len(found)} times in the cloud; names must be unique")
        (field,) = found
        if field.datatype not in NUMBERS:
            raise Malformed("datatype", f"field '{name}' has datatype {field.datatype}; PointField knows 1 to 8")
        if field.count != 1:
            raise Malformed("fields", f"field '{name}' holds {field.count} numbers per point; it must hold 1")
        return field


def check_layout(cloud: Any, used: Iterable[str] = ("x", "y", "z")) -> Layout:
    """The cloud's layout, if its numbers agree with each other.

    A cloud of no points is sound: a segmenter that sees nothing says so. Fields that nobody reads may be strange
    (an unknown datatype, rgb laid over rgba) as long as they lie inside the point; the ones in `used` may not.

    Args:
        cloud: an object with PointCloud2's attributes.
        used: names of the fields that will be read.

    Raises:
        Malformed: with reason fields, datatype, size, stride or length.
    """
    layout = Layout(
        fields=_fields(cloud.fields),
        height=_whole("size", "height", cloud.height),
        width=_whole("size", "width", cloud.width),
        point_step=_whole("stride", "point_step", cloud.point_step),
        row_step=_whole("stride", "row_step", cloud.row_step),
        bigendian=bool(cloud.is_bigendian),
    )
    columns = [layout.column(name) for name in used]
    _check_size(layout)
    _check_stride(layout)
    _check_overlap(layout, columns)
    _check_length(layout, len(cloud.data))
    return layout


def listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    return ", ".join(name or "''" for name in names) or "none at all"


def _fields(fields: Iterable[Any]) -> tuple[Field, ...]:
    rows = tuple(
        Field(
            str(field.name),
            _whole("fields", f"offset of field '{field.name}'", field.offset),
            _whole("datatype", f"datatype of field '{field.name}'", field.datatype),
            _whole("fields", f"count of field '{field.name}'", field.count),
        )
        for field in fields
    )
    if not rows:
        raise Malformed("fields", "the cloud declares no fields; x, y and z are needed")
    return rows


def _whole(reason: str, name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or number != value:
        raise Malformed(reason, f"the cloud's {name} is {value!r}; it must be a whole number from 0 up")
    return number


def _check_size(layout: Layout) -> None:
    points = layout.width * layout.height
    if points > MAX_POINTS:
        raise Malformed(
            "size",
            f"the cloud claims {layout.width} x {layout.height} points, more than the {MAX_POINTS} taken at once; "
            "send fewer, or crop it",
        )


def _check_stride(layout: Layout) -> None:
    for field in layout.fields:
        if field.end > layout.point_step:
            raise Malformed(
                "stride",
                f"field '{field.name}' ends at byte {field.end} of a point, but point_step is {layout.point_step}",
            )
    if layout.row_step < layout.width * layout.point_step:
        raise Malformed(
            "stride",
            f"row_step is {layout.row_step}, less than {layout.width} points of {layout.point_step} bytes",
        )


def _check_overlap(layout: Layout, used: list[Field]) -> None:
    for mine in used:
        for other in layout.fields:
            if other is not mine and other.offset < mine.end and mine.offset < other.end and other.count:
                raise Malformed(
                    "fields",
                    f"fields '{mine.name}' and '{other.name}' overlap: bytes {mine.offset} to {mine.end} "
                    f"and {other.offset} to {other.end}",
                )


def _check_length(layout: Layout, length: int) -> None:
    expected = layout.row_step * layout.height
    if length != expected:
        raise Malformed(
            "length",
            f"the cloud holds {length} bytes, but {layout.height} rows of {layout.row_step} are {expected}",
        )
