"""One caption and one colour per answer, shared by markers and mosaic."""

from __future__ import annotations

import colorsys
import zlib

from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition

GREY = (0.55, 0.55, 0.55)


def caption(recognition: Recognition) -> str:
    """ "mug 87 %"; an unknown object has no percentage worth reading."""
    if recognition.label == UNKNOWN:
        return UNKNOWN
    return f"{recognition.label} {100 * recognition.score:.0f} %"


def colour(label: str) -> tuple[float, float, float]:
    """Red, green, blue in [0, 1]: the same for a name in every run, whatever the other classes; unknown is grey."""
    if label == UNKNOWN:
        return GREY
    mixed = zlib.crc32(label.encode()) * 2654435761 % 2**32  # spreads similar names over the circle
    return colorsys.hsv_to_rgb(mixed / 2**32, 0.75, 0.95)
