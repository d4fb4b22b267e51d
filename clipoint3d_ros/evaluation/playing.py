"""How bags are to be answered, through the nodes or without ROS, in plain words that another process understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from clipoint3d_ros.evaluation.answers import Replayed
from clipoint3d_ros.evaluation.bags import LabelledBag, Topics
from clipoint3d_ros.evaluation.node_process import ReplayError
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

if TYPE_CHECKING:
    from clipoint3d_ros.evaluation.replay import ReplayConfig
    from clipoint3d_ros.recognition.classifier import Classifier


@dataclass(frozen=True)
class Playing:
    """All that decides what is answered, but the bags.

    parameters: of the perception node. classes: the names its answers choose from. topics: of the bags.
    offline: the same pipeline without ROS, for which the rest says nothing.
    adapt: "off", or the mode of an adaptation node beside perception.
    wait: the next cloud after the answer, instead of at `rate` times the bag's pace. timeout: seconds for one answer.
    namespace: where others see the nodes' topics; "": nowhere. companion: parameters of the adaptation node.
    """

    parameters: Mapping[str, Any]
    classes: tuple[str, ...]
    topics: Topics = field(default_factory=Topics)
    offline: bool = False
    adapt: str = "off"
    wait: bool = False
    rate: float = 1.0
    timeout: float = 30.0
    namespace: str = ""
    companion: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> PerceptionConfig:
        """The node's configuration."""
        return build(PerceptionConfig, dict(self.parameters))


def play(
    bags: Sequence[LabelledBag], playing: Playing, told: Callable[[int], object] = lambda frames: None
) -> Replayed:
    """The answers to bags, played one after another to the same nodes.

    Args:
        told: called with the number of frames sent since the last call.

    Raises:
        ReplayError: the nodes do not start, do not answer or end, or ROS is not installed.
    """
    if playing.offline:
        from clipoint3d_ros.evaluation.offline import replay_offline

        return replay_offline(bags, _classifier(yaml.safe_dump(dict(playing.parameters))), playing.config, told)
    try:
        from clipoint3d_ros.evaluation.replay import replay
    except ImportError as error:
        raise ReplayError(without_ros(error)) from None
    return replay(bags, playing.classes, playing.parameters, pace(playing), told)


def pace(playing: Playing) -> ReplayConfig:
    """The same as the replay through the nodes takes it; ImportError where ROS is not installed."""
    from clipoint3d_ros.evaluation.replay import ReplayConfig

    return ReplayConfig(
        adapt=playing.adapt,
        wait=playing.wait,
        rate=playing.rate,
        timeout=playing.timeout,
        namespace=playing.namespace,
        companion=playing.companion,
    )


def without_ros(error: ImportError) -> str:
    """What to do where ROS cannot be imported."""
    return (
        f"the replay needs ROS 2 with vision_msgs ({error}); run `make setup`, source your ROS installation, "
        "or evaluate with --offline"
    )


def forget_model() -> None:
    """Let go of the model that offline playing keeps from bag to bag."""
    _classifier.cache_clear()


@lru_cache(maxsize=1)
def _classifier(parameters: str) -> Classifier:
    """Of the parameters as YAML; a process that answers bag after bag loads it once."""
    from clipoint3d_ros.recognition.classifier import Classifier

    config = build(PerceptionConfig, yaml.safe_load(parameters))
    return Classifier.load(
        bundle=config.bundle or None,
        backbone=config.backbone or None,
        pretrained=config.pretrained or None,
        classes=config.class_source,
        device=config.device or None,
        config=config.classifier,
        patches=config.patches,
    )
