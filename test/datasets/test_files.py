"""Clouds and meshes in every format that is read, and what is refused."""

import numpy as np
import open3d as o3d
import pytest
import trimesh

from clipoint3d_ros.datasets.files import class_folders, read_class_folders, read_points
from clipoint3d_ros.geometry.clouds import CloudError

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".xyz", ".npy", ".npz", ".txt", ".pts"])
def test_clouds_come_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"cloud{suffix}"
    if suffix == ".npy":
        np.save(path, POINTS)
    elif suffix == ".npz":
        np.savez(path, points=POINTS)
    elif suffix == ".txt":
        np.savetxt(path, np.column_stack([POINTS, POINTS]), delimiter=",")
    else:
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(POINTS.astype(float)))
        o3d.io.write_point_cloud(str(path), cloud)
    np.testing.assert_allclose(read_points(path), POINTS, atol=1e-5)


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".off", ".glb", ".ply"])
def test_meshes_are_sampled_on_their_surface(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    trimesh.creation.box(extents=(2, 2, 2)).export(path)
    points = read_points(path)
    assert len(points) == 4096
    np.testing.assert_allclose(np.abs(points).max(1), 1, atol=1e-5)
    assert (points == read_points(path)).all(), "the same file gives the same points"


def test_points_that_are_no_return_are_dropped(tmp_path):
    cloud = POINTS.copy()
    cloud[:7] = np.nan
    np.save(tmp_path / "cloud.npy", cloud)
    assert len(read_points(tmp_path / "cloud.npy")) == 43


def test_what_cannot_be_read_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_points(tmp_path / "absent.ply")
    (tmp_path / "cloud.doc").write_text("x")
    with pytest.raises(ValueError, match=r"ending '\.doc'"):
        read_points(tmp_path / "cloud.doc")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(CloudError, match="cannot be read"):
        read_points(tmp_path / "broken.npy")
    (tmp_path / "broken.ply").write_bytes(b"not a ply")
    with pytest.raises(CloudError):
        read_points(tmp_path / "broken.ply")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(CloudError, match="cannot be read"):
        read_points(tmp_path / "pickled.npy")
    np.save(tmp_path / "flat.npy", np.zeros(9))
    with pytest.raises(CloudError, match=r"shape \(9,\)"):
        read_points(tmp_path / "flat.npy")
    np.save(tmp_path / "empty.npy", np.full((4, 3), np.nan))
    with pytest.raises(CloudError, match="holds no points"):
        read_points(tmp_path / "empty.npy")


def test_folders_by_class_are_read_in_order(tmp_path):
    for name in ("mug", "box"):
        (tmp_path / name / "train").mkdir(parents=True)
        for i in range(2):
            np.save(tmp_path / name / "train" / f"{i}.npy", POINTS + i)
    (tmp_path / "mug" / "notes.md").write_text("not a cloud")
    (tmp_path / "nothing").mkdir()
    assert list(class_folders(tmp_path)) == ["box", "mug"]
    told = [(name, path.stem, len(points)) for name, path, points in read_class_folders(tmp_path)]
    assert told == [("box", "0", 50), ("box", "1", 50), ("mug", "0", 50), ("mug", "1", 50)]
    with pytest.raises(ValueError, match="CLASS/FILE"):
        class_folders(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no folder"):
        class_folders(tmp_path / "absent")
