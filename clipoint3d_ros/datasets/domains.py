"""Domains as the command line names them, KIND[:PATH], read as `Objects` against one list of classes.

| spec | objects | frame, unit |
|---|---|---|
| `procedural` | complete clouds of made shapes, 2048 points each | z up, metres |
| `folders:DIR` | clouds and meshes in a folder a class; objects of other folders have no label | z up, metres |
| `scenes:DIR`, `scenes:DIR:GLOB,GLOB` | segments of labelled depth images; those of other or no name have no label | levelled sensor frame, metres |
| `pointda:ROOT:DOMAIN` | PointDA-10, see `datasets.pointda` | z up, no unit |
| `graspnet:ROOT:DOMAIN` | GraspNetPC-10, see `datasets.graspnet` | optical frame, no unit |
"""  # noqa: E501  (table)

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.datasets.objects import NO_LABEL, LacksClasses, Objects

POINTS = 2048  # of a procedural cloud
MIN_POINTS = 16  # of a scene's segment; fewer say nothing of a shape

_FEW = 20  # objects, below which no bar is shown


@dataclass(frozen=True)
class _Request:
    """What a reader is asked for; `place` is what follows KIND:, the rest as in `read_domain`."""

    spec: str
    place: str
    classes: Descriptions
    count: int
    seed: int
    split: str


def read_domain(spec: str, classes: Descriptions, *, count: int, seed: int, split: str = "train") -> Objects:
    """The objects of a domain, labelled by `classes.names`; the module lists how a domain is named.

    Args:
        spec: KIND[:PATH].
        classes: what is to be told apart; objects of no class keep `NO_LABEL`.
        count: procedural objects of each class; other kinds give all they have. A larger count only adds objects.
        seed: of the procedural shapes and the points drawn from meshes, at least 0.
        split: train or test, of pointda and graspnet; the others have none.

    Raises:
        LacksClasses: no procedural shape for some class.
        ValueError: an unknown kind, a spec not written as its kind demands, or what the kind's reader refuses.
        FileNotFoundError: no such folder or file.
    """
    kind, _, place = spec.partition(":")
    if kind not in _KINDS:
        raise ValueError(f"domain '{spec}' is of no known kind; write {', '.join(FORMS)}")
    form, reader, _ = _KINDS[kind]
    if bool(place) != (":" in form):
        raise ValueError(f"domain '{spec}' is not written as its kind demands: write {form}")
    return reader(_Request(spec, place, classes, count, seed, split))


def domain_key(spec: str) -> str:
    """What a domain gives, in one line, for results on disk: its name and, where that names a folder, a short hash of
    where this lies and of the name, size and time of change of every file in it. Nothing is opened.

    A name that `read_domain` refuses has a key as well, so that the refusal stays its own.
    """
    kind, _, place = spec.partition(":")
    folder_of = _KINDS[kind][2] if kind in _KINDS else None
    if folder_of is None:
        return spec
    root = Path(folder_of(place)).resolve()
    told = hashlib.sha256(os.fsencode(root))
    for entry in sorted(_listing(root)):
        told.update(repr(entry).encode())
    return f"{spec} {told.hexdigest()[:16]}"


def _listing(root: Path) -> Iterator[tuple[bytes, int, int]]:
    """(name below the folder, bytes, nanoseconds of its last change) of every file, behind links too."""
    entered = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:  # a link back up
            inner.clear()
            continue
        entered.add(place)
        for path in (Path(folder, name) for name in names):
            with suppress(OSError):  # a link to nothing, or gone meanwhile
                told = path.stat()
                yield os.fsencode(path.relative_to(root)), told.st_size, told.st_mtime_ns


def _procedural(request: _Request) -> Objects:
    """Made shapes, each from a seed of its own: (seed, class, number)."""
    from tqdm import tqdm

    from clipoint3d_ros.datasets.shapes import MAKERS, make_shape, surface_points

    names = request.classes.names
    missing = [name for name in names if name not in MAKERS]
    if missing:
        raise LacksClasses(f"no procedural shape for {', '.join(missing)}; there are {', '.join(sorted(MAKERS))}")
    if request.count < 1 or request.seed < 0:
        raise ValueError(
            f"procedural objects need a count of at least 1 and a seed of at least 0, "
            f"but these are {request.count} and {request.seed}"
        )
    # Class by class within each round, so that a larger count goes on where a smaller one ended.
    labels = np.tile(np.arange(len(names)), request.count)
    clouds = []
    for number, label in enumerate(tqdm(labels, desc="making shapes", unit="object", disable=len(labels) < _FEW)):
        rng = np.random.default_rng((request.seed, int(label), number // len(names)))
        clouds.append(surface_points(make_shape(names[label], rng).mesh, POINTS, rng))
    return Objects("procedural", names, tuple(clouds), labels, np.arange(len(labels)))


def _folders(request: _Request) -> Objects:
    from tqdm import tqdm

    from clipoint3d_ros.datasets.files import class_folders, read_points

    files = [(name, path) for name, paths in class_folders(request.place).items() for path in paths]
    bar = tqdm(files, desc="reading", unit="file", disable=len(files) < _FEW)
    clouds = tuple(read_points(path, request.seed) for _, path in bar)
    labels = np.array([_folder_label(name, request.classes.names) for name, _ in files], np.int64)
    return Objects(_last(request.place), request.classes.names, clouds, labels, np.arange(len(files)))


def _folder_label(folder: str, names: Sequence[str]) -> int:
    """Which class a folder holds: that of its name, else of its name with spaces for `_` and `-`."""
    if folder in names:
        return names.index(folder)
    spaced = [_spaced(name) for name in names]
    return spaced.index(_spaced(folder)) if _spaced(folder) in spaced else NO_LABEL


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _scenes(request: _Request) -> Objects:
    """Segments as the sensor, which is the frame's origin, saw them; scenes numbered in natural order."""
    from tqdm import tqdm

    from clipoint3d_ros.datasets import scenes

    folder, _, globs = request.place.partition(":")
    only = [glob.strip() for glob in globs.split(",") if glob.strip()] or ["*"]
    total = len(scenes.scene_names(folder, only))
    index = {name: label for label, name in enumerate(request.classes.names)}
    clouds, labels, numbers = [], [], []
    stream = tqdm(scenes.read_scenes(folder, only), total=total, desc="reading", unit="scene", disable=total < _FEW)
    for number, scene in enumerate(stream):
        xyz = scenes.level_points(scene)
        seen = np.isfinite(xyz).all(-1)
        for i in scenes.object_ids(scene):
            points = xyz[seen & (scene.instance == i)]
            if len(points) >= MIN_POINTS:
                clouds.append(points)
                labels.append(index.get(scene.classes.get(i, ""), NO_LABEL))
                numbers.append(number)
    if not clouds:
        raise ValueError(f"no scene of '{request.spec}' holds an object of at least {MIN_POINTS} points")
    return Objects(
        domain=" ".join([_last(folder), *only]) if globs else _last(folder),
        classes=request.classes.names,
        clouds=tuple(clouds),
        labels=np.array(labels, np.int64),
        scenes=np.array(numbers, np.int64),
        viewpoints=np.zeros((len(clouds), 3), np.float32),
    )


def _pointda(request: _Request) -> Objects:
    from clipoint3d_ros.datasets.pointda import DOMAINS, read_pointda

    root, domain = _root_and_domain(request, DOMAINS)
    return read_pointda(root, domain, request.split).relabelled(request.classes.names)


def _graspnet(request: _Request) -> Objects:
    from clipoint3d_ros.datasets.graspnet import DOMAINS, read_graspnet

    root, domain = _root_and_domain(request, tuple(DOMAINS))
    return read_graspnet(root, domain, request.split).relabelled(request.classes.names)


def _root_and_domain(request: _Request, domains: Sequence[str]) -> tuple[str, str]:
    root, _, domain = request.place.rpartition(":")
    if not root or not domain:
        form = request.spec.partition(":")[0] + ":ROOT:DOMAIN"
        raise ValueError(f"domain '{request.spec}' must be {form}, where DOMAIN is one of {', '.join(domains)}")
    return root, domain


def _last(folder: str) -> str:
    return Path(folder).resolve().name


def _before_first_colon(place: str) -> str:
    return place.partition(":")[0]


def _before_last_colon(place: str) -> str:
    return place.rpartition(":")[0]


# How each kind is written, its reader, and the folder that this reads of what follows KIND:.
_KINDS: dict[str, tuple[str, Callable[[_Request], Objects], Callable[[str], str] | None]] = {
    "procedural": ("procedural", _procedural, None),
    "folders": ("folders:DIR", _folders, str),
    "scenes": ("scenes:DIR[:GLOB,...]", _scenes, _before_first_colon),
    "pointda": ("pointda:ROOT:DOMAIN", _pointda, _before_last_colon),
    "graspnet": ("graspnet:ROOT:DOMAIN", _graspnet, _before_last_colon),
}
FORMS = tuple(form for form, _, _ in _KINDS.values())
