"""The perception node's pipeline over bags, without ROS: the same reading, the same classifier, the same settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
        The answers; a cloud the node would refuse has none. Latency is reading and classifying.
    """
    answers = {}
    for number, bag in enumerate(bags):
        for cloud in bag.clouds():
            start = time.monotonic()
            try:
                objects = _answer(bag.decode(cloud), classifier, config)
            except CloudError:
                objects = None  # the node warns, publishes nothing and goes on
            if objects is not None:
                answers[FrameKey(number, cloud.stamp)] = FrameAnswer(objects, time.monotonic() - start)
            told(1)
    return Replayed(tuple(classifier.classes), answers)


def _answer(cloud: Any, classifier: Recogniser, config: PerceptionConfig) -> dict[str, Answer]:
    stand = standpoint(cloud.header.frame_id, cloud.header.stamp, config.frames)
    segments = read_segments(cloud, config.segments)
    if not segments:
        return {}
    recognitions = classifier.classify([s.points for s in segments], up=stand.up, viewpoint=stand.viewpoint)
    best = [recognition.top(1)[0] for recognition in recognitions]
    return {
        segment.id: Answer(label, min(max(score, 0.0), 1.0))
        for segment, (label, score) in zip(segments, best, strict=True)
    }
