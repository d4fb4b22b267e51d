"""What a robot's adaptation starts from and is judged by: labelled source objects through the frozen model, as a
sensor like the robot's would see them. Gathered once; kept on disk, because the frozen model does not change."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipoint3d_ros.adaptation.clouds import Clouds, levelled, scanned, worn
from clipoint3d_ros.adaptation.probing import Probe, gain, look_over
from clipoint3d_ros.adaptation.statistics import fused, of_source, of_words
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.datasets.objects import LacksClasses, Objects, few_shot
from clipoint3d_ros.pretraining.config import fingerprint
from clipoint3d_ros.recognition.calibration import fit_temperature

_FORMAT = 3
_PROBE = ("logits", "features", "labels")  # the tensors of a probe


@dataclass(frozen=True)
class ReferenceConfig:
    """How the source is looked at.

    The robot's own viewpoints are not known before it has driven: complete objects are seen from places drawn here.
    """

    shots: int = 64  # labelled source objects a class
    probe: int = 16  # further ones a class, for the guard
    looks: int = 4  # at each of them
    points: int = 1024  # of each cloud
    elevation: tuple[float, float] = (10.0, 65.0)  # degrees of the sensor above an object's horizon
    distance: tuple[float, float] = (0.4, 1.8)  # metres from the sensor to an object
    misshape: float = 0.25  # as in `training`
    cut_share: float = 0.5  # as in `training`
    certain: float = 3.0  # standard errors by which the statistics must gain on the probe set; else words alone answer
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.shots, self.probe, self.looks, self.points) < 1:
            raise ValueError("shots, probe, looks and points of the reference must be at least 1")
        for name in ("elevation", "distance"):
            low, high = getattr(self, name)
            if not low <= high or (name == "distance" and not low > 0):
                raise ValueError(f"{name} of the reference must be (low, high), but is ({low}, {high})")


@dataclass(frozen=True)
class Reference:
    """The frozen model's view of the source.

    statistics: of the classes, weighed against the words on the probe set.
    helpful: whether they gain there for certain; where not, words alone answer until the robot has learned better.
    probe: what the words say of labelled objects that the statistics are not of; logits (M, C) at temperature 1. None
        where the source has none of some classes.
    temperature: that calibrates the words on the probe set.
    missing: why there is no probe set, in words; "" where there is one.
    """

    statistics: ClassStatistics
    helpful: bool
    probe: Probe | None
    temperature: float
    missing: str = ""


def gather_reference(
    backbone: Backbone, classes: Descriptions, source: Objects, config: ReferenceConfig | None = None
) -> Reference:
    """Look at a labelled source with the frozen model.

    Args:
        source: objects of every class, `shots` + `probe` of each or fewer; complete, or as a sensor saw them.

    Raises:
        LacksClasses: a class of fewer than two objects.
    """
    config = config or ReferenceConfig()
    shots, held = split_source(source, classes, config)
    learned = look_over(None, backbone, classes, as_seen(shots, config, config.seed))
    probe = look_over(None, backbone, classes, as_seen(held, config, config.seed + 1))
    statistics = of_source(learned, probe, len(classes.names))
    rise, error = gain(probe, fused(probe, statistics))
    return Reference(statistics, rise > config.certain * error, probe, fit_temperature(probe.logits, probe.labels))


def words_alone(text: Tensor, scale: float, temperature: float, missing: str) -> Reference:
    """The reference where the source lacks classes: the words are the anchor, and there is nothing to be judged by.

    Args:
        text: (C, D) class features of the words. scale: of their logits, at temperature 1.
        temperature: that the frozen model answers with. missing: why there is no probe set, in words.
    """
    return Reference(of_words(text, scale, temperature), False, None, temperature, missing)


def split_source(source: Objects, classes: Descriptions, config: ReferenceConfig) -> tuple[Objects, Objects]:
    """Objects to learn from, and others to be judged by.

    Raises:
        LacksClasses: a class of fewer than two objects.
    """
    numbers = np.random.default_rng(config.seed)
    labels = source.labelled().labels
    counts = np.bincount(labels, minlength=len(classes.names))
    if counts.min() < 2:
        poorest = classes.names[int(counts.argmin())]
        raise LacksClasses(
            f"{source.domain} has {int(counts.min())} objects of class {poorest}; the reference needs at least 2 of "
            "each, one to learn from and one to be judged by"
        )
    shots, rest = few_shot(source, np.minimum(config.shots, counts - np.maximum(counts // 5, 1)), numbers)
    held, _ = few_shot(rest, config.probe, numbers)
    return shots, held


def kept_reference(
    folder: Path,
    backbone: Backbone,
    classes: Descriptions,
    source: Callable[[], Objects],
    told: str,
    config: ReferenceConfig,
) -> Reference:
    """The reference kept in a folder, or gathered and written there where it is missing or damaged.

    Args:
        folder: of references of any model, classes, source and setting, a file each.
        source: reads the labelled objects, where they are needed. told: which they are.

    Raises:
        LacksClasses: the source has too few objects of some class.
    """
    identity = fingerprint(_FORMAT, backbone.checksum, asdict(backbone.preprocessing), classes, told, asdict(config))
    path = folder / f"{identity}.safetensors"
    stored = _read(path, identity, len(classes.names), backbone.visual.output_dim)
    if stored is not None:
        return stored
    reference = gather_reference(backbone, classes, source(), config)
    with suppress(OSError, SafetensorError):  # a full disk costs the gathering next time, and nothing now
        _write(path, identity, reference)
    return reference


def as_seen(objects: Objects, config: ReferenceConfig, seed: int) -> Clouds:
    """Clouds of objects as a sensor like the robot's sees them: `looks` at each complete one of known size, from places
    drawn with the seed; the same seed gives the same clouds."""
    clouds = levelled(objects, 2 * config.points)
    if clouds.scannable:
        clouds = scanned(clouds, viewpoints(config, seed), config.looks, seed, config.misshape)
    return worn(clouds, config.points, config.cut_share, seed)


def viewpoints(config: ReferenceConfig, seed: int, count: int = 256) -> Clouds:
    """Clouds of one point each, for the places they are seen from: elevation uniform, the distance's logarithm too."""
    rng = np.random.default_rng((seed, count))
    elevation = np.radians(rng.uniform(*config.elevation, count)).astype(np.float32)
    distance = np.exp(rng.uniform(math.log(config.distance[0]), math.log(config.distance[1]), count)).astype(np.float32)
    return Clouds(
        torch.zeros(count, 1, 3),
        torch.full((count,), -1),
        torch.ones(count, dtype=torch.bool),
        torch.from_numpy(elevation),
        torch.from_numpy(distance),
        metric=True,
    )


def _tensors(reference: Reference) -> dict[str, Tensor]:
    parts = {f"statistics.{k}": v for k, v in vars(reference.statistics).items()}
    parts |= {f"probe.{k}": getattr(reference.probe, k) for k in _PROBE}
    return {name: part.contiguous() for name, part in parts.items()}


def _write(path: Path, identity: str, reference: Reference) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"identity": identity, "helpful": reference.helpful, "temperature": reference.temperature}
    told["looks"] = 0 if reference.probe is None else reference.probe.looks
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(_tensors(reference), beside, metadata={"reference": json.dumps(told)})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path, identity: str, classes: int, width: int) -> Reference | None:
    """What the file holds; None where it is not there, damaged, or of another model, source or setting."""
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {}).get("reference", "{}"))
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if told.get("identity") != identity:
            return None
        statistics = ClassStatistics(**{k: parts[f"statistics.{k}"] for k in ClassStatistics.__annotations__})
        probe = Probe(**{k: parts[f"probe.{k}"] for k in _PROBE}, looks=int(told["looks"]))
        if statistics.mean.shape != (classes, width) or not all(bool(torch.isfinite(p).all()) for p in parts.values()):
            return None
        return Reference(statistics, bool(told["helpful"]), probe, float(told["temperature"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
