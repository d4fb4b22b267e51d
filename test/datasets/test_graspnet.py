"""GraspNetPC-10 from generated files of its layout."""

from __future__ import annotations

import numpy as np
import pytest

from clipoint3d_ros.clip.descriptions import load_descriptions
from clipoint3d_ros.datasets.graspnet import CLASSES, read_graspnet
from clipoint3d_ros.geometry.clouds import level
from clipoint3d_ros.resources import config_file

SEEN = [(3, 10), (3, 2), (21, 0)]  # scene, frame


def cloud(seed: int, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(8, columns))


def write_tree(root, folder="train/Real/kinect", seen=SEEN, columns=3):
    for label in range(len(CLASSES)):
        (root / folder / str(label)).mkdir(parents=True, exist_ok=True)
        for scene, frame in seen:
            path = root / folder / str(label) / f"scene_{scene:04d}_{frame:04d}.xyz"
            np.savetxt(path, cloud(10000 * scene + 100 * frame + label, columns))
    return root


def test_class_file_lists_the_classes_in_the_loaders_order():
    assert load_descriptions(config_file("classes/graspnetpc10.yaml")).names == CLASSES


def test_objects_come_by_scene_then_frame_then_class_as_the_robot_met_them(tmp_path):
    found = read_graspnet(write_tree(tmp_path), "real/kinect", "train", progress=False)
    assert found.domain == "real/kinect train"
    assert found.classes == CLASSES
    assert found.scenes.tolist() == [3] * 20 + [21] * 10
    assert found.labels.tolist() == list(range(10)) * 3
    for i, (scene, frame) in enumerate(sorted(SEEN)):
        np.testing.assert_allclose(found.clouds[10 * i + 4], cloud(10000 * scene + 100 * frame + 4), rtol=1e-6)


@pytest.mark.parametrize("domain", ["Synthetic/kinect", "synthetic/realsense", "REAL/Kinect", "real/realsense"])
def test_each_domain_has_its_folder_whatever_the_case(tmp_path, domain):
    kind, camera = domain.lower().split("/")
    write_tree(tmp_path, f"test/{kind.capitalize()}/{camera}", [(0, 0)])
    assert len(read_graspnet(tmp_path, domain, "test", progress=False)) == 10


def test_columns_after_the_third_empty_lines_and_points_that_are_no_return_are_left_away(tmp_path):
    write_tree(tmp_path, seen=[(0, 0)], columns=6)
    (tmp_path / "train/Real/kinect/0/scene_0000_0000.xyz").write_text("1 2 3 9 9\n\nnan 0 0\n4\t5  6\n")
    found = read_graspnet(tmp_path, "real/kinect", "train", progress=False)
    np.testing.assert_array_equal(found.clouds[0], [[1, 2, 3], [4, 5, 6]])
    assert found.clouds[1].shape == (8, 3)
    assert found.clouds[0].dtype == np.float32


def test_the_picture_stays_upright_and_seen_from_the_front(tmp_path):
    found = read_graspnet(write_tree(tmp_path, seen=[(0, 0)]), "real/kinect", "train", progress=False)
    assert not found.metric
    turn = level(found.up, found.viewpoints[0])
    right, down, forward = turn.T
    np.testing.assert_allclose(right, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(down, [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(forward, [0, 0, -1], atol=1e-12)
    assert found.viewpoints.shape == (10, 3)


def test_unknown_domains_and_splits_are_named_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="'real' is no domain of GraspNetPC-10; choose one of synthetic, synth"):
        read_graspnet(tmp_path, "real", "train")
    with pytest.raises(ValueError, match="'val' is no split of GraspNetPC-10; choose one of train, test"):
        read_graspnet(tmp_path, "real/kinect", "val")


def test_folders_that_are_missing_or_empty_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Real/kinect; the root of GraspNetPC-10 is its folder GraspNetPoint"):
        read_graspnet(tmp_path, "real/kinect", "train")
    folder = write_tree(tmp_path, seen=[(0, 0)]) / "train/Real/kinect/6"
    next(folder.iterdir()).unlink()
    with pytest.raises(FileNotFoundError, match=r"kinect/6 holds no \.xyz file"):
        read_graspnet(tmp_path, "real/kinect", "train")
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match=r"kinect/6 for dish; GraspNetPC-10 has one for each of 0 to 9"):
        read_graspnet(tmp_path, "real/kinect", "train")


def test_a_name_without_scene_and_frame_is_refused(tmp_path):
    folder = write_tree(tmp_path, seen=[(0, 0)]) / "train/Real/kinect/0"
    (folder / "scene_7.xyz").write_text("0 0 0\n")
    with pytest.raises(
        ValueError, match=r"scene_7.xyz does not tell scene and frame; its name must be scene_XXXX_FFFF"
    ):
        read_graspnet(tmp_path, "real/kinect", "train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no points"),
        (b"nan nan nan\n", "holds no points"),
        (b"1 2\n3 4\n5 6\n", "is no list of points, whose lines begin with three numbers x y z: one is '1 2'"),
        (b"1 2 3\n1 2\n", "is no list of points"),
        (b"1 2 3\nx y z\n", "is no list of points"),
        (b"\xff\xfe\x00\x01", "is no list of points"),
    ],
)
def test_a_file_that_is_no_cloud_is_named(tmp_path, text, said):
    path = write_tree(tmp_path, seen=[(0, 0)]) / "train/Real/kinect/0/scene_0000_0000.xyz"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=f"scene_0000_0000.xyz {said}"):
        read_graspnet(tmp_path, "real/kinect", "train", progress=False)


def test_synthetic_is_both_synthetic_cameras(tmp_path):
    write_tree(tmp_path, "train/Synthetic/kinect")
    write_tree(tmp_path, "train/Synthetic/realsense")
    both = read_graspnet(tmp_path, "synthetic", "train", progress=False)
    each = [
        read_graspnet(tmp_path, f"synthetic/{camera}", "train", progress=False) for camera in ("kinect", "realsense")
    ]
    assert len(both) == len(each[0]) + len(each[1])
    assert (np.diff(both.scenes) >= 0).all(), "the scenes are in order"
