"""The memory: few sightings that stand for what the sensor really sees (METHOD 6).

A robot looks at the same few objects for minutes, so a plain buffer would hold one mug a thousand times. Here every
object has one entry, every class its share, entries of one class differ, and old ones leave (after Yuan et al., "Robust
test-time adaptation in dynamic scenarios", RoTTA, CVPR 2023). Bounded in objects and in bytes. Arrays in, arrays out.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_safetensors

from clipoint3d_ros.adaptation.store import clear_parts
from clipoint3d_ros.clip.bundle import to_disk
from clipoint3d_ros.recognition.tracks import Clock

FORMAT = 2
REFUSALS = ("not finite", "unknown", "age", "track", "similar", "full", "bytes")
_META = "memory"  # key of safetensors' own metadata, under which ours is one JSON text
_OVERHEAD = 512  # bytes of a sighting beside its arrays and id
_LARGEST_FILE = 256 << 20  # bytes, or twice the memory's own bound; a hostile file must not fill a robot's memory
_NUMBERS: dict[str, tuple[str, type]] = {
    "stamp_s": ("F64", float), "label": ("I64", int), "entropy": ("F64", float), "agreement": ("F64", float),
    "familiarity": ("F64", float), "points": ("I64", int), "elevation": ("F64", float), "distance": ("F64", float),
    "frozen": ("I64", bool),
}  # fmt: skip
_ARRAYS = {"feature": "F32", "logits": "F32"}
_CLOUDS = {"cloud": "F32", "cloud_points": "I64"}


class MemoryFileError(ValueError):
    """A file from which no memory can be restored; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """One object as it was seen and recognised once. It owns its arrays: a row of a message would keep the whole.

    stamp_s: of the cloud, in seconds.
    track: the object's number by the tracker; negative for a restored one, which is of no living track.
    id: as the segmenter published it, or "".
    label: the predicted class, in [0, C); −1 for an object that was answered as none of them, which no memory takes.
    feature: (D,) float32, in CLIP's embedding, by the network that is learned from.
    logits: (C,) float32 by the frozen model's words, at temperature 1; by that network's until the former is asked.
    entropy: of the answer that was served, in nats.
    agreement: share of the views that agree, in [0, 1].
    familiarity: how likely the object is of any of the classes, in [0, 1].
    points: of the segment.
    cloud: (P, 3) float32 metres, levelled with y up, mean at the origin; None where it was not kept.
    elevation: of the sensor above the object, in radians.
    distance: from the sensor to the object in metres; 0 where unknown.
    frozen: whether the logits are the frozen model's.

    Raises:
        ValueError: shapes, a label or shares outside these. Numbers that are not finite are let through, for the gate.
    """

    stamp_s: float
    track: int
    id: str
    label: int
    feature: np.ndarray
    logits: np.ndarray
    entropy: float
    agreement: float
    familiarity: float
    points: int
    cloud: np.ndarray | None = None
    elevation: float = 0.0
    distance: float = 0.0
    frozen: bool = True

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what overflows is infinite, and the gate refuses that
            for name in ("feature", "logits"):
                object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float32))
            if self.cloud is not None:
                object.__setattr__(self, "cloud", np.array(self.cloud, dtype=np.float32))
        for name in ("feature", "logits"):
            if getattr(self, name).ndim != 1 or not getattr(self, name).size:
                raise ValueError(f"a sighting's {name} has shape {getattr(self, name).shape}; it must be one row")
        if self.cloud is not None and (self.cloud.ndim != 2 or self.cloud.shape[1] != 3 or not self.cloud.size):
            raise ValueError(f"a sighting's cloud has shape {self.cloud.shape}; it must be (P, 3), or None without one")
        if not -1 <= self.label < len(self.logits):
            raise ValueError(f"a sighting's label is {self.label}, but it has logits of {len(self.logits)} classes")
        for name in ("agreement", "familiarity"):
            if getattr(self, name) < -1e-6 or getattr(self, name) > 1 + 1e-6:
                raise ValueError(f"a sighting's {name} is {getattr(self, name)}; it is a share and lies in [0, 1]")
        if self.points < 0:
            raise ValueError(f"a sighting has {self.points} points; it must have 0 or more")

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        cloud = 0 if self.cloud is None else self.cloud.nbytes
        return self.feature.nbytes + self.logits.nbytes + cloud + len(self.id) + _OVERHEAD

    @property
    def finite(self) -> bool:
        """Whether all its numbers are finite."""
        numbers = (self.stamp_s, self.entropy, self.agreement, self.familiarity, self.elevation, self.distance)
        arrays = (self.feature, self.logits) if self.cloud is None else (self.feature, self.logits, self.cloud)
        return all(map(math.isfinite, numbers)) and all(bool(np.isfinite(array).all()) for array in arrays)

    @property
    def widths(self) -> tuple[int, int]:
        """(D, C), the same for all that a memory holds."""
        return len(self.feature), len(self.logits)


@dataclass(frozen=True)
class MemoryConfig:
    """The memory's bounds."""

    objects: int = 256  # all classes together
    per_class: int = 32  # objects of one predicted class
    megabytes: float = 64.0  # of 2²⁰ bytes
    max_age_s: float = 900.0  # seconds before the newest stamp, then a sighting leaves

    def __post_init__(self) -> None:
        for name in ("objects", "per_class"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"memory.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("megabytes", "max_age_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"memory.{name} is {getattr(self, name)}; it must be above 0")


class Memory:
    """Sightings to learn from, one per track."""

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self.config = config or MemoryConfig()
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._entries: dict[int, Sighting] = {}  # by track
        self._bytes = 0
        self._clock = Clock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """What its sightings take in memory."""
        return self._bytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._forget()

    def counts(self, classes: int) -> np.ndarray:
        """(C,) int64, sightings by predicted class.

        Raises:
            ValueError: there are sightings of classes beyond C.
        """
        labels = [sighting.label for sighting in self.sightings()]
        if labels and max(labels) >= classes:
            raise ValueError(f"the memory holds class {max(labels)}, but is asked for {classes}; clear it first")
        return np.bincount(np.array(labels, dtype=np.int64), minlength=classes)

    def sightings(self) -> list[Sighting]:
        """All of them, oldest first."""
        with self._lock:
            return sorted(self._entries.values(), key=_stamp)

    def admit(self, sighting: Sighting) -> str:
        """Keep a sighting, and let go of what it displaces.

        A stamp more than a second before the newest forgets everything first, as does another width of features or
        number of classes: labels then mean something else. Of one track the more certain sighting stays, or the newer
        where its label changed. Of a full class the two most alike are found, the newcomer among them, and the older
        leaves. Over the bounds of all classes together the class that takes most gives way in the same manner.

        Returns:
            "" where it was kept, else one of `REFUSALS`: "not finite"; "unknown", of no class; "age", older than the
            memory reaches back; "track", of which there is a better sighting; "similar" or "full", where it is itself
            what would leave its class or the memory, as only one that comes late is; "bytes", larger than all the
            memory may be.
        """
        if not sighting.finite:
            return "not finite"
        if sighting.label < 0:
            return "unknown"
        with self._lock:
            if self._clock.jumped_back(sighting.stamp_s) or self._of_other_widths(sighting):
                self._forget()
                self._clock.jumped_back(sighting.stamp_s)
            self._let_age()
            if self._clock.newest_s - sighting.stamp_s > self.config.max_age_s:
                return "age"
            if sighting.nbytes > self._most_bytes:
                return "bytes"
            before = self._entries.get(sighting.track)
            if before is not None and not _better(sighting, before):
                return "track"
            leaving, reason = self._displaced(sighting, before)
            if reason:
                return reason
            for old in leaving:
                self._drop(old)
            self._entries[sighting.track] = sighting
            self._bytes += sighting.nbytes
            return ""

    def change(self, anew: Mapping[Sighting, Sighting]) -> None:
        """Put sightings in the place of others of the same track and stamp; of those that have left, nothing comes."""
        with self._lock:
            for before, after in anew.items():
                if self._entries.get(before.track) is before:
                    self._entries[before.track] = after
                    self._bytes += after.nbytes - before.nbytes

    def save(self, path: str | Path, clouds: bool = False, meaning: str = "") -> None:
        """Write the memory to one file, whole or not at all.

        Args:
            path: of the file, in safetensors' format.
            clouds: whether clouds are written too; they show where the robot was.
            meaning: what the numbers depend on, in a text of the caller's own: backbone, classes. `restore` holds it
                against its own.

        Raises:
            OSError: it could not be written, as on a full disk; a file of before is still there.
        """
        path = Path(path).resolve()
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        with self._saving:
            content = _packed(self.sightings(), clouds, meaning)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                clear_parts(path.parent, f".{path.name}.")
                beside.write_bytes(content)
                to_disk(beside)
                beside.rename(path)
                to_disk(path.parent)
            except OSError as error:
                with suppress(OSError):
                    beside.unlink()
                raise OSError(
                    f"the memory of {len(content)} bytes could not be written to {path}: {error}; free space, or name "
                    "another file"
                ) from error

    def restore(self, path: str | Path, meaning: str = "") -> None:
        """Take what a file holds in place of what is held, within this memory's own bounds.

        Restored sightings have tracks −1, −2, …: the tracker that numbered them is gone, and one that starts again
        gives the same numbers to other objects.

        Args:
            path: of a file by `save`.
            meaning: as it was saved with.

        Raises:
            MemoryFileError: no file, a foreign, truncated or damaged one, one saved with another meaning, or with
                other widths than the sightings held; these then stay as they are.
        """
        restored = Memory(self.config)
        for sighting in _unpacked(Path(path), meaning, max(_LARGEST_FILE, 2 * self._most_bytes)):
            restored.admit(sighting)
        with self._lock:
            held, found = (next(iter(memory._entries.values()), None) for memory in (self, restored))
            if held is not None and found is not None and held.widths != found.widths:
                raise MemoryFileError(
                    f"{path} has features and classes of {found.widths}, but the memory holds {held.widths}; clear it "
                    "first, or restore the memory of this model and these classes"
                )
            self._entries, self._bytes, self._clock = restored._entries, restored._bytes, restored._clock

    @property
    def _most_bytes(self) -> float:
        return self.config.megabytes * 2**20

    def _forget(self) -> None:
        self._entries, self._bytes, self._clock = {}, 0, Clock()

    def _of_other_widths(self, sighting: Sighting) -> bool:
        held = next(iter(self._entries.values()), sighting)
        return held.widths != sighting.widths

    def _let_age(self) -> None:
        reach = self._clock.newest_s - self.config.max_age_s
        for old in [held for held in self._entries.values() if held.stamp_s < reach]:
            self._drop(old)

    def _drop(self, sighting: Sighting) -> None:
        del self._entries[sighting.track]
        self._bytes -= sighting.nbytes

    def _displaced(self, newcomer: Sighting, before: Sighting | None) -> tuple[list[Sighting], str]:
        """Who leaves for a newcomer, `before` among them; and the reason where that is the newcomer itself."""
        groups: dict[int, list[Sighting]] = defaultdict(list)
        for held in self._entries.values():
            if held is not before:
                groups[held.label].append(held)
        mates = groups[newcomer.label]
        mates.append(newcomer)
        leaving = [] if before is None else [before]
        while len(mates) > self.config.per_class:
            leaving.append(_redundant(mates))
            mates.remove(leaving[-1])
        if newcomer in leaving:
            return [], "similar"
        count = sum(map(len, groups.values()))
        size = self._bytes + newcomer.nbytes - sum(old.nbytes for old in leaving)
        while count > self.config.objects or size > self._most_bytes:
            group = _largest(groups, len if count > self.config.objects else _bytes_of)
            leaving.append(_redundant(group))
            group.remove(leaving[-1])
            count, size = count - 1, size - leaving[-1].nbytes
        return ([], "full") if newcomer in leaving else (leaving, "")


def _stamp(sighting: Sighting) -> float:
    return sighting.stamp_s


def _bytes_of(group: list[Sighting]) -> int:
    return sum(sighting.nbytes for sighting in group)


def _better(newcomer: Sighting, before: Sighting) -> bool:
    """Whether a track's new sighting replaces the one held; one that comes late does not."""
    if newcomer.stamp_s < before.stamp_s:
        return False
    return newcomer.label != before.label or newcomer.entropy < before.entropy


def _largest(groups: dict[int, list[Sighting]], size: Callable[[list[Sighting]], int]) -> list[Sighting]:
    """The class that takes most; of several, the one with the oldest sighting."""
    return max((group for group in groups.values() if group), key=lambda g: (size(g), -min(map(_stamp, g))))


def _redundant(group: list[Sighting]) -> Sighting:
    """The older of the two with the most similar features (cosine), or the only one."""
    group = sorted(group, key=_stamp)
    if len(group) == 1:
        return group[0]
    features = np.stack([sighting.feature for sighting in group])
    largest = np.abs(features).max(1, keepdims=True)
    features /= np.where(largest > 0, largest, 1)  # else the squares of large and small ones leave float32
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=0.5)
    likeness = unit @ unit.T
    likeness[np.tril_indices(len(group))] = -np.inf
    return group[int(likeness.argmax()) // len(group)]  # the row is the older of the pair


def _packed(sightings: list[Sighting], clouds: bool, meaning: str) -> bytes:
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


def _unpacked(path: Path, meaning: str, largest: float) -> list[Sighting]:
    """The sightings of a file, oldest first, as `Memory.restore` tells."""
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
