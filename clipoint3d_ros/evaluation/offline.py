"""The perception node's pipeline over bags, without ROS: the same reading, the same classifier, the same settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from clipoint3d_ros.evaluation.answers import Answer, FrameAnswer, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.nodes.frames import standpoint
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.pointcloud import read_segments
from clipoint3d_ros.recognition.recognition import Recognition


class Recogniser(Protocol):
    """What is asked of the classifier."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def version(self) -> int: ...

    def classify(
        self, clouds: list[np.ndarray], up: Any = (0, 0, 1), viewpoint: Any = None
    ) -> Sequence[Recognition]: ...


def replay_offline(
    bags: Sequence[LabelledBag],
    classifier: Recogniser,
    config: PerceptionConfig,
    told: Callable[[int], object] = lambda frames: None,
) -> Replayed:
    """Answer every cloud of the bags.

    Args:
        bags: replayed one after another.
        classifier: made with `config.classifier` and the classes of `config`.
        config: the node's parameters; frames looked up through TF are not to be had here.
        told: called with the number of frames done since the last call.

    Returns:
        The answers, with an adapter's beside the frozen model's; a cloud the node would refuse has none. Latency is
        reading and classifying.
    """
    frozen, adapted = {}, {}
    for number, bag in enumerate(bags):
        for cloud in bag.clouds():
            start = time.monotonic()
            try:
                recognitions = _recognise(bag.decode(cloud), classifier, config)
            except CloudError:
                recognitions = None  # the node warns, publishes nothing and goes on
            if recognitions is not None:
                key, latency = FrameKey(number, cloud.stamp), time.monotonic() - start
                own = {name: answer.frozen or answer for name, answer in recognitions.items()}
                frozen[key] = FrameAnswer(_best(own), latency)
                adapted[key] = FrameAnswer(_best(recognitions), latency, classifier.version)
            told(1)
    return Replayed(tuple(classifier.classes), frozen, adapted if classifier.version else None)


def _recognise(cloud: Any, classifier: Recogniser, config: PerceptionConfig) -> dict[str, Recognition]:
    """{segment id: recognition} of a cloud."""
    stand = standpoint(cloud.header.frame_id, cloud.header.stamp, config.frames)
    segments = read_segments(cloud, config.segments)
    if not segments:
        return {}
    recognitions = classifier.classify([s.points for s in segments], up=stand.up, viewpoint=stand.viewpoint)
    return {segment.id: recognition for segment, recognition in zip(segments, recognitions, strict=True)}


def _best(recognitions: Mapping[str, Recognition]) -> dict[str, Answer]:
    best = {name: recognition.top(1)[0] for name, recognition in recognitions.items()}
    return {name: Answer(label, min(max(score, 0.0), 1.0)) for name, (label, score) in best.items()}
