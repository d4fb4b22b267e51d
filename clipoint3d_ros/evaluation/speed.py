"""How much faster one model is than another on the same processor: on one thread, in one run, by turns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch

from clipoint3d_ros.clip.backbone import Backbone, Preprocessing, usable_device
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.tower import check_tower
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

REFERENCE = "ViT-B-16"


def reference_backbone() -> Backbone:
    """ViT-B-16 with random weights: time does not depend on what they are."""
    return random_backbone(REFERENCE, "cpu")


def random_backbone(name: str, device: str | torch.device | None = None) -> Backbone:
    """An architecture of open_clip's with random weights, the same at every call.

    Raises:
        ValueError: an unknown architecture, a tower this package cannot run, or a device that is not here.
    """
    place = usable_device(device)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns of random weights, which are what is wanted
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(name, pretrained=None).eval().requires_grad_(False)
    finally:
        logging.disable(before)
    check_tower(model.visual, name)
    default = open_clip.transform.PreprocessCfg()
    size = model.visual.image_size
    look = Preprocessing(size if isinstance(size, int) else size[0], tuple(default.mean), tuple(default.std))
    return Backbone(f"{name} (random)", model.to(place), open_clip.get_tokenizer(name), look, checksum="")


def compare(backbone: Backbone, reference: Backbone, cloud: np.ndarray, rounds: int = 7) -> dict[str, Any]:
    """Time to recognise one object with ten views, from points to probabilities.

    Args:
        backbone: on the CPU.
        reference: what it is compared with, on the CPU.
        cloud: (N, 3) metres.
        rounds: of one object each, by turns, after one that is not counted.

    Returns:
        `ratio` of the medians, reference / model; `model_ms`, `reference_ms` the medians; `reference` its name;
        `rounds`.
    """
    turns = [_recognition(b, cloud) for b in (backbone, reference)]
    with _one_thread():
        for turn in turns:
            turn()
        times = [[_seconds(turn) for turn in turns] for _ in range(rounds)]
    own, other = (1000 * median(column) for column in zip(*times, strict=True))
    return {
        "ratio": other / own,
        "model_ms": own,
        "reference_ms": other,
        "reference": reference.name,
        "rounds": rounds,
    }


def _recognition(backbone: Backbone, cloud: np.ndarray) -> Callable[[], object]:
    classifier = Classifier(backbone, describe(["box", "can"]), ClassifierConfig(selection="all"))
    return lambda: classifier.classify([cloud], up=(0, 1, 0))


def _seconds(turn: Callable[[], object]) -> float:
    start = time.perf_counter()
    turn()
    return time.perf_counter() - start


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
