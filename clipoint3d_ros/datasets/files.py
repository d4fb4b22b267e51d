"""Clouds and meshes on disk, one object a file, and folders of them by class. Formats through open3d and trimesh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipoint3d_ros.geometry.clouds import CloudError, finite_points

CLOUD_SUFFIXES = (".pcd", ".ply", ".xyz", ".xyzn", ".xyzrgb", ".pts", ".npy", ".npz", ".txt")
MESH_SUFFIXES = (".obj", ".stl", ".off", ".glb", ".gltf")
SURFACE_POINTS = 4096  # sampled from a mesh


def read_points(path: str | Path, seed: int = 0) -> np.ndarray:
    """One object's points.

    Args:
        path: a cloud (.pcd .ply .xyz .pts .npy .npz .txt) or a mesh (.obj .stl .off .glb; .ply with faces); of a mesh
            4096 points are drawn evenly from its surface. Columns after the third are left away.
        seed: of that draw.

    Returns:
        (N, 3) float32, finite, in the file's unit and frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a format this package does not read.
        CloudError: the file holds no points.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if suffix not in CLOUD_SUFFIXES + MESH_SUFFIXES:
        raise ValueError(f"{path} has the ending '{suffix}'; read are {', '.join(CLOUD_SUFFIXES + MESH_SUFFIXES)}")
    try:
        points = _read(path, suffix, seed)
    except CloudError:
        raise
    except Exception as error:  # the readers raise what they like on a broken file
        raise CloudError(f"{path} cannot be read as {suffix}: {' '.join(str(error).split())[:200]}") from error
    points = finite_points(points)
    if len(points) == 0:
        raise CloudError(f"{path} holds no points")
    return points


def class_folders(root: str | Path) -> dict[str, list[Path]]:
    """Files by class of a folder with one subfolder a class; names and files in sorted order.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no subfolder holds a file of a known ending.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    found = {
        folder.name: sorted(p for p in folder.rglob("*") if p.suffix.lower() in CLOUD_SUFFIXES + MESH_SUFFIXES)
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise ValueError(f"{root} has no subfolder with clouds or meshes; expected is {root}/CLASS/FILE")
    return found


def read_class_folders(root: str | Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    """(class, file, points) of every file below `root`; arguments and errors as in `class_folders`, `read_points`."""
    for name, files in class_folders(root).items():
        for path in files:
            yield name, path, read_points(path)


def _read(path: Path, suffix: str, seed: int) -> np.ndarray:
    if suffix in (".npy", ".npz"):
        return _columns(_array(path), path)
    if suffix == ".txt":
        return _columns(np.loadtxt(path, ndmin=2, delimiter="," if "," in _first_line(path) else None), path)
    if suffix in MESH_SUFFIXES or (suffix == ".ply" and _has_faces(path)):
        import trimesh

        mesh = trimesh.load(path, force="mesh")
        if len(mesh.faces) == 0:
            raise CloudError(f"{path} is a mesh without faces")
        points, _ = trimesh.sample.sample_surface(mesh, SURFACE_POINTS, seed=seed)
        return np.asarray(points)
    import open3d as o3d

    cloud = o3d.io.read_point_cloud(str(path), remove_nan_points=False)
    return np.asarray(cloud.points)


def _array(path: Path) -> np.ndarray:
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return stored
    with stored:
        names = [n for n in ("points", "cloud", "data", *stored.files) if n in stored.files]
        if not names:
            raise CloudError(f"{path} holds no array")
        return stored[names[0]]


def _columns(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim < 2 or array.shape[-1] < 3:
        raise CloudError(f"{path} holds an array of shape {array.shape}; expected is (N, 3) or more columns")
    return array[..., :3]


def _first_line(path: Path) -> str:
    with path.open() as file:
        return file.readline()


def _has_faces(path: Path) -> bool:
    """Whether a PLY's header announces any face."""
    with path.open("rb") as file:
        for _ in range(200):
            words = file.readline(1024).split()
            if words[:2] == [b"element", b"face"]:
                return int(words[2]) > 0
            if not words or words[0] == b"end_header":
                return False
    return False
