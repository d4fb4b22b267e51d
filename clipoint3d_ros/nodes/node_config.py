"""Parameters that several nodes have, in one sense: a node's configuration begins from one of these.

A node's own come first in its file and in the documentation, what it shares with others after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipoint3d_ros.nodes.frames import FrameConfig
from clipoint3d_ros.nodes.parameters import ParameterError, parameter

SHARED_NAMES = ("min_points", "max_age_s")  # several nodes have them, in a sense of their own


def stable_ids() -> Any:
    """The parameter of that name, of nodes that follow segments by whatever segmenter."""
    return parameter(
        False,
        "whether a segment's id is its object's as long as that is in sight, and no other's within a minute, so that "
        "objects are known again by it wherever they are; the launch file says so of its own segmenter",
        left_open=True,
    )


@dataclass(frozen=True)
class NodeConfig:
    """What every node has."""

    autostart: bool = parameter(True, "configure and activate at start, without a lifecycle manager", live=False)
    warning_period_s: float = parameter(10.0, "equal warnings are logged once in so long", unit="s", low=0, high=3600)
    error_after_s: float = parameter(
        30.0,
        "diagnostics warn of a trouble at once, and call it an error once it has lasted for so long; 0: never",
        unit="s",
        low=0,
        high=86400,
    )
    fixed_frame: str = parameter(
        "", "tf frame, such as odom, in which objects stand still while the sensor moves; empty: the cloud's frame"
    )
    tf_timeout_s: float = parameter(0.2, "how long a cloud waits for its transform", unit="s", low=0, high=10)


@dataclass(frozen=True)
class CloudNodeConfig(NodeConfig):
    """What nodes that take clouds have as well: where up and the sensor are, and what is wrong with a stream."""

    up: tuple[float, ...] = parameter(
        (0.0, 0.0, 1.0),
        "direction against gravity in the cloud's frame, unless gravity_frame is set; a camera's optical frame that "
        "looks ahead has [0.0, -1.0, 0.0]",
        length=(3,),
    )
    viewpoint: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0),
        "where the sensor stood in the cloud's frame, unless sensor_frame is set; empty: unknown to perception, the "
        "frame's origin to the segmenter",
        unit="m",
        length=(0, 3),
    )
    gravity_frame: str = parameter("", "tf frame whose z axis points up, such as base_link; empty: use up")
    sensor_frame: str = parameter("", "tf frame whose origin is the sensor; empty: use viewpoint")
    max_age_s: float = parameter(
        0.0,
        "clouds whose stamp is older by the node's clock, /clock where use_sim_time is set, are counted and skipped; "
        "0: any age, as bags without /clock and sensors with a clock of their own need it",
        unit="s",
        low=0,
        high=86400,
    )
    silence_s: float = parameter(
        5.0,
        "warn when clouds are announced but none arrived, or arrive but none was answered, for so long; 0: never",
        unit="s",
        low=0,
        high=3600,
    )
    latency_limit_ms: float = parameter(
        0.0,
        "warn when a cloud takes longer; 0: never, since a model slower than its sensor is meant to answer the newest "
        "cloud",
        unit="ms",
        low=0,
        high=600000,
    )

    def check(self) -> None:
        """Raises ParameterError for what a field's own limits cannot tell."""
        if not any(self.up):
            raise ParameterError("'up' is all zero; it must point against gravity, such as [0.0, 0.0, 1.0]")

    @property
    def frames(self) -> FrameConfig:
        return FrameConfig(self.up, self.viewpoint, self.gravity_frame, self.sensor_frame)
