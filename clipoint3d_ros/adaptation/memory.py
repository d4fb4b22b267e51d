"""The memory: few sightings that stand for what the sensor really sees (METHOD 6).

A robot looks at the same few objects for minutes, so a plain buffer would hold one mug a thousand times. Here every
object has one entry, every class its share, entries of one class differ, and old ones leave (after Yuan et al., "Robust
test-time adaptation in dynamic scenarios", RoTTA, CVPR 2023). Bounded in objects and in bytes. Arrays in, arrays out.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipoint3d_ros.adaptation.memory_file import MemoryFileError, packed, unpacked
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.adaptation.store import clear_parts
from clipoint3d_ros.clip.bundle import to_disk
from clipoint3d_ros.recognition.tracks import Clock

REFUSALS = ("not finite", "unknown", "age", "track", "similar", "full", "bytes")
_LARGEST_FILE = 256 << 20  # bytes, or twice the memory's own bound; a hostile file must not fill a robot's memory


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
            content = packed(self.sightings(), clouds, meaning)
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
        for sighting in unpacked(Path(path), meaning, max(_LARGEST_FILE, 2 * self._most_bytes)):
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
