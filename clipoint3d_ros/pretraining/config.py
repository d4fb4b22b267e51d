"""One file a published model: everything that `pretrain` needs to make it again (`config/pretrain/*.yaml`)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

Section = TypeVar("Section")


@dataclass(frozen=True)
class CorpusConfig:
    """What is generated to learn from. Counts are objects or scenes; the held-out part is drawn with its own seed."""

    classes: str = "household"  # class file of config/classes
    frequent: tuple[str, ...] = ()  # classes that half of the tabletop scenes are made of
    complete: int = 200  # complete clouds a class
    tabletop_scenes: int = 3000
    floor_scenes: int = 800
    points: int = 2048  # kept of each cloud
    min_points: int = 150  # returns below which an object is left out; of a lidar's, corpus.LIDAR_MIN_POINTS
    sensors: tuple[str, ...] = ("kinect", "realsense", "tof")  # that see tabletops; empty: no such scenes
    # That see floors. A lidar's rings leave too little of a cup to tell it from a tin, but enough of a chair.
    floor_sensors: tuple[str, ...] = ("kinect", "realsense", "tof", "lidar")
    faults: float = 0.25  # share of the seen objects whose segment has a segmenter's fault
    min_visible: float = 0.3  # share of its silhouette in sight below which an object is left out
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The small CLIP. Lengths are in tokens, sizes in pixels."""

    embed_dim: int = 256
    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 192
    vision_layers: int = 6
    vision_head_width: int = 32
    stem: tuple[int, ...] = (32, 64, 128)  # channels of each halving; empty keeps the linear patch embedding
    stem_blocks: int = 0  # residual blocks after each halving but the first
    size_token: bool = True  # a token that says how large the object is
    context_length: int = 32
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained."""

    steps: int = 6000
    objects: int = 48  # a step, shared evenly by the processes
    views: int = 4  # an object
    tokens: int = 36  # occupied patches kept of a view while training
    learning_rate: float = 1.2e-3
    warmup: int = 300  # steps
    weight_decay: float = 0.05
    ema: float = 0.998  # decay a step
    complete_share: float = 0.3  # of the objects of a step that are complete clouds
    frequent_share: float = 0.4  # of the objects of a step that are of the corpus's frequent classes
    captions: int = 48  # objects of a step that are compared with captions of their own, shared evenly by the processes
    caption_weight: float = 0.3  # of the loss that tells attributes apart
    rear_views: float = 0.12  # how likely a view from behind a camera's cloud is drawn, against 1 of a facing one
    cut_share: float = 0.2  # of the clouds of which a part is missing
    unknown_size: float = 0.15  # share of the objects whose size is withheld
    precision: str = "bf16"  # bf16 or fp32
    seed: int = 0
    checkpoint_every: int = 200  # steps

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"training.precision is '{self.precision}'; it must be bf16 or fp32")


@dataclass(frozen=True)
class PretrainConfig:
    """A published model.

    name: the folder it is published in.
    synonyms: of class names, used in a quarter of the captions.
    """

    name: str
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)


def load_pretrain_config(path: str | Path, changes: Sequence[str] = ()) -> PretrainConfig:
    """Read a model's configuration.

    Args:
        path: the YAML file.
        changes: "section.key=value" each, the value as in YAML, to try the recipe with a part taken out.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a key that does not exist, or a value of another type; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no pretraining configuration at {path}; config/pretrain holds the published ones")
    content = _read(path)
    if not isinstance(content.get("name"), str):
        raise ValueError(f"{path} must be a mapping with the model's 'name'")
    name, synonyms = content.pop("name"), _synonyms(content.pop("synonyms", None) or {}, path)
    sections = _sections(
        content, {"corpus": CorpusConfig, "model": ModelConfig, "training": TrainingConfig}, changes, path
    )
    return PretrainConfig(name, sections["corpus"], sections["model"], sections["training"], synonyms)


def read_sections(path: Path, kinds: Mapping[str, type], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Dataclasses from a YAML file that has one section for each, all of whose keys have defaults.

    Args:
        path: the file.
        kinds: {section: dataclass}.
        changes: "section.key=value" each, the value as in YAML.

    Raises:
        ValueError: a section or key that does not exist, or a value of another type; the message names it.
    """
    return _sections(_read(path), kinds, changes, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping, but it is {type(content).__name__}")
    return content


def _sections(content: dict, kinds: Mapping[str, type], changes: Sequence[str], path: Path) -> dict[str, Any]:
    foreign = content.keys() - kinds.keys()
    if foreign:
        raise ValueError(f"{path} has unknown keys {sorted(map(str, foreign))}; sections are {', '.join(kinds)}")
    for name, section in content.items():
        if not isinstance(section, dict | None):
            raise ValueError(f"'{name}' of {path} must be a mapping, but it is {section!r:.120}")
    for change in changes:
        _change(content, change, kinds)
    return {name: _section(kind, content.get(name) or {}, path) for name, kind in kinds.items()}


def fingerprint(*sections: Any) -> str:
    """A short hash of configuration dataclasses, for cache folders and to refuse a foreign checkpoint."""
    told = json.dumps([dataclasses.asdict(s) if dataclasses.is_dataclass(s) else s for s in sections], sort_keys=True)  # type: ignore[arg-type]
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _change(content: dict, change: str, kinds: Mapping[str, type]) -> None:
    place, equals, value = change.partition("=")
    section, dot, key = place.partition(".")
    if not (equals and dot and key and section in kinds):
        raise ValueError(f"'{change}' is no change; write it as training.steps=800; sections are {', '.join(kinds)}")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"'{value}' of the change '{change}' is no YAML value") from None
    content[section] = {**(content.get(section) or {}), key: read}


def _synonyms(content: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise ValueError(f"'synonyms' of {path} must map class names to lists of words, but it is {content!r:.120}")
    return {str(name): tuple(str(v) for v in words) for name, words in content.items()}


def _section(kind: type[Section], content: dict, path: Path) -> Section:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise ValueError(f"{path} has unknown key '{key}'; known are {', '.join(fields)}")
        default = fields[key].default
        if default is None and value is None:
            continue
        wanted = float if default is None else type(default)  # a key that may be none is a number
        if wanted is tuple and isinstance(value, list):
            value = tuple(value)
        if wanted is float:
            value = _number(value)
        if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
            raise ValueError(f"'{key}' of {path} must be {wanted.__name__}, but it is {value!r}")
        values[key] = value
    return kind(**values)


def _number(value: Any) -> Any:
    """A float of what means one: YAML takes 1e-3, which has no point, for a word."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
