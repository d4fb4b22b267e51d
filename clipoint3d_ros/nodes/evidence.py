"""How far each answer may be trusted, as one row of numbers per object beside its feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipoint3d_ros.nodes.frames import Standpoint
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.recognition.recognition import Recognition

# version: of the adapter that answered. agreement: share of the views that name the same class. familiarity: how
# likely the object is of any class. entropy: of the answer, nats. points: of the segment. elevation: radians of the
# sensor above the object's horizon. distance: metres from the sensor, 0 where it is not known.
COLUMNS = ("version", "agreement", "familiarity", "entropy", "points", "elevation", "distance")


def evidence_rows(
    segments: Sequence[Segment],
    recognitions: Sequence[Recognition],
    agreement: np.ndarray,
    stand: Standpoint,
    version: int,
) -> np.ndarray:
    """(B, 7) float32, columns as in `COLUMNS`, rows in the detections' order."""
    rows = np.zeros((len(segments), len(COLUMNS)), np.float32)
    up = np.asarray(stand.up, np.float64)
    up = up / np.linalg.norm(up)
    for row, segment, recognition, agreed in zip(rows, segments, recognitions, agreement, strict=True):
        elevation = distance = 0.0
        if stand.viewpoint is not None and len(segment.points):
            towards = np.asarray(stand.viewpoint, np.float64) - segment.points.mean(0, dtype=np.float64)
            distance = float(np.linalg.norm(towards))
            elevation = float(np.arcsin(np.clip(towards @ up / max(distance, 1e-9), -1, 1)))
        row[:] = (
            version,
            agreed,
            recognition.familiarity,
            recognition.entropy,
            len(segment.points),
            elevation,
            distance,
        )
    return rows


def read_rows(image: Any) -> np.ndarray:
    """(B, W) float32 of a 32FC1 image, as features and evidence are published.

    Raises:
        ValueError: another encoding, or fewer bytes than its shape needs.
    """
    if image.encoding != "32FC1":
        raise ValueError(f"an image of features is 32FC1, but this one is {image.encoding}")
    order = ">" if image.is_bigendian else "<"
    content = np.frombuffer(bytes(image.data), np.uint8)
    needed = image.height * image.step
    if image.step < 4 * image.width or len(content) < needed:
        raise ValueError(
            f"an image of {image.height} × {image.width} numbers needs {needed} bytes in rows of at least "
            f"{4 * image.width}, but has {len(content)} in rows of {image.step}"
        )
    rows = content[:needed].reshape(image.height, image.step)[:, : 4 * image.width]
    return np.ascontiguousarray(rows).view(f"{order}f4").astype(np.float32).reshape(image.height, image.width)
