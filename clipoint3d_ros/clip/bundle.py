"""Bundles: an adapter on disk, its weights and all that they mean, as one folder that is whole or not there.

    bundle.json           format, versions, backbone and checksum, preprocessing, views, network, classes, probe figures
    adapter.safetensors   the network's trained parameters, and the classes' source statistics

Nothing is unpickled. A bundle is checked against the backbone it is to serve before anything is changed, and every
refusal names the difference.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipoint3d_ros.clip.backbone import Backbone, Card, activation_before, file_checksum
from clipoint3d_ros.clip.descriptions import Descriptions, checked_descriptions, describe, shown
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.clip.text import class_prompts
from clipoint3d_ros.geometry.views import ViewConfig

FORMAT = 3
META_FILE, WEIGHTS_FILE = "bundle.json", "adapter.safetensors"
_LARGEST_META, _LARGEST_WEIGHTS = 4 << 20, 2 << 30  # bytes; a hostile bundle must not fill a robot's memory
_LARGEST_HEADER = 1 << 20  # bytes of the weights' table of contents
_LARGEST_NUMBER = 1e6  # in statistics: features are of length 1, counts of what a robot meets
_KEYS: dict[str, Any] = {
    "format": int, "version": int, "parent": int, "backbone": dict, "preprocessing": dict, "views": dict,
    "network": dict, "classes": list, "descriptions": list, "template": str, "temperature": (int, float),
    "probe": dict, "training": dict, "weights": str,
}  # fmt: skip
_BACKBONE: dict[str, Any] = {"name": str, "pretrained": (str, type(None)), "checksum": str}
FROZEN_NETWORK = NetworkConfig(tuning="none", context=0)
_STATISTICS = ("mean", "covariance", "count", "weights", "known")
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.int64)


class BundleError(ValueError):
    """A bundle that cannot be served; the message says why and what to do."""


@dataclass(frozen=True)
class ClassStatistics:
    """Objects' features by class, through the adapted network: an object's is the weighted mean of its views' unit
    features, not made unit again.

    mean: (C, D). covariance: (D, D) around the means, shared by the classes. count: (C,) objects.
    weights: (2,) > 0, how much the words' logits and the log densities count in their sum.
    known: (1,) in [0, 1], the share of the objects met that are of any of the classes; one half says nothing.
    """

    mean: Tensor
    covariance: Tensor
    count: Tensor
    weights: Tensor
    known: Tensor = field(default_factory=lambda: torch.tensor([0.5]))


@dataclass(frozen=True)
class Adapter:
    """An adapted network ready for use, with what a bundle says of it.

    network: LoRA merged, in evaluation mode.
    classes: what it was trained for; it serves any.
    temperature: what its logits are divided by so that scores mean probabilities.
    version, parent: of the bundle, and of the one it came from; 0 is the frozen model.
    probe: figures on the labelled probe set. training: how it came about.
    """

    network: Network
    classes: Descriptions
    temperature: float
    version: int
    parent: int = 0
    probe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    statistics: ClassStatistics | None = None


def save_bundle(folder: str | Path, network: Network, frozen: Backbone, adapter: Adapter) -> Path:
    """Write a bundle whole, then rename it into place.

    A bundle already there stands aside until the new one has its name; whoever is killed in between leaves one of
    them for `load_bundle` to find.

    Args:
        folder: of the bundle.
        network: the network before the merge, whose parameters are kept.
        frozen: the backbone it was made from.
        adapter: everything else that is written.

    Raises:
        BundleError: the folder holds other things than a bundle, which would be lost.
    """
    tensors = {f"adapter.{k}": v for k, v in network.adapter().items()}
    if adapter.statistics is not None:
        tensors.update({f"statistics.{k}": getattr(adapter.statistics, k) for k in _STATISTICS})
    return _write(Path(folder), tensors, network.config, frozen.card, vars(adapter))


def save_statistics(
    folder: str | Path, card: Card, classes: Descriptions, statistics: ClassStatistics, temperature: float, **more: Any
) -> Path:
    """Write a bundle of class statistics alone, whose network is the frozen one; needs no weights at hand.

    Args:
        card: of the backbone.
        more: version, parent, probe and training, as an Adapter has them.

    Raises:
        BundleError: as `save_bundle`.
    """
    tensors = {f"statistics.{k}": getattr(statistics, k) for k in _STATISTICS}
    told = {"parent": 0, "probe": {}, "training": {}, "classes": classes, "temperature": temperature, **more}
    return _write(Path(folder), tensors, FROZEN_NETWORK, card, told)


def _write(
    folder: Path, tensors: Mapping[str, Tensor], network: NetworkConfig, card: Card, told: Mapping[str, Any]
) -> Path:
    folder = folder.resolve()  # a link stays, and "." has a name
    refuse_to_replace_others(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    save_file({name: part.detach().cpu().contiguous() for name, part in tensors.items()}, beside / WEIGHTS_FILE)
    (beside / WEIGHTS_FILE).chmod(0o644)
    classes: Descriptions = told["classes"]
    meta = {
        "format": FORMAT,
        "version": told["version"],
        "parent": told["parent"],
        "backbone": {
            "name": card.name,
            "pretrained": card.pretrained,
            "checksum": card.weights,
            "activation": card.activation,
        },
        "preprocessing": asdict(card.preprocessing),
        "views": asdict(ViewConfig()),
        "network": asdict(network),
        "classes": list(classes.names),
        "descriptions": [list(each) for each in classes.descriptions],
        "template": classes.template,
        "temperature": told["temperature"],
        "probe": dict(told["probe"]),
        "training": dict(told["training"]),
        "weights": file_checksum(beside / WEIGHTS_FILE),
    }
    (beside / META_FILE).write_text(json.dumps(meta, indent=1) + "\n")
    for path in (beside / WEIGHTS_FILE, beside / META_FILE, beside):
        to_disk(path)
    _replace(beside, folder)
    return folder


def read_meta(folder: str | Path) -> dict[str, Any]:
    """`bundle.json` of a bundle, checked for its keys and their types.

    Raises:
        BundleError: no bundle, another format, or keys missing, unknown or of another type.
    """
    try:
        path = _standing(Path(folder)) / META_FILE
        if not path.is_file():
            raise BundleError(
                f"'{folder}' is no bundle: it has no {META_FILE}; give the folder that `train --out` wrote"
            )
        _refuse_links(path)
        with path.open("rb") as file:
            content = file.read(_LARGEST_META + 1)
    except (OSError, RuntimeError, ValueError) as error:  # no name of a file, or links in a circle
        if isinstance(error, BundleError):
            raise
        said = getattr(error, "strerror", None) or error
        raise BundleError(f"bundle {shown(str(folder))} cannot be read: {said}") from error
    if len(content) > _LARGEST_META:
        raise BundleError(f"{path} has {path.stat().st_size} bytes; a bundle's description has at most {_LARGEST_META}")
    try:
        meta = json.loads(content.decode())
        json.dumps(meta, ensure_ascii=False).encode()  # half a surrogate pair could not even be logged
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        there = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
        raise BundleError(
            f"{path} is of format {shown(there)}, but this version reads format {FORMAT}; train the adapter again"
        )
    for kind, names in (("lacks", _KEYS.keys() - meta.keys()), ("has unknown", meta.keys() - _KEYS.keys())):
        if names:
            raise BundleError(f"{path} {kind} {', '.join(map(shown, sorted(names)[:5]))}; train the adapter again")
    for name, wanted in _KEYS.items():
        if not isinstance(meta[name], wanted) or isinstance(meta[name], bool):
            raise BundleError(f"'{name}' of {path} is {type(meta[name]).__name__}; the format wants another type")
    for name, wanted in _BACKBONE.items():
        if not isinstance(meta["backbone"].get(name, ...), wanted):
            raise BundleError(f"'backbone' of {path} has no '{name}' of the right type; train the adapter again")
    if not 0 < meta["version"] < 2**31:
        raise BundleError(f"'version' of {path} is {shown(meta['version'])}; versions are 1 to {2**31 - 1}")
    if not 0 <= meta["parent"] < 2**31:
        raise BundleError(f"'parent' of {path} is {shown(meta['parent'])}; it is a version, or 0 for the frozen model")
    if not 1e-3 < meta["temperature"] < 1e3:
        raise BundleError(
            f"'temperature' of {path} is {shown(meta['temperature'])}; it must lie between 0.001 and 1000"
        )
    return meta


def bundled_classes(folder: str | Path) -> Descriptions:
    """The classes a bundle was trained for, without its weights; errors as in `read_meta`."""
    return _classes(read_meta(folder), Path(folder))


def load_bundle(folder: str | Path, frozen: Backbone) -> Adapter:
    """An adapter ready for use, on the backbone's device.

    Args:
        folder: of the bundle.
        frozen: the backbone to serve it with; must be the one it was trained on.

    Raises:
        BundleError: a foreign, truncated or damaged bundle, or one of another backbone, preprocessing, projection or
            shape, or whose answers are not finite; the message names the difference.
    """
    return _load(folder, frozen)[0]


def load_network(folder: str | Path, frozen: Backbone) -> tuple[Network, Adapter]:
    """The network before its merge, to be trained further, beside what `load_bundle` gives; errors likewise."""
    adapter, network = _load(folder, frozen)
    return network, adapter


def _load(folder: str | Path, frozen: Backbone) -> tuple[Adapter, Network]:
    meta = read_meta(folder)
    place = _standing(Path(folder))
    check_backbone(meta, frozen.card, place)
    _check_same("preprocessing", meta["preprocessing"], asdict(frozen.preprocessing), place)
    _check_same("views", meta["views"], asdict(ViewConfig()), place)
    config = _network_config(meta["network"], place)
    tensors = _read_tensors(place / WEIGHTS_FILE)
    if file_checksum(place / WEIGHTS_FILE) != meta["weights"]:
        raise BundleError(
            f"{place / WEIGHTS_FILE} is not the one that {META_FILE} tells of: it was replaced while being read, or it "
            "is damaged; load it again, or copy the bundle again"
        )
    classes = _classes(meta, place)
    try:
        network = Network(frozen, config)
        network.load_adapter({k[8:]: v for k, v in tensors.items() if k.startswith("adapter.")})
        served = network.merged()
        _check_finite(served, frozen, classes)
    except ValueError as error:
        raise BundleError(f"bundle '{place}': {error}") from error
    adapter = Adapter(
        served,
        classes,
        float(meta["temperature"]),
        meta["version"],
        meta["parent"],
        meta["probe"],
        meta["training"],
        _statistics(tensors, len(classes.names), frozen.visual.output_dim, place),
    )
    return adapter, network


def _classes(meta: dict[str, Any], place: Path) -> Descriptions:
    try:
        return checked_descriptions(meta["classes"], meta["descriptions"], meta["template"], f"{place / META_FILE}")
    except ValueError as error:
        raise BundleError(f"bundle '{place}': {error}") from error


@torch.no_grad()
def _check_finite(network: Network, frozen: Backbone, classes: Descriptions) -> None:
    """Raises ValueError where finite weights overflow on the way to an embedding."""
    size = frozen.preprocessing.size
    cloud = torch.linspace(-1, 1, 3 * 64, device=frozen.device).reshape(1, 64, 3)
    view = torch.linspace(0, 1, size * size, device=frozen.device).reshape(1, size, size)
    seen = network.views(view, network.visual_prompts(cloud)[0], None)
    said = network.text(class_prompts(frozen, describe(classes.names[:1]), network.config.context))
    for what, embeddings in (("a view", seen), ("a class", said)):
        if not torch.isfinite(embeddings).all():
            raise ValueError(f"its answer to {what} is not finite, so its weights are damaged; train the adapter again")


def check_backbone(meta: dict[str, Any], frozen: Card, place: Path) -> None:
    """Raises BundleError where a bundle is of other weights, or of these with another activation."""
    trained = meta["backbone"]
    if trained["checksum"] != frozen.weights:
        raise BundleError(
            f"bundle '{place}' belongs to backbone '{trained['name']:.120}' with weights of checksum "
            f"{trained['checksum'][:12]}…, but this backbone is '{frozen.name}' with {frozen.weights[:12]}…; "
            "name the backbone it was trained on"
        )
    activation = trained.get("activation") or activation_before(trained["name"], trained["pretrained"])
    if activation not in (None, frozen.activation):
        raise BundleError(
            f"bundle '{place}' was trained on '{trained['name']:.120}' with activation {shown(activation)}, but this "
            f"backbone, '{frozen.name}' of the same weights, has {frozen.activation}; name the backbone it was trained "
            "on, or train the adapter again"
        )


def _check_same(what: str, stored: dict[str, Any], wanted: dict[str, Any], place: Path) -> None:
    wanted = json.loads(json.dumps(wanted))
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise BundleError(
                f"bundle '{place}' was trained with {what} '{key:.60}' = {shown(stored.get(key))}, but here it is "
                f"{wanted.get(key)!r}; serve it with what it was trained with"
            )


def _network_config(stored: dict[str, Any], place: Path) -> NetworkConfig:
    known = {f.name: type(f.default) for f in fields(NetworkConfig)}
    wrong = [k for k, v in stored.items() if k not in known or not _of_kind(v, known[k])]
    if wrong or known.keys() - stored.keys():
        named = ", ".join(f"{key:.60}" for key in sorted(wrong or known.keys() - stored.keys())[:5])
        raise BundleError(f"bundle '{place}' has a 'network' with {named} missing, unknown or of another type")
    try:
        return NetworkConfig(**stored)
    except ValueError as error:
        raise BundleError(f"bundle '{place}': {error}") from error


def _of_kind(value: Any, kind: type) -> bool:
    """Whether a number or a text is what a configuration wants; JSON may say 32 for 32.0."""
    if kind is float:
        return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e6)
    return type(value) is kind


def _refuse_links(path: Path) -> None:
    """A bundle is its own files: a link in it would read what its writer could not."""
    if path.is_symlink():
        raise BundleError(f"{path} is a link, but a bundle holds its files itself; copy the bundle with `cp -rL`")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BundleError(f"bundle '{path.parent}' has no {path.name}; it was not written whole, train again")
    _refuse_links(path)
    if path.stat().st_size > _LARGEST_WEIGHTS:
        raise BundleError(f"{path} has {path.stat().st_size} bytes; a bundle's weights have at most {_LARGEST_WEIGHTS}")
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            _check_names(names, path)
            tensors = {name: file.get_tensor(name) for name in names}
    except BundleError:
        raise
    except Exception as error:  # a hostile table of contents ends in errors of many types
        said = " ".join(str(error).split())[:200]
        raise BundleError(f"{path} is truncated or no safetensors file ({said}); copy the bundle again") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _NUMBERS:
            raise BundleError(f"{name} of {path} is {tensor.dtype}; a bundle's weights are torch.float32")
    return tensors


def _check_header(path: Path) -> None:
    """Before safetensors parses a table of contents of a hundred megabytes, which it would."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise BundleError(
            f"{path} is truncated or no safetensors file: its header claims {length} bytes, and {_LARGEST_HEADER} are "
            "the most; copy the bundle again"
        )


def _check_names(names: list[str], path: Path) -> None:
    statistics = {f"statistics.{name}" for name in _STATISTICS}
    foreign = [name for name in names if not name.startswith("adapter.") and name not in statistics]
    if foreign:
        raise BundleError(f"{path} has unknown tensors {', '.join(f'{name:.120}' for name in sorted(foreign)[:3])}")


def _statistics(tensors: dict[str, Tensor], classes: int, width: int, place: Path) -> ClassStatistics | None:
    found = {k: tensors[f"statistics.{k}"] for k in _STATISTICS if f"statistics.{k}" in tensors}
    if not found:
        return None
    wanted = {"mean": (classes, width), "covariance": (width, width), "count": (classes,)}
    wanted |= {"weights": (2,), "known": (1,)}
    for name, shape in wanted.items():
        if name not in found or tuple(found[name].shape) != shape or not torch.isfinite(found[name]).all():
            there = tuple(found[name].shape) if name in found else "missing"
            raise BundleError(f"bundle '{place}': statistics '{name}' is {there}, but must be finite and {shape}")
    if max(float(part.double().abs().max()) for part in found.values()) > _LARGEST_NUMBER:
        raise BundleError(f"bundle '{place}': statistics beyond {_LARGEST_NUMBER:g}, so it is damaged; train it again")
    covariance = found["covariance"].double()
    if not torch.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6):
        raise BundleError(f"bundle '{place}': its covariance is not symmetric, so it is damaged; train it again")
    lowest = float(torch.linalg.eigvalsh(covariance).min())
    if lowest < -1e-6 or (found["weights"] < 0).any() or (found["count"] < 0).any():
        raise BundleError(f"bundle '{place}': statistics with negative variances, weights or counts; train it again")
    if not 0 <= float(found["known"]) <= 1:
        raise BundleError(
            f"bundle '{place}': statistics 'known' is {float(found['known']):g}, but a share is in [0, 1]; train again"
        )
    return ClassStatistics(**{name: found[name].float() for name in _STATISTICS})


def refuse_to_replace_others(folder: Path) -> None:
    """Raises BundleError where a folder holds other things than a bundle, which a bundle of its name would replace."""
    if not folder.exists() or (folder / META_FILE).is_file():
        return
    others = ["a file's content"]
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir())
    if others:
        raise BundleError(
            f"'{folder}' is no bundle and holds {', '.join(others[:3])}, which a bundle of that name would replace; "
            "choose a folder that is new or empty"
        )


def to_disk(path: Path) -> None:
    """Wait until a file or folder is written: a rename must not outlive its content when the power goes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(new: Path, folder: Path) -> None:
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    new.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _standing(folder: Path) -> Path:
    """The bundle of that name, or the one that stood aside when its successor's writer was killed."""
    if folder.exists():
        return folder
    aside = _aside(folder.resolve())  # it stands beside what a link means
    return aside if aside.is_dir() else folder
