"""How objects are looked at and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.recognition.onnx_tower import RUNTIMES
from clipoint3d_ros.recognition.precision import PRECISIONS

SELECTIONS = ("auto", "sensor", "entropy", "all")


@dataclass(frozen=True)
class ClassifierConfig:
    """Of a classifier; each field says what it is."""

    points: int = 1024  # points of each object after resampling
    resampling: str = "random"  # random (a fixed subset) or farthest
    selection: str = "auto"  # sensor, entropy or all; auto is sensor where the viewpoint is known, else entropy
    unknown_below: float = 0.0  # best class's score in [0, 1] below which the answer is "unknown"
    unknown_below_class: tuple[tuple[str, float], ...] = ()  # (class, the same in place of it where that is the best)
    max_views: int = 640  # views of one pass through the tower: the memory cap
    min_points: int = 16  # finite points below which the answer is "unknown"
    temperature: float | None = None  # divides logits; None takes the backbone's own
    runtime: str = "torch"  # of the vision tower: torch, or onnxruntime
    precision: str = "fp32"  # of the tower's blocks: fp32, bf16, fp16; auto measures what is quickest here
    graphs: bool = False  # on a CUDA device: the tower's blocks recorded by size of pass, and played back
    first_views: int = 0  # views looked at first, the rest only of objects still in doubt; 0 looks at all at once
    sure_below: float = 0.3  # share of log C; first views of a lower entropy that agree leave no doubt

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection '{self.selection}' is none of {', '.join(SELECTIONS)}")
        if self.runtime not in RUNTIMES:
            raise ValueError(f"runtime '{self.runtime}' is none of {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision '{self.precision}' is none of {', '.join(PRECISIONS)}")
        if not 0 <= self.first_views <= 10:
            raise ValueError(f"first_views must be 0 to 10, but it is {self.first_views}: there are ten views")
        if not 0 <= self.sure_below <= 1:
            raise ValueError(f"sure_below must lie in [0, 1], but it is {self.sure_below}")
        if self.points < 1 or self.max_views < 1 or self.min_points < 1:
            raise ValueError("points, max_views and min_points must be at least 1")
        if not 0 <= self.unknown_below <= 1:
            raise ValueError(f"unknown_below must lie in [0, 1], but it is {self.unknown_below}")
        for name, value in self.unknown_below_class:
            if not 0 <= value <= 1:
                raise ValueError(f"unknown_below_class must lie in [0, 1], but for '{name}' it is {value}")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, but it is {self.temperature}")


def thresholds(config: ClassifierConfig, classes: Sequence[str]) -> np.ndarray:
    """(C,) the score below which each class's answer is "unknown".

    Raises:
        ValueError: the configuration names a class that is not served.
    """
    own = dict(config.unknown_below_class)
    wrong = [f"'{name}'" for name in own if name not in classes]
    if wrong:
        raise ValueError(
            f"unknown_below_class names {', '.join(wrong)}, but the classes are {', '.join(classes)}; leave it out, or "
            "set both together"
        )
    return np.array([own.get(name, config.unknown_below) for name in classes])
