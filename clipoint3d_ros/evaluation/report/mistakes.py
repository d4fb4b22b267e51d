"""The objects an evaluation went wrong on: which, and what the model saw of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import FrameKey
from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.outcomes import Outcomes, Scored
from clipoint3d_ros.geometry.clouds import CloudError, finite_points, level, normalise, resample
from clipoint3d_ros.geometry.views import DepthViews, view_directions
from clipoint3d_ros.nodes.frames import standpoint
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.pointcloud import read_segments
from clipoint3d_ros.recognition.selection import facing_weights

MOST = 16
TILE = 88  # pixels a view
_PALE = 0.25  # of a view that had no say


class Look(NamedTuple):
    """What the model saw of an object.

    images: (V, H, W) in [0, 1], background 1, the views that count most first. weights: (V,) how much each counts
    before the model has seen any; 0 for views of the side the sensor did not see.
    """

    images: np.ndarray
    weights: np.ndarray


class Segment(NamedTuple):
    """Where an object is to be found again: its frame, and its id in the cloud ("" where the cloud is the object)."""

    frame: FrameKey
    id: str


def confident_mistakes(found: Outcomes, most: int = MOST) -> list[Scored]:
    """The objects that the model that served named wrongly, most confident first."""
    served = found.served
    return _first(found, (served.named != found.truth) & (served.named != metrics.NONE), most)


def broken(found: Outcomes, most: int = MOST) -> list[Scored]:
    """The objects that the frozen model names rightly and the adapter wrongly, most confident first; none without."""
    if found.adapted is None:
        return []
    return _first(found, found.right("frozen") & ~found.right("adapted"), most)


def place(one: Scored) -> Segment:
    """Where a scored object is to be found again."""
    whole = one.frame.segments == {""} and len(one.frame.objects) == 1
    return Segment(one.frame.key, "" if whole else one.object.id)


def looks(wanted: Sequence[Scored], bags: Sequence[LabelledBag], config: PerceptionConfig) -> dict[Segment, Look]:
    """The depth views of objects, rendered again from the bags; an object whose cloud cannot be read has none."""
    places = {place(one) for one in wanted}
    return {key: _look(points, towards, config) for key, points, towards in _segments(places, bags, config)}


def strip(look: Look) -> Image.Image:
    """The views side by side as one grey picture; those that had no say are pale.

    Returns:
        (V · TILE, TILE) pixels.
    """
    said = np.where(look.weights > 0, 1.0, _PALE)[:, None, None]
    side = np.concatenate(list(1 - (1 - look.images) * said), 1)
    return Image.fromarray(np.clip(side * 255, 0, 255).astype(np.uint8))


def _first(found: Outcomes, chosen: np.ndarray, most: int) -> list[Scored]:
    places = np.flatnonzero(chosen)
    order = np.argsort(-found.served.score[places], kind="stable")
    return [found.scored[i] for i in places[order][:most]]


def _segments(
    places: set[Segment], bags: Sequence[LabelledBag], config: PerceptionConfig
) -> Iterator[tuple[Segment, np.ndarray, np.ndarray | None]]:
    """Each wanted object with its (N, 3) float32 points, y up and the sensor's azimuth at +z, and the (3,) unit vector
    to the sensor in that frame, None where it is not known."""
    frames = {key.frame for key in places}
    for number, bag in enumerate(bags):
        if number not in {frame.bag for frame in frames}:
            continue
        for cloud in bag.clouds():
            frame = FrameKey(number, cloud.stamp)
            if frame not in frames:
                continue
            try:
                message = bag.decode(cloud)
                stand = standpoint(message.header.frame_id, message.header.stamp, config.frames)
                segments = read_segments(message, config.segments)
            except CloudError:
                continue
            for segment in segments:
                points = finite_points(segment.points)
                if (key := Segment(frame, segment.id)) in places and len(points):
                    eye = _towards(stand.viewpoint, points)
                    turn = level(stand.up, eye)
                    yield key, (points @ turn.T).astype(np.float32), None if eye is None else turn @ eye


def _look(points: np.ndarray, towards: np.ndarray | None, config: PerceptionConfig) -> Look:
    cloud = normalise(resample([points], config.points, config.resampling, torch.device("cpu")))
    images = DepthViews(size=TILE)(cloud)[0].numpy()
    weights = np.full(len(images), 1 / len(images))
    if towards is not None and config.selection in ("auto", "sensor"):
        directions = torch.from_numpy(view_directions()).float()
        weights = facing_weights(torch.from_numpy(towards).float()[None], directions)[0].numpy()
    order = np.argsort(-weights, kind="stable")
    return Look(images[order], weights[order])


def _towards(viewpoint: np.ndarray | None, points: np.ndarray) -> np.ndarray | None:
    """(3,) unit vector from an object to the sensor; None where that is not known or inside the object."""
    if viewpoint is None:
        return None
    towards = viewpoint - points.mean(0, dtype=np.float64)
    distance = float(np.linalg.norm(towards))
    return towards / distance if distance > 1e-6 else None
