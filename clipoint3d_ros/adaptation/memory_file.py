"""A memory on disk: one safetensors file, of which nothing is believed before it is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_safetensors

from clipoint3d_ros.adaptation.sighting import Sighting

FORMAT = 2
_META = "memory"  # key of safetensors' own metadata, under which ours is one JSON text
_NUMBERS: dict[str, tuple[str, type]] = {
    "stamp_s": ("F64", float), "label": ("I64", int), "entropy": ("F64", float), "agreement": ("F64", float),
    "familiarity": ("F64", float), "points": ("I64", int), "elevation": ("F64", float), "distance": ("F64", float),
    "frozen": ("I64", bool),
}  # fmt: skip
_ARRAYS = {"feature": "F32", "logits": "F32"}
_CLOUDS = {"cloud": "F32", "cloud_points": "I64"}


class MemoryFileError(ValueError):
    """A file from which no memory can be restored; the message says why and what to do."""


def packed(sightings: list[Sighting], clouds: bool, meaning: str) -> bytes:
    """The bytes of a safetensors file: a row a sighting, the clouds one after another."""
    tensors: dict[str, np.ndarray] = {
        name: np.array([getattr(s, name) for s in sightings], dtype=np.float64 if kind is float else np.int64)
        for name, (_, kind) in _NUMBERS.items()
    }
    for name in _ARRAYS:
        rows = [getattr(s, name) for s in sightings]
        tensors[name] = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    kept = [s.cloud for s in sightings] if clouds else [None] * len(sightings)
    tensors["cloud_points"] = np.array([0 if cloud is None else len(cloud) for cloud in kept], dtype=np.int64)
    tensors["cloud"] = np.concatenate([np.empty((0, 3), np.float32), *(cloud for cloud in kept if cloud is not None)])
    told = {"format": FORMAT, "meaning": meaning, "ids": [s.id for s in sightings]}
    return as_safetensors(tensors, {_META: json.dumps(told)})


def unpacked(path: Path, meaning: str, largest: float) -> list[Sighting]:
    """The sightings of a file, oldest first, with tracks −1, −2, … of nobody.

    Args:
        meaning: as it was packed with. largest: bytes of the file, at most.

    Raises:
        MemoryFileError: no file, a foreign, truncated or damaged one, or one of another meaning.
    """
    try:
        if not path.is_file():
            raise MemoryFileError(f"'{path}' is no file; give the one the memory was saved to, or start without it")
        if path.stat().st_size > largest:
            raise MemoryFileError(
                f"{path} has {path.stat().st_size} bytes; a memory of these bounds has at most {largest:.0f}; raise "
                "memory.megabytes, or start without it"
            )
        with safe_open(path, "np") as file:
            told = _told(path, file.metadata() or {}, meaning)
            _check_tensors(path, file, len(told["ids"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise MemoryFileError(
            f"{path} is truncated or no safetensors file ({error}); start without it, or save the memory again"
        ) from error
    return _rows(path, tensors, told["ids"])


def _told(path: Path, metadata: dict[str, str], meaning: str) -> dict[str, Any]:
    """What a file's JSON says, checked."""
    try:
        told = json.loads(metadata.get(_META, "null"))
    except (ValueError, RecursionError) as error:
        raise MemoryFileError(
            f"{path} has metadata that are not JSON ({error}); it is damaged, start without it"
        ) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        there = told.get("format") if isinstance(told, dict) else None
        raise MemoryFileError(
            f"{path} is no memory of format {FORMAT}, which this version reads, but of {there!r}; start without it"
        )
    ids = told.get("ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise MemoryFileError(f"{path} has no list of segment ids; it is damaged, start without it")
    if told.get("meaning") != meaning:
        raise MemoryFileError(
            f"{path} was saved for {str(told.get('meaning'))[:200]!r}, but here it would mean {meaning[:200]!r}; start "
            "without it, or restore it with the model and classes that it was saved with"
        )
    return told


def _check_tensors(path: Path, file: Any, count: int) -> None:
    """Names, types and shapes, before anything is read."""
    wanted = {**{name: kind for name, (kind, _) in _NUMBERS.items()}, **_ARRAYS, **_CLOUDS}
    found = set(file.keys())
    for what, names in (("lacks", wanted.keys() - found), ("has unknown", found - wanted.keys())):
        if names:
            raise MemoryFileError(f"{path} {what} {', '.join(sorted(names)[:5])}; it is no memory, start without it")
    for name, kind in wanted.items():
        piece = file.get_slice(name)
        shape = tuple(piece.get_shape())
        if name == "cloud":
            right, form = len(shape) == 2 and shape[1] == 3, "(P, 3)"
        elif name in _ARRAYS:
            right, form = len(shape) == 2 and shape[0] == count and (shape[1] > 0 or not count), f"({count}, ·)"
        else:
            right, form = shape == (count,), f"({count},)"
        if not right or piece.get_dtype() != kind:
            raise MemoryFileError(
                f"'{name}' of {path} is {piece.get_dtype()} {shape}, but {count} sightings want {kind} {form}; it is "
                "damaged, start without it"
            )


def _rows(path: Path, tensors: dict[str, np.ndarray], ids: list[str]) -> list[Sighting]:
    lengths = [int(length) for length in tensors["cloud_points"]]
    if any(length < 0 for length in lengths) or sum(lengths) != len(tensors["cloud"]):
        raise MemoryFileError(f"the clouds of {path} do not add up to its points; it is damaged, start without it")
    ends = np.cumsum([0, *lengths])
    order = np.argsort(tensors["stamp_s"], kind="stable")
    sightings = []
    for number, row in enumerate(order, 1):
        numbers: dict[str, Any] = {name: kind(tensors[name][row]) for name, (_, kind) in _NUMBERS.items()}
        arrays: dict[str, Any] = {name: tensors[name][row] for name in _ARRAYS}
        cloud = tensors["cloud"][ends[row] : ends[row + 1]] if lengths[row] else None
        try:
            sightings.append(Sighting(track=-number, id=ids[row], cloud=cloud, **numbers, **arrays))
        except ValueError as error:
            raise MemoryFileError(f"{path}: {error}; it is damaged, start without it") from error
        if not sightings[-1].finite:
            raise MemoryFileError(f"sighting {row} of {path} is not finite; it is damaged, start without it")
    return sightings
