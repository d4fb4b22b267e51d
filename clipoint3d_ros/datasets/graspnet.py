"""GraspNetPC-10: ten tabletop objects as two depth cameras saw or would see them (Shen et al., CVPR 2022).

`GraspNetPointClouds/{train,test}/{Real,Synthetic}/{kinect,realsense}/{0..9}/scene_XXXX_FFFF.xyz`, one object a file, a
line a point: x y z, and perhaps more. The classes are the GraspNet-1Billion objects 0, 2, 5, 8, 9, 15, 46, 48, 60, 66
in this order (`k_objs_graspnet` in the authors' repository ImplicitPCDA, `datasets/datautils.py`).

Axes. Known, from the same file: each cloud is a masked depth image projected with x right, y down, z forward, moved to
its mean and divided by its furthest point's distance. Nothing turns them, neither there nor in the authors' loader
(`datasets/datasets.py`), so the camera's tilt, place and distance, and the metre, are lost. Assumed here: up is the top
of the image, (0, -1, 0), though the real cameras looked down on the table at angles that are not told; and the sensor
stood straight in front of the object, on the optical axis, at five times the object's radius (half a metre from a body
of 20 cm). Of the latter only the direction is ever used, and it is off by as much as the object was off the image's
centre.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import finite_points

CLASSES = ("box", "can", "banana", "drill", "scissors", "pear", "dish", "camel", "mouse", "shampoo bottle")
# Domain: its folders. CLIPoint3D's tables take both synthetic cameras for one source, "synthetic".
DOMAINS = {
    "synthetic": ("Synthetic/kinect", "Synthetic/realsense"),
    "synthetic/kinect": ("Synthetic/kinect",),
    "synthetic/realsense": ("Synthetic/realsense",),
    "real/kinect": ("Real/kinect",),
    "real/realsense": ("Real/realsense",),
}
SPLITS = ("train", "test")
UP = (0.0, -1.0, 0.0)  # the top of the image
DISTANCE = 5.0  # of the sensor, in radii of the object

_NAME = re.compile(r"scene_([0-9]+)_([0-9]+)\.xyz")


class _File(NamedTuple):
    """One object's file; sorts in the order in which the robot saw the objects."""

    scene: int
    frame: int
    label: int
    path: Path


def read_graspnet(root: str | Path, domain: str, split: str, progress: bool = True) -> Objects:
    """One domain of GraspNetPC-10, in the camera's optical frame (the module says what is known of its axes).

    Args:
        root: the folder `GraspNetPointClouds`.
        domain: synthetic/kinect, synthetic/realsense, both of them as synthetic, real/kinect or real/realsense, in
            any case.
        split: train or test.
        progress: show a bar.

    Returns:
        M objects by scene, frame and class, as a robot's camera met them: the first three columns of their finite
        rows, of unit radius and no metric unit, with scenes as the files name them.

    Raises:
        FileNotFoundError: no such folder, or a class of which there is no folder or no file.
        ValueError: an unknown domain or split, a file's name without scene and frame, or a file that is no cloud.
    """
    from tqdm import tqdm

    domain = domain.lower()
    if domain not in DOMAINS:
        raise ValueError(f"'{domain}' is no domain of GraspNetPC-10; choose one of {', '.join(DOMAINS)}")
    if split not in SPLITS:
        raise ValueError(f"'{split}' is no split of GraspNetPC-10; choose one of {', '.join(SPLITS)}")
    folders = [Path(root) / split / camera for camera in DOMAINS[domain]]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; the root of GraspNetPC-10 is its folder GraspNetPointClouds, which holds {split}/"
            )
    labelled = [(folder / str(label), label) for folder in folders for label in range(len(CLASSES))]
    files = sorted(file for folder, label in labelled for file in _class_files(folder, label))
    bar = tqdm(files, desc=f"reading {domain} {split}", unit="object", disable=not progress)
    clouds = tuple(_read_xyz(file.path) for file in bar)
    return Objects(
        domain=f"{domain} {split}",
        classes=CLASSES,
        clouds=clouds,
        labels=np.array([file.label for file in files], np.int64),
        scenes=np.array([file.scene for file in files], np.int64),
        up=UP,
        viewpoints=np.tile(np.array([0, 0, -DISTANCE], np.float32), (len(files), 1)),
        metric=False,
    )


def _class_files(folder: Path, label: int) -> list[_File]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder} for {CLASSES[label]}; GraspNetPC-10 has one for each of 0 to {len(CLASSES) - 1}"
        )
    files = []
    for path in folder.glob("*.xyz"):
        named = _NAME.fullmatch(path.name)
        if not named:
            raise ValueError(f"{path} does not tell scene and frame; its name must be scene_XXXX_FFFF.xyz")
        files.append(_File(int(named[1]), int(named[2]), label, path))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .xyz file; unpack the dataset again")
    return files


def _read_xyz(path: Path) -> np.ndarray:
    """(N, 3) float32, finite. Stricter than open3d's reader, which skips the lines that it does not understand."""
    try:
        rows = [line.split()[:3] for line in path.read_text().splitlines() if line.strip()]
        short = next((row for row in rows if len(row) < 3), None)
        if short:
            raise ValueError(f"one is '{' '.join(short)}'")
        points = np.array(rows, np.float64).reshape(-1, 3)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path} is no list of points, whose lines begin with three numbers x y z: {reason}"
        ) from error
    points = finite_points(points)
    if len(points) == 0:
        raise ValueError(f"{path} holds no points; take it out of the dataset")
    return points
