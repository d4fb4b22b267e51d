"""Pools of objects that streams are drawn from: real scenes, simulated scenes and their corrupted copies, and the
source's own shapes as a probe of what is forgotten."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.datasets import scenes, tabletop
from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.datasets.objects import NO_LABEL, Objects
from clipoint3d_ros.datasets.shapes import MAKERS
from clipoint3d_ros.evaluation.adaptation.protocol import join
from clipoint3d_ros.geometry.camera import KINECT
from clipoint3d_ros.geometry.clouds import random_subset
from clipoint3d_ros.geometry.corruption import KINDS, corrupt
from clipoint3d_ros.pretraining.config import fingerprint

FORMAT = 1  # of the simulated scenes on disk
PIECE = 10  # scenes of one file
KEPT = 2048  # points of a simulated object's cloud; the classifier looks at 1024 of them
REAL = "learn*,test*"
SEVERITIES = (3, 4, 5)  # of the corruptions a stream goes through
_WEAR = (1, 2)  # severities of the faults that come and go in a long run


@dataclass(frozen=True)
class Variant:
    """One way in which an object is seen: with a corruption of a kind and severity, or clean (no kind).

    draw: which of its random draws.
    """

    kind: str = ""
    severity: int = 0
    draw: int = 0


CLEAN = Variant()


@dataclass(frozen=True)
class Sizes:
    """How much is simulated, and how long streams are."""

    known: int = 1000  # simulated objects of the classes
    unknown: int = 500  # simulated objects of other classes
    each: int = 80  # objects of every kind and severity of corruption
    worn: int = 3  # further looks at every known object, each with a light fault, for the long run
    long: int = 10_000  # objects of the long run
    probe: int = 20  # source objects of every class, to see what is forgotten
    resolution: float = 1.0  # of the simulated camera, as a share of a Kinect's
    seed: int = 0  # of everything simulated; streams have seeds of their own

    def __post_init__(self) -> None:
        if min(self.known, self.unknown, self.each, self.worn, self.long, self.probe) < 1 or self.seed < 0:
            raise ValueError(f"the sizes of streams must be at least 1 and the seed at least 0, but they are {self}")
        if self.each > self.known:
            raise ValueError(f"'each' ({self.each}) objects of a corruption are drawn from 'known' ({self.known})")
        if not 0 < self.resolution <= 1:
            raise ValueError(f"'resolution' must be above 0 and at most 1, but is {self.resolution}")


@dataclass(frozen=True, eq=False)
class Pool:
    """R looks at objects; a stream is a sequence of their row numbers.

    objects: each once, clean; label `NO_LABEL` where it is of none of the classes.
    variants: the ways of looking that occur.
    base: (R,) int64 rows of `objects`. variant: (R,) int64 into `variants`.
    """

    name: str
    objects: Objects
    variants: tuple[Variant, ...]
    base: np.ndarray
    variant: np.ndarray

    def __len__(self) -> int:
        return len(self.base)

    @cached_property
    def labels(self) -> np.ndarray:
        """(R,) int64."""
        return self.objects.labels[self.base]

    @cached_property
    def scenes(self) -> np.ndarray:
        """(R,) int64."""
        return self.objects.scenes[self.base]

    @cached_property
    def clean(self) -> np.ndarray:
        """Rows of known objects without corruption, in the order of their scenes."""
        return np.flatnonzero((self.labels != NO_LABEL) & (self.variant == self.variants.index(CLEAN)))

    @cached_property
    def unknown(self) -> np.ndarray:
        """Rows of objects of no class, without corruption."""
        return np.flatnonzero((self.labels == NO_LABEL) & (self.variant == self.variants.index(CLEAN)))

    def rows_of(self, variant: Variant) -> np.ndarray:
        """Rows of known objects seen in one way."""
        return np.flatnonzero((self.variant == self.variants.index(variant)) & (self.labels != NO_LABEL))

    def viewpoint(self, row: int) -> np.ndarray | None:
        """(3,) metres, where there was a sensor."""
        return None if self.objects.viewpoints is None else self.objects.viewpoints[self.base[row]]

    def cloud(self, row: int) -> np.ndarray:
        """(N, 3) float32 metres; a corrupted one is made anew, the same every time."""
        number = int(self.base[row])
        seen, cloud = self.variants[int(self.variant[row])], self.objects.clouds[number]
        if not seen.kind:
            return cloud
        rng = np.random.default_rng((number, KINDS.index(seen.kind), seen.severity, seen.draw))
        return corrupt(seen.kind, seen.severity, cloud, rng, self.viewpoint(row))

    @cached_property
    def digest(self) -> str:
        """A short hash of all that is in it, for results on disk."""
        told = hashlib.sha256(repr((self.name, self.objects.domain, self.objects.up, self.objects.metric)).encode())
        eyes = () if self.objects.viewpoints is None else (self.objects.viewpoints,)
        for array in (*self.objects.clouds, self.objects.labels, *eyes, self.base, self.variant):
            told.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return fingerprint([asdict(v) for v in self.variants], told.hexdigest())


def clean_pool(name: str, objects: Objects) -> Pool:
    """Objects as they are."""
    rows = np.arange(len(objects))
    return Pool(name, objects, (CLEAN,), rows, np.zeros_like(rows))


def real_pool(classes: Descriptions, folder: str | Path, only: str = REAL) -> Pool:
    """The named objects of a folder of real scenes; those of other classes are left out.

    Raises:
        ValueError: not a scene folder, no scene of these names, or no object of the classes.
    """
    objects = read_domain(f"scenes:{folder}:{only}", classes, count=0, seed=0).labelled()
    if not len(objects):
        raise ValueError(f"no scene of {folder} ({only}) has an object of {', '.join(classes.names)}")
    return clean_pool("real", objects)


def probe_pool(classes: Descriptions, sizes: Sizes) -> Pool:
    """Complete shapes of every class, as the source has them, of which no stream shows any."""
    return clean_pool("source", read_domain("procedural", classes, count=sizes.probe, seed=900_000 + sizes.seed))


def simulated_pool(classes: Descriptions, sizes: Sizes, cache: Path, progress: bool = True) -> Pool:
    """Objects of simulated tabletop scenes: known ones clean, corrupted and worn, and unknown ones clean.

    Args:
        classes: those known; the other tabletop shapes are the unknown ones.
        sizes: how many of each.
        cache: a folder; simulated scenes are kept there, and a killed simulation goes on where it stopped.
        progress: show a bar.

    Raises:
        ValueError: a class without a procedural shape, or none left to be unknown.
    """
    missing = [name for name in classes.names if name not in MAKERS]
    if missing:
        raise ValueError(
            f"no procedural shape for {', '.join(missing)}, so no scene of them can be simulated; name streams of real "
            "scenes by --streams, or other classes"
        )
    others = tuple(name for name, maker in MAKERS.items() if maker.tabletop and name not in classes.names)
    known = _simulate(classes.names, classes.names, sizes.known, sizes, 0, cache, progress)
    unknown = _simulate(others, classes.names, sizes.unknown, sizes, 1, cache, progress)
    objects = join(known, unknown)
    variants, base, variant = [CLEAN], [np.arange(len(objects))], [np.zeros(len(objects), np.int64)]
    for rows, seen in (*_corruptions(sizes), *_wear(sizes)):
        if seen not in variants:
            variants.append(seen)
        base.append(rows)
        variant.append(np.full(len(rows), variants.index(seen)))
    return Pool("simulated", objects, tuple(variants), np.concatenate(base), np.concatenate(variant))


def corruptions() -> tuple[Variant, ...]:
    """Every kind in the severities that a stream goes through, kind by kind, growing."""
    return tuple(Variant(kind, severity) for kind in KINDS for severity in SEVERITIES)


def is_wear(variant: Variant) -> bool:
    """Whether it is one of the light faults of a long run."""
    return variant.draw > 0


def _corruptions(sizes: Sizes) -> Iterator[tuple[np.ndarray, Variant]]:
    for number, variant in enumerate(corruptions()):
        rng = np.random.default_rng((sizes.seed, 11, number))
        yield np.sort(rng.permutation(sizes.known)[: sizes.each]), variant


def _wear(sizes: Sizes) -> Iterator[tuple[np.ndarray, Variant]]:
    """`worn` further looks at each known object: kinds and severities by chance, the same for all seeds of streams."""
    light = [(kind, severity) for kind in KINDS for severity in _WEAR]
    for draw in range(1, sizes.worn + 1):
        which = np.random.default_rng((sizes.seed, 12, draw)).integers(len(light), size=sizes.known)
        for number, (kind, severity) in enumerate(light):
            if len(rows := np.flatnonzero(which == number)):
                yield rows, Variant(kind, severity, draw)


def _simulate(
    shown: Sequence[str], names: Sequence[str], count: int, sizes: Sizes, part: int, cache: Path, progress: bool
) -> Objects:
    """The first `count` objects of an endless row of scenes of the shapes `shown`, labelled by `names`."""
    from tqdm import tqdm

    if not shown:
        raise ValueError("every tabletop shape is among the classes, so none is left to be unknown")
    key = fingerprint(FORMAT, list(shown), sizes.seed, part, sizes.resolution, KEPT)
    folder = cache / f"scenes-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    clouds: list[np.ndarray] = []
    found: list[str] = []
    numbers: list[int] = []
    with tqdm(total=count, desc="simulating", unit="object", disable=not progress) as bar:
        piece = 0
        while len(clouds) < count:
            path = folder / f"{piece:05d}.npz"
            if not path.is_file():
                _write_piece(path, shown, sizes, part, piece)
            with np.load(path, allow_pickle=False) as stored:
                clouds += np.split(stored["points"], np.cumsum(stored["counts"])[:-1]) if len(stored["counts"]) else []
                found += [str(name) for name in stored["names"]]
                numbers += stored["scenes"].tolist()
            piece += 1
            bar.update(min(len(clouds), count) - bar.n)
    index = {name: label for label, name in enumerate(names)}
    labels = np.array([index.get(name, NO_LABEL) for name in found[:count]], np.int64)
    return Objects(
        f"simulated {'known' if part == 0 else 'unknown'}",
        tuple(names),
        tuple(clouds[:count]),
        labels,
        np.array(numbers[:count], np.int64),
        viewpoints=np.zeros((count, 3), np.float32),
    )


def _write_piece(path: Path, shown: Sequence[str], sizes: Sizes, part: int, piece: int) -> None:
    """`PIECE` scenes, each from a seed of its own, as one file that is whole or not there."""
    camera = KINECT.scaled(sizes.resolution)
    layout = tabletop.SceneConfig(min_points=max(round(150 * sizes.resolution**2), 32))
    points, names, numbers = [], [], []
    for number in range(piece * PIECE, (piece + 1) * PIECE):
        rng = np.random.default_rng((sizes.seed, part, number))
        scene = tabletop.simulate(str(number), shown, rng, layout, camera)
        xyz = scenes.level_points(scene)
        seen = np.isfinite(xyz).all(-1)
        for i, name in sorted(scene.classes.items()):
            cloud = xyz[seen & (scene.instance == i)]
            if len(cloud) > KEPT:
                cloud = cloud[np.sort(random_subset(len(cloud), KEPT))]
            points.append(cloud)
            names.append(name)
            numbers.append(number)
    beside = path.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(
        beside,
        points=np.concatenate([*points, np.zeros((0, 3), np.float32)]),
        counts=np.array([len(cloud) for cloud in points], np.int64),
        names=np.array(names, str),
        scenes=np.array(numbers, np.int64),
    )
    beside.replace(path)
