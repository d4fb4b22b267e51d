"""Scene folders: labelled depth images of tabletops, one npz a scene.

A folder holds `scenes.json` and `scenes/<name>.npz`.

| where | what |
|---|---|
| `scenes.json`, `<name>.up` | unit vector of 'up' in the camera frame |
| `scenes.json`, `<name>.classes` | {instance id: class name} of the objects that have a name |
| `scenes.json`, `<name>.intrinsics` | optional [fx, fy, cx, cy], pixels; without it the camera of the mOSD scenes |
| npz, `depth` | uint16 (H, W), unit 0.1 mm, 0 where nothing came back |
| npz, `instance` | integer (H, W): 0 nothing or background, 1 the table, 2 and up one object each |

Further keys of an entry are left alone. The camera frame is optical: x right, y down, z forward.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DEPTH_UNIT = 1e-4  # metres per count of the stored uint16
FIRST_OBJECT = 2  # instance ids below are background and table
FURTHEST = 65535 * DEPTH_UNIT  # metres the stored depth can say
LARGEST_INDEX = 64 << 20  # bytes of scenes.json
MOST_PIXELS = 2**25  # of an image; far above any depth camera
MOST_ID = 65535


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: focal lengths and principal point, pixels."""

    fx: float = 525.0
    fy: float = 525.0
    cx: float = 319.5
    cy: float = 239.5

    def __post_init__(self) -> None:
        if not np.isfinite([self.fx, self.fy, self.cx, self.cy]).all() or min(self.fx, self.fy) <= 0:
            raise ValueError(f"intrinsics {self} need positive focal lengths and finite values")


MOSD_CAMERA = Intrinsics()
_MOSD_SHAPE = (480, 640)
_LONGEST_NAME = 240  # bytes of a scene's name, characters of a class's


@dataclass(frozen=True)
class Scene:
    """One labelled depth image.

    name: as in the folder.
    up: (3,) unit vector of 'up' in the camera's optical frame.
    depth: (H, W) float64 metres along the optical axis, 0 where nothing came back.
    instance: (H, W) integers, 0 background, 1 table, 2 and up one object each.
    classes: {instance id: class name} of the objects that have a name.
    intrinsics: the camera.
    """

    name: str
    up: np.ndarray
    depth: np.ndarray
    instance: np.ndarray
    classes: Mapping[int, str]
    intrinsics: Intrinsics = field(default=MOSD_CAMERA)


def default_scenes_dir() -> Path:
    """Where the real scenes lie: $CLIPOINT3D_SCENES, else ../shared/data/mosd beside the checkout (may not exist)."""
    named = os.environ.get("CLIPOINT3D_SCENES")
    if named:
        return Path(named)
    return Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mosd"


def scene_names(folder: str | Path, only: str | Sequence[str] = "*") -> list[str]:
    """The names of a folder's scenes in natural order (learn2 before learn10).

    Args:
        folder: the scene folder.
        only: a glob over scene names, or several of which one must match.

    Raises:
        ValueError: not a scene folder, or no scene matches; the message names what there is.
    """
    return _select(_read_index(Path(folder)), Path(folder), only)


def read_scenes(folder: str | Path, only: str | Sequence[str] = "*") -> Iterator[Scene]:
    """The folder's scenes one after another, in natural order of their names; arguments and errors as `scene_names`."""
    folder = Path(folder)
    index = _read_index(folder)
    for name in _select(index, folder, only):
        yield _read_scene(folder, name, index[name])


def read_scene(folder: str | Path, name: str) -> Scene:
    """One scene by its name.

    Raises:
        ValueError: no such scene, or its files contradict the layout; the message names file, value and expectation.
    """
    folder = Path(folder)
    index = _read_index(folder)
    if name not in index:
        listed = _some(sorted(index, key=_natural))
        raise ValueError(f"no scene '{name}' in {folder / 'scenes.json'}: it lists {listed}")
    return _read_scene(folder, name, index[name])


def points(scene: Scene) -> np.ndarray:
    """The scene back-projected: (H, W, 3) float32 metres in the camera's optical frame, NaN where nothing came back."""
    return _back_project(scene).astype(np.float32)


def level_points(scene: Scene) -> np.ndarray:
    """The scene in its levelled sensor frame: (H, W, 3) float32 metres, NaN where nothing came back."""
    return (_back_project(scene) @ levelling(scene.up).T).astype(np.float32)


def levelling(up: np.ndarray) -> np.ndarray:
    """The rotation from a camera's optical frame into its levelled sensor frame.

    The levelled frame has the camera at its origin, z up, x the camera's forward direction laid into the
    horizontal plane, y to the left: a robot's axes (REP-103). A camera that looks straight up or down has no
    horizontal forward; the top of its image takes the place.

    Args:
        up: (3,) direction of 'up' in the optical frame, any length but 0.

    Returns:
        (3, 3) R with `level = R @ optical`.

    Raises:
        ValueError: `up` is not a direction.
    """
    up = np.asarray(up, np.float64)
    length = np.linalg.norm(up) if up.shape == (3,) else np.nan
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError(f"up must be three finite numbers, not all zero, but is {up.tolist()}")
    z = up / length
    for forward in (np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])):
        x = forward - (forward @ z) * z
        if np.linalg.norm(x) > 0.05:  # about three degrees off the vertical: below, the heading is noise
            break
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def object_ids(scene: Scene) -> list[int]:
    """Ids of all objects of a scene, ascending: those with points, and those that only have a name."""
    seen = np.unique(scene.instance)
    return sorted({int(i) for i in seen if i >= FIRST_OBJECT} | set(scene.classes))


def write_folder(
    folder: str | Path, scenes: Iterable[Scene], notes: Mapping[str, Mapping[str, Any]] | None = None
) -> int:
    """Write scenes as a folder of this layout; scenes already there under other names stay.

    Args:
        folder: made where it does not exist.
        scenes: taken one at a time.
        notes: {scene name: further JSON keys of its entry}.

    Returns:
        How many scenes were written.

    Raises:
        ValueError: a scene the layout cannot hold (depth beyond 6.5535 m, more than 65536 ids, a name that is no
            file name).
    """
    folder = Path(folder)
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = _read_index(folder) if (folder / "scenes.json").exists() else {}
    count = 0
    for scene in scenes:
        index[scene.name] = {**(notes or {}).get(scene.name, {}), **write_scene(folder, scene)}
        count += 1
    beside = folder / "scenes.json.part"
    beside.write_text(json.dumps(index, indent=1) + "\n")
    beside.replace(folder / "scenes.json")
    return count


def write_scene(folder: str | Path, scene: Scene) -> dict[str, Any]:
    """Write one scene's npz and return its entry for `scenes.json` (errors as `write_folder`)."""
    _check_name(scene.name, "scene")
    depth, instance = np.asarray(scene.depth), np.asarray(scene.instance)
    _check_images(f"scene '{scene.name}'", depth.shape, instance)
    if not np.isfinite(depth).all() or depth.min(initial=0) < 0 or depth.max(initial=0) > FURTHEST:
        raise ValueError(
            f"scene '{scene.name}' has depths outside 0 to {FURTHEST:.4f} m, which 16 bits of 0.1 mm cannot say; "
            "set pixels beyond the sensor's range to 0, 'nothing came back'"
        )
    highest = int(instance.max(initial=0))
    if highest > MOST_ID:
        raise ValueError(f"scene '{scene.name}' has instance id {highest}; the layout holds ids up to {MOST_ID}")
    path = Path(folder) / "scenes" / f"{scene.name}.npz"
    beside = path.with_name(f".{os.getpid()}.part")  # a write that fails leaves what was there
    try:
        with beside.open("wb") as file:
            np.savez_compressed(
                file,
                depth=np.round(depth / DEPTH_UNIT).astype(np.uint16),
                instance=instance.astype(np.uint8 if highest < 256 else np.uint16),
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    entry: dict[str, Any] = {
        "up": [float(v) for v in scene.up],
        "classes": {str(i): name for i, name in sorted(scene.classes.items())},
    }
    if scene.intrinsics != MOSD_CAMERA or depth.shape != _MOSD_SHAPE:
        entry["intrinsics"] = [scene.intrinsics.fx, scene.intrinsics.fy, scene.intrinsics.cx, scene.intrinsics.cy]
    return entry


def _back_project(scene: Scene) -> np.ndarray:
    """(H, W, 3) float64 metres, optical frame, NaN where nothing came back."""
    camera = scene.intrinsics
    height, width = scene.depth.shape
    z = np.where(scene.depth > 0, scene.depth, np.nan)
    x = (np.arange(width) - camera.cx) / camera.fx * z
    y = (np.arange(height)[:, None] - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=-1)


def _read_index(folder: Path) -> dict[str, Any]:
    listing = folder / "scenes.json"
    if not listing.is_file():
        raise ValueError(f"{folder} is no scene folder: it has no scenes.json beside a folder scenes/")
    if listing.stat().st_size > LARGEST_INDEX:
        raise ValueError(f"{listing} has {listing.stat().st_size} bytes, more than the {LARGEST_INDEX} of any list")
    try:
        index = json.loads(listing.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{listing} is not JSON: {error}") from None
    if not isinstance(index, dict) or not index:
        raise ValueError(f"{listing} must be an object with one entry a scene, but is {type(index).__name__} or empty")
    for name in index:
        _check_name(name, f"{listing} lists a scene")
    return index


def _select(index: Mapping[str, Any], folder: Path, only: str | Sequence[str]) -> list[str]:
    globs = [only] if isinstance(only, str) else list(only)
    names = [n for n in index if any(fnmatch.fnmatchcase(n, glob) for glob in globs)]
    if not names:
        raise ValueError(
            f"no scene of {folder} matches {' or '.join(repr(g) for g in globs)}: "
            f"it has {_some(sorted(index, key=_natural))}"
        )
    return sorted(names, key=_natural)


def _read_scene(folder: Path, name: str, entry: Any) -> Scene:
    where = f"{folder / 'scenes.json'}, scene '{name}'"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: the entry must be an object with up and classes, but is {type(entry).__name__}")
    depth, instance = _read_images(folder / "scenes" / f"{name}.npz")
    return Scene(
        name=name,
        up=_up(entry, where),
        depth=depth * DEPTH_UNIT,
        instance=instance,
        classes=_classes(entry, where),
        intrinsics=_intrinsics(entry, where, depth.shape),
    )


def _read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """depth (H, W) uint16 and instance (H, W) of one npz, checked."""
    if not path.is_file():
        raise ValueError(f"{path} is missing, though scenes.json lists it")
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            absent = {"depth", "instance"} - held.keys()
            if absent:
                raise _Refused(f"{path} lacks {' and '.join(sorted(absent))}: it holds {_some(list(held))}")
            depth = _image(archive, held["depth"], f"{path}: depth", "uint16 in units of 0.1 mm")
            instance = _image(archive, held["instance"], f"{path}: instance", "integers")
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a broken archive ends in errors of many types
        raise ValueError(f"{path} cannot be read as an npz: {' '.join(str(error).split())[:200]}") from None
    if depth.dtype != np.uint16:
        raise ValueError(f"{path}: depth must be uint16 in units of 0.1 mm, but is {depth.dtype}")
    _check_images(str(path), depth.shape, instance)
    if instance.max() > MOST_ID:
        raise ValueError(f"{path}: instance ids must be at most {MOST_ID}, but {instance.max()} occurs")
    return depth, instance


class _Refused(ValueError):
    """What an archive holds is no image; a sentence."""


def _image(archive: zipfile.ZipFile, member: str, where: str, wanted: str) -> np.ndarray:
    """One array of an npz, unpacked only once its header promises an image: a small archive can hold terabytes."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, number = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, number = np.lib.format.read_array_header_2_0(file)
        if number.hasobject:
            raise _Refused(f"{where} holds Python objects, which are never read; write it as an array of integers")
        if number.kind not in "iu":
            raise _Refused(f"{where} must be {wanted}, but is {number}")
        pixels = math.prod(shape)
        if len(shape) != 2 or not 0 < pixels <= MOST_PIXELS:
            raise _Refused(f"{where} must be an image (H, W) of at most {MOST_PIXELS} pixels, but has shape {shape}")
        content = file.read(pixels * number.itemsize)
        if file.read(1):  # the checksum is looked at behind the last byte
            raise _Refused(f"{where} goes on behind its {shape[0]} x {shape[1]} pixels")
    flat = np.frombuffer(content, number)
    return flat.reshape(shape, order="F" if fortran else "C").astype(number.newbyteorder("="))


def _check_images(where: str, shape: tuple[int, ...], instance: np.ndarray) -> None:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{where}: depth must be an image (H, W), but has shape {shape}")
    if instance.shape != shape:
        raise ValueError(f"{where}: instance has shape {instance.shape}, but depth {shape}; they must be equal")
    if instance.dtype.kind not in "iu":
        raise ValueError(f"{where}: instance must be integers, but is {instance.dtype}")
    if instance.min() < 0:
        raise ValueError(f"{where}: instance ids must not be negative, but {instance.min()} occurs")


def _up(entry: Mapping[str, Any], where: str) -> np.ndarray:
    up = entry.get("up")
    try:
        vector = np.asarray(up, np.float64)
    except (TypeError, ValueError, OverflowError):
        vector = np.empty(0)
    sound = vector.shape == (3,) and bool((np.abs(vector) < 1e100).all())  # of which a length can be taken
    length = float(np.linalg.norm(vector)) if sound else np.nan
    if not length >= 1e-6:
        raise ValueError(
            f"{where}: up must be the direction of 'up' in the camera frame, three numbers, but is {up!r:.120}"
        )
    return vector / length


def _classes(entry: Mapping[str, Any], where: str) -> dict[int, str]:
    classes = entry.get("classes")
    if not isinstance(classes, dict):
        raise ValueError(f"{where}: classes must be an object {{instance id: class name}}, but is {classes!r:.120}")
    named = {}
    for key, name in classes.items():
        if not re.fullmatch(r"[0-9]{1,9}", key) or not FIRST_OBJECT <= int(key) <= MOST_ID:
            raise ValueError(
                f"{where}: classes has the key '{key:.60}'; object ids are whole numbers from {FIRST_OBJECT} to "
                f"{MOST_ID}"
            )
        if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= _LONGEST_NAME:
            raise ValueError(
                f"{where}: the class of instance {key} must be a name of at most {_LONGEST_NAME} printable characters, "
                f"but is {name!r:.120}"
            )
        named[int(key)] = name
    return named


def _intrinsics(entry: Mapping[str, Any], where: str, shape: tuple[int, ...]) -> Intrinsics:
    given = entry.get("intrinsics")
    if given is None:
        if shape != _MOSD_SHAPE:
            raise ValueError(
                f"{where}: depth has shape {shape}, but without 'intrinsics' the camera is that of {_MOSD_SHAPE}; "
                "add 'intrinsics': [fx, fy, cx, cy]"
            )
        return MOSD_CAMERA
    if not isinstance(given, list) or len(given) != 4 or not all(isinstance(v, int | float) for v in given):
        raise ValueError(f"{where}: intrinsics must be [fx, fy, cx, cy] in pixels, but is {given!r:.120}")
    try:
        return Intrinsics(*map(float, given))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None


def _check_name(name: str, what: str) -> None:
    plain = name not in ("", ".", "..") and "/" not in name and "\\" not in name and name.isprintable()
    if not plain or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{what} named {name!r:.120}: a scene's name must be a plain file name of at most {_LONGEST_NAME} bytes"
        )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that reads digits as numbers."""
    parts = re.split(r"([0-9]+)", name)  # words and numbers in turn
    return [(bool(place % 2), int(part) if place % 2 else 0, part) for place, part in enumerate(parts)]


def _some(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f", … ({len(names)} in all)" if len(names) > limit else "")
