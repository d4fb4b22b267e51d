"""PointDA-10 from generated files of its layout."""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest

from clipoint3d_ros.clip.descriptions import load_descriptions
from clipoint3d_ros.datasets import pointda
from clipoint3d_ros.datasets.pointda import CLASSES, DatasetWarning, read_pointda
from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.resources import config_file


def cloud(seed: int, points: int = 20, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, columns)).astype(np.float32)


def write_models(root, domain="modelnet", split="train", each=2, **shape):
    for label, name in enumerate(CLASSES):
        folder = root / domain / name / split
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(each):
            np.save(folder / f"{name}_{i}.npy", cloud(100 * label + i, **shape))
    return root


def write_h5(path, labels, columns=6, **extra):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([cloud(i, columns=columns) for i in range(len(labels))])
        file["label"] = np.asarray(labels, np.int32)
        for name, array in extra.items():
            if name in file:
                del file[name]
            if array is not None:
                file[name] = array
    return path


def defrec_rotate(x: np.ndarray, angle: float) -> np.ndarray:
    """DefRec's rotate_shape about x, as its matrix is written there."""
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    return x.dot(np.array(turn))


def test_class_file_lists_the_classes_in_the_loaders_order():
    assert load_descriptions(config_file("classes/pointda10.yaml")).names == CLASSES


def test_models_come_by_class_and_file_with_their_labels(tmp_path):
    found = read_pointda(write_models(tmp_path), "modelnet", "train", progress=False)
    assert found.domain == "modelnet train"
    assert found.classes == CLASSES
    assert found.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    np.testing.assert_array_equal(found.clouds[7], cloud(301))
    assert all(c.dtype == np.float32 for c in found.clouds)


def test_objects_are_independent_and_have_neither_viewpoint_nor_metre(tmp_path):
    found = read_pointda(write_models(tmp_path), "modelnet", "train", progress=False)
    assert found.scenes.tolist() == list(range(20))
    assert found.viewpoints is None
    assert not found.metric
    assert found.up == (0, 0, 1)


def test_y_becomes_z_and_z_becomes_minus_y():
    axes = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(pointda._y_to_z(axes), [[1, 0, 0], [0, 0, 1], [0, -1, 0]])


def test_the_quarter_turn_is_that_of_defrec():
    np.testing.assert_allclose(pointda._y_to_z(cloud(1)), defrec_rotate(cloud(1), -np.pi / 2), atol=1e-6)


def test_modelnet_is_left_as_it_is_and_shapenet_turned_but_for_plants(tmp_path):
    write_models(tmp_path, "modelnet")
    write_models(tmp_path, "shapenet")
    models, shapes = (read_pointda(tmp_path, d, "train", progress=False) for d in ("modelnet", "shapenet"))
    for model, shape, label in zip(models.clouds, shapes.clouds, models.labels, strict=True):
        expected = model if CLASSES[label] == "plant" else defrec_rotate(model, -np.pi / 2)
        np.testing.assert_allclose(shape, expected, atol=1e-6)


def test_every_scannet_cloud_is_turned_plants_too(tmp_path):
    write_h5(tmp_path / "scannet" / "train_0.h5", [7, 0])
    found = read_pointda(tmp_path, "scannet", "train", progress=False)
    assert found.labels.tolist() == [7, 0]
    for i in range(2):
        np.testing.assert_allclose(found.clouds[i], defrec_rotate(cloud(i, columns=6)[:, :3], -np.pi / 2), atol=1e-6)


def test_columns_after_the_third_and_rows_that_are_no_return_are_left_away(tmp_path):
    write_models(tmp_path, each=1, columns=6)
    gaps = cloud(5, columns=6)
    gaps[:4, 0] = np.nan
    gaps[4, 1] = np.inf
    gaps[5, 5] = np.nan
    np.save(tmp_path / "modelnet" / "bathtub" / "train" / "bathtub_0.npy", gaps)
    found = read_pointda(tmp_path, "modelnet", "train", progress=False)
    np.testing.assert_array_equal(found.clouds[0], gaps[5:, :3])
    assert found.clouds[1].shape == (20, 3)
    write_h5(tmp_path / "scannet" / "train_0.h5", [0], data=gaps[None])
    assert read_pointda(tmp_path, "scannet", "train", progress=False).clouds[0].shape == (15, 3)


def test_splits_do_not_mix(tmp_path):
    write_models(tmp_path, split="train", each=2)
    write_models(tmp_path, split="test", each=1)
    assert len(read_pointda(tmp_path, "ModelNet", "train", progress=False)) == 20
    with pytest.warns(DatasetWarning):
        assert len(read_pointda(tmp_path, "modelnet", "test", progress=False)) == 10


def test_listed_h5_files_are_found_beside_the_list_whatever_path_it_gives(tmp_path):
    write_h5(tmp_path / "scannet" / "train_0.h5", [0])
    write_h5(tmp_path / "scannet" / "train_1.h5", [1, 2])
    write_h5(tmp_path / "scannet" / "train_2.h5", [3])
    (tmp_path / "scannet" / "train_files.txt").write_text("./data/scannet/train_1.h5\n\nD:\\data\\train_0.h5\n")
    assert read_pointda(tmp_path, "scannet", "train", progress=False).labels.tolist() == [1, 2, 0]


def test_without_a_list_all_h5_files_of_the_split_are_read(tmp_path):
    write_h5(tmp_path / "scannet" / "train_1.h5", [1])
    write_h5(tmp_path / "scannet" / "train_0.h5", [[2], [3]])
    write_h5(tmp_path / "scannet" / "test_0.h5", [9])
    assert read_pointda(tmp_path, "scannet", "train", progress=False).labels.tolist() == [2, 3, 1]


def test_a_test_split_of_another_size_than_published_is_said(tmp_path):
    write_models(tmp_path, split="test", each=1)
    with pytest.warns(DatasetWarning, match="has 10 test objects, but PointDA-10 was published with 856"):
        read_pointda(tmp_path, "modelnet", "test", progress=False)


def test_a_test_split_of_the_published_size_is_read_without_a_word(tmp_path):
    write_h5(tmp_path / "scannet" / "test_0.h5", np.zeros(1769), data=np.ones((1769, 2, 3), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_pointda(tmp_path, "scannet", "test", progress=False)) == 1769


def test_unknown_domains_and_splits_are_named_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="'kitti' is no domain of PointDA-10; choose one of modelnet, shapenet, scan"):
        read_pointda(tmp_path, "kitti", "train")
    with pytest.raises(ValueError, match="'val' is no split of PointDA-10; choose one of train, test"):
        read_pointda(tmp_path, "modelnet", "val")


def test_folders_that_are_missing_or_empty_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"modelnet; the root of PointDA-10 is its folder PointDA_data"):
        read_pointda(tmp_path / "absent", "modelnet", "train")
    write_models(tmp_path, each=1)
    (tmp_path / "modelnet" / "sofa" / "train" / "sofa_0.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"sofa/train holds no \.npy file"):
        read_pointda(tmp_path, "modelnet", "train")
    (tmp_path / "modelnet" / "sofa" / "train").rmdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*sofa/train; PointDA-10 has one for each of bathtub"):
        read_pointda(tmp_path, "modelnet", "train")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (np.zeros(9), r"array of shape \(9,\)"),
        (np.zeros((9, 2)), r"array of shape \(9, 2\)"),
        (np.full((9, 3), np.nan), "holds no points"),
        (np.array([{"a": 1}]), "cannot be read"),
    ],
)
def test_a_file_that_is_no_cloud_is_named(tmp_path, stored, said):
    write_models(tmp_path, each=1)
    np.save(tmp_path / "modelnet" / "bed" / "train" / "bed_0.npy", stored, allow_pickle=True)
    with pytest.raises(CloudError, match=f"bed_0.npy.*{said}"):
        read_pointda(tmp_path, "modelnet", "train", progress=False)


def test_a_list_that_is_empty_or_names_what_is_not_there_is_refused(tmp_path):
    write_h5(tmp_path / "scannet" / "train_0.h5", [0])
    listing = tmp_path / "scannet" / "train_files.txt"
    listing.write_text("./train_0.h5\n./train_1.h5\n")
    with pytest.raises(FileNotFoundError, match=r"train_files.txt names train_1.h5, which .* does not hold"):
        read_pointda(tmp_path, "scannet", "train")
    listing.write_text("\n")
    with pytest.raises(ValueError, match=r"train_files.txt is empty; name an h5 file a line"):
        read_pointda(tmp_path, "scannet", "train")
    with pytest.raises(FileNotFoundError, match=r"neither test_files.txt nor a file test_\*.h5"):
        read_pointda(tmp_path, "scannet", "test")


@pytest.mark.parametrize(
    ("labels", "extra", "said"),
    [
        ([0, 1], {"data": None}, "has no dataset 'data'; it holds label"),
        ([0, 1], {"data": None, "label": None}, "has no dataset 'data' and no 'label'; it holds nothing"),
        ([0, 1], {"data": np.zeros((2, 20))}, r"'data' of .* is float64 of shape \(2, 20\)"),
        ([0, 1], {"data": np.zeros((2, 20, 2))}, r"of shape \(2, 20, 2\); expected are numbers \(M, N, 3 or more\)"),
        ([0, 1], {"data": np.zeros((3, 20, 3))}, r"'label' of .* of shape \(2,\); expected are 3 integers"),
        ([0, 1], {"label": np.zeros(2)}, "'label' of .* is float64"),
        ([0, 10], {}, "has the label 10; labels are 0 to 9"),
        ([-1, 0], {}, "has the label -1"),
        ([0, 1], {"data": np.stack([np.ones((4, 3)), np.full((4, 3), np.nan)])}, "object 1 of .* no finite point"),
    ],
)
def test_an_h5_of_another_layout_is_refused_in_words(tmp_path, labels, extra, said):
    write_h5(tmp_path / "scannet" / "train_0.h5", labels, **extra)
    with pytest.raises(ValueError, match=said):
        read_pointda(tmp_path, "scannet", "train", progress=False)


def test_a_broken_h5_is_refused_in_words(tmp_path):
    (tmp_path / "scannet").mkdir()
    (tmp_path / "scannet" / "train_0.h5").write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"train_0.h5 cannot be read as HDF5"):
        read_pointda(tmp_path, "scannet", "train", progress=False)
