"""PointDA-10: ten kinds of furniture from ModelNet, ShapeNet and ScanNet (Qin et al., PointDAN, NeurIPS 2019).

| domain | files below `PointDA_data` | what it is | up in the files |
|---|---|---|---|
| modelnet | `modelnet/CLASS/{train,test}/*.npy`, (N, 3+) | complete CAD models | z |
| shapenet | `shapenet/CLASS/{train,test}/*.npy`, (N, 3+) | complete CAD models | y; z of plants |
| scannet | `scannet/{train,test}_*.h5`: `data` (M, N, 3+), `label` (M,) or (M, 1) | cut out of scanned rooms | y |

Beside the h5 files, `{train,test}_files.txt` may list those of a split. The loaders of PointDAN and CLIPoint3D turn
nothing; followed here is DefRec's (Achituve et al., WACV 2021, `PointDA/data/dataloader.py`), as GAST does. It turns
every ScanNet cloud, and every ShapeNet cloud but the plants, with `rotate_shape(x, 'x', -pi/2)`. That multiplies rows
by the matrix from the right, so (x, y, z) becomes (x, -z, y): their y, which is up, becomes z, as ModelNet has it.
DefRec's scaling, jitter and draw of 1024 points are not done here: clouds keep the file's scale, of unknown unit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clipoint3d_ros.datasets.files import read_points
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import finite_points

CLASSES = ("bathtub", "bed", "bookshelf", "cabinet", "chair", "lamp", "monitor", "plant", "sofa", "table")
DOMAINS = ("modelnet", "shapenet", "scannet")
SPLITS = ("train", "test")
TEST_SIZES = {"modelnet": 856, "shapenet": 2492, "scannet": 1769}  # as published

_PLANT = CLASSES.index("plant")  # stands on its z axis in ShapeNet already


class DatasetWarning(UserWarning):
    """A dataset that can be read, but is not what was published under its name."""


def read_pointda(root: str | Path, domain: str, split: str, progress: bool = True) -> Objects:
    """One domain of PointDA-10, z up in all three (the module says how).

    Args:
        root: the folder `PointDA_data`.
        domain: modelnet, shapenet or scannet, in any case.
        split: train or test.
        progress: show a bar.

    Returns:
        M objects in the order of class and file (scannet: of file and row): the first three columns of their finite
        rows, z up, without viewpoints or a metric unit, each a scene of its own.

    Raises:
        FileNotFoundError: no such folder, a class of which there is no folder or no file, a listed h5 that is absent.
        ValueError: an unknown domain or split, or a file that is not of the layout above.

    Warns:
        DatasetWarning: the test split is not of the published size.
    """
    root, domain = Path(root), domain.lower()
    if domain not in DOMAINS:
        raise ValueError(f"'{domain}' is no domain of PointDA-10; choose one of {', '.join(DOMAINS)}")
    if split not in SPLITS:
        raise ValueError(f"'{split}' is no split of PointDA-10; choose one of {', '.join(SPLITS)}")
    if not (root / domain).is_dir():
        raise FileNotFoundError(
            f"no folder {root / domain}; the root of PointDA-10 is its folder PointDA_data, which holds {domain}/"
        )
    stream = (
        _scanned(root / domain, split, progress) if domain == "scannet" else _models(root / domain, split, progress)
    )
    clouds, labels = [], []
    for cloud, label in stream:
        clouds.append(cloud if domain == "modelnet" or (domain == "shapenet" and label == _PLANT) else _y_to_z(cloud))
        labels.append(label)
    if split == "test" and len(clouds) != TEST_SIZES[domain]:
        warnings.warn(
            f"{root / domain} has {len(clouds)} test objects, but PointDA-10 was published with {TEST_SIZES[domain]}: "
            "figures on them do not compare with published ones",
            DatasetWarning,
            stacklevel=2,
        )
    return Objects(
        domain=f"{domain} {split}",
        classes=CLASSES,
        clouds=tuple(clouds),
        labels=np.array(labels, np.int64),
        scenes=np.arange(len(clouds)),
        metric=False,
    )


def _y_to_z(points: np.ndarray) -> np.ndarray:
    """(N, 3) → (N, 3): DefRec's quarter turn about x, exactly."""
    return points[:, [0, 2, 1]] * np.array([1, -1, 1], np.float32)


def _models(folder: Path, split: str, progress: bool) -> Iterator[tuple[np.ndarray, int]]:
    """(points (N, 3), label) of the npy files of every class."""
    from tqdm import tqdm

    files = [(path, label) for label, name in enumerate(CLASSES) for path in _class_files(folder / name / split)]
    for path, label in tqdm(files, desc=f"reading {folder.name} {split}", unit="object", disable=not progress):
        yield read_points(path), label


def _class_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; PointDA-10 has one for each of {', '.join(CLASSES)}")
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .npy file; unpack the dataset again")
    return files


def _scanned(folder: Path, split: str, progress: bool) -> Iterator[tuple[np.ndarray, int]]:
    """(points (N, 3), label) of every row of a split's h5 files."""
    from tqdm import tqdm

    for path in tqdm(_h5_files(folder, split), desc=f"reading scannet {split}", unit="file", disable=not progress):
        data, labels = _read_h5(path)
        for row, (points, label) in enumerate(zip(data, labels, strict=True)):
            points = finite_points(points)
            if len(points) == 0:
                raise ValueError(f"object {row} of {path} holds no finite point; take it out of the file")
            yield points, int(label)


def _h5_files(folder: Path, split: str) -> list[Path]:
    """The files of the split's list by their base names (the lists carry their author's paths), else all by name."""
    listing = folder / f"{split}_files.txt"
    if not listing.is_file():
        files = sorted(folder.glob(f"{split}_*.h5"))
        if not files:
            raise FileNotFoundError(f"{folder} has neither {listing.name} nor a file {split}_*.h5")
        return files
    names = [line.strip().replace("\\", "/").rsplit("/", 1)[-1] for line in listing.read_text().splitlines()]
    files = [folder / name for name in names if name]
    if not files:
        raise ValueError(f"{listing} is empty; name an h5 file a line, or remove it to read all {split}_*.h5")
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"{listing} names {', '.join(absent)}, which {folder} does not hold")
    return files


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`data` (M, N, 3) and `label` (M,) of one file, checked."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            stored = {name: file.get(name) for name in ("data", "label")}
            absent = [name for name, found in stored.items() if not isinstance(found, h5py.Dataset)]
            if absent:
                held = ", ".join(file) or "nothing"
                raise ValueError(f"{path} has no dataset {' and no '.join(map(repr, absent))}; it holds {held}")
            _check_shapes(path, stored["data"], stored["label"])
            data, labels = stored["data"][:, :, :3], stored["label"][()].reshape(-1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5: {' '.join(str(error).split())[:200]}") from error
    wrong = labels[(labels < 0) | (labels >= len(CLASSES))]
    if len(wrong):
        raise ValueError(f"{path} has the label {wrong[0]}; labels are 0 to {len(CLASSES) - 1}, one a class")
    return data, labels


def _check_shapes(path: Path, data: Any, label: Any) -> None:
    if len(data.shape) != 3 or data.shape[2] < 3 or data.dtype.kind not in "fiu":
        raise ValueError(
            f"'data' of {path} is {data.dtype} of shape {data.shape}; expected are numbers (M, N, 3 or more)"
        )
    if label.shape not in ((len(data),), (len(data), 1)) or label.dtype.kind not in "iu":
        raise ValueError(
            f"'label' of {path} is {label.dtype} of shape {label.shape}; expected are {len(data)} integers, "
            "as many as there are clouds in 'data'"
        )
