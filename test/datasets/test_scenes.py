"""The scene-folder layout, read and written."""

import errno
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.scenes import Intrinsics, Scene

SMALL = Intrinsics(fx=40.0, fy=40.0, cx=19.5, cy=14.5)


def small_scene(name="a1", seed=0):
    rng = np.random.default_rng(seed)
    depth = np.round(rng.uniform(0.5, 2.0, (30, 40)), 4)
    depth[:5] = 0
    instance = np.ones((30, 40), np.uint8)
    instance[:5] = 0
    instance[10:16, 10:20] = 2
    instance[18:25, 22:30] = 3
    return Scene(name, np.array([0.0, -0.8, -0.6]), depth, instance, {2: "box"}, SMALL)


def edit_entry(folder, name, **keys):
    index = json.loads((folder / "scenes.json").read_text())
    index[name].update(keys)
    index[name] = {key: value for key, value in index[name].items() if value is not ...}
    (folder / "scenes.json").write_text(json.dumps(index))


def test_a_written_folder_reads_back_equal(tmp_path):
    assert scenes.write_folder(tmp_path, [small_scene("a1"), small_scene("a2", 1)]) == 2
    for original, read in zip([small_scene("a1"), small_scene("a2", 1)], scenes.read_scenes(tmp_path), strict=True):
        assert read.name == original.name
        assert read.classes == original.classes
        assert read.intrinsics == original.intrinsics
        np.testing.assert_allclose(read.depth, original.depth, atol=1e-9)
        np.testing.assert_array_equal(read.instance, original.instance)
        np.testing.assert_allclose(read.up, original.up)


def test_writing_more_scenes_keeps_those_already_there(tmp_path):
    scenes.write_folder(tmp_path, [small_scene("a1")], notes={"a1": {"seed": 4}})
    scenes.write_folder(tmp_path, [small_scene("a2")])
    assert scenes.scene_names(tmp_path) == ["a1", "a2"]
    assert json.loads((tmp_path / "scenes.json").read_text())["a1"]["seed"] == 4


def test_a_scene_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    scenes.write_folder(tmp_path, [small_scene("a1")])

    def half(file, **arrays):
        Path(getattr(file, "name", file)).write_bytes(b"PK half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="No space left"):
        scenes.write_folder(tmp_path, [small_scene("a1", seed=1)])
    (read,) = scenes.read_scenes(tmp_path)
    np.testing.assert_allclose(read.depth, small_scene("a1").depth, atol=1e-9)
    assert [path.name for path in (tmp_path / "scenes").iterdir()] == ["a1.npz"]


def test_names_come_in_natural_order_and_by_glob(tmp_path):
    scenes.write_folder(tmp_path, [small_scene(n) for n in ("run10", "run2", "test1", "run1")])
    assert scenes.scene_names(tmp_path) == ["run1", "run2", "run10", "test1"]
    assert scenes.scene_names(tmp_path, "run*") == ["run1", "run2", "run10"]
    assert scenes.scene_names(tmp_path, ["test*", "run2"]) == ["run2", "test1"]
    with pytest.raises(ValueError, match=r"matches 'learn\*': it has run1, run2, run10, test1"):
        scenes.scene_names(tmp_path, "learn*")


def test_points_project_back_onto_their_pixels():
    scene = small_scene()
    xyz = scenes.points(scene)
    assert xyz.shape == (30, 40, 3)
    assert xyz.dtype == np.float32
    assert np.isnan(xyz[:5]).all()
    seen = scene.depth > 0
    rows, columns = np.nonzero(seen)
    x, y, z = xyz[seen].astype(float).T
    np.testing.assert_allclose(x / z * SMALL.fx + SMALL.cx, columns, atol=1e-3)
    np.testing.assert_allclose(y / z * SMALL.fy + SMALL.cy, rows, atol=1e-3)
    np.testing.assert_allclose(z, scene.depth[seen], atol=1e-6)


@pytest.mark.parametrize("up", [(0, -1, 0), (0, -0.8, -0.6), (0.3, -0.7, -0.5), (0, 0, -1), (0, 0, 1), (0.01, 0, -1)])
def test_levelling_is_a_rotation_that_takes_up_to_z(up):
    rotation = scenes.levelling(np.array(up, float))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ np.array(up) / np.linalg.norm(up), [0, 0, 1], atol=1e-12)


def test_levelled_x_points_where_the_camera_looks():
    forward = scenes.levelling(np.array([0.1, -0.8, -0.6])) @ np.array([0, 0, 1.0])
    assert forward[0] > 0
    assert forward[1] == pytest.approx(0, abs=1e-12)


def test_level_points_keep_distances_to_the_camera():
    scene = small_scene()
    np.testing.assert_allclose(
        np.linalg.norm(scenes.level_points(scene), axis=-1), np.linalg.norm(scenes.points(scene), axis=-1), rtol=1e-5
    )


def test_objects_are_those_with_points_and_those_with_names():
    assert scenes.object_ids(replace(small_scene(), classes={2: "box", 9: "mug"})) == [2, 3, 9]


def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPOINT3D_SCENES", str(tmp_path))
    assert scenes.default_scenes_dir() == tmp_path
    monkeypatch.delenv("CLIPOINT3D_SCENES")
    assert scenes.default_scenes_dir().parts[-3:] == ("shared", "data", "mosd")


def test_unknown_keys_of_an_entry_are_left_alone(tmp_path):
    scenes.write_folder(tmp_path, [small_scene()])
    edit_entry(tmp_path, "a1", table_inliers=0.9, note="x")
    assert scenes.read_scene(tmp_path, "a1").classes == {2: "box"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"up": ...}, "up must be the direction"),
        ({"up": [0, 0]}, r"up must be the direction .* but is \[0, 0\]"),
        ({"up": [0, 0, 0]}, "up must be the direction"),
        ({"up": "high"}, "up must be the direction"),
        ({"classes": ...}, "classes must be an object"),
        ({"classes": ["box"]}, "classes must be an object"),
        ({"classes": {"two": "box"}}, "key 'two'"),
        ({"classes": {"1": "box"}}, "key '1'"),
        ({"classes": {"2": 5}}, "class of instance 2"),
        ({"intrinsics": ...}, "add 'intrinsics'"),
        ({"intrinsics": [1, 2]}, "intrinsics must be"),
        ({"intrinsics": [0, 1, 1, 1]}, "positive focal lengths"),
        ({"intrinsics": [10**400, 1, 1, 1]}, "too large"),
        ({"up": [10**400, 0, 1]}, "up must be the direction"),
        ({"up": [1e308, 1e308, 1e308]}, "up must be the direction"),
        ({"classes": {"9" * 5000: "box"}}, "whole numbers from 2 to 65535"),
        ({"classes": {"65536": "box"}}, "whole numbers from 2 to 65535"),
        ({"classes": {"2": "half a \ud800"}}, "printable"),
    ],
)
def test_a_wrong_entry_is_named_in_words(tmp_path, keys, words):
    scenes.write_folder(tmp_path, [small_scene()])
    edit_entry(tmp_path, "a1", **keys)
    with pytest.raises(ValueError, match=words) as caught:
        scenes.read_scene(tmp_path, "a1")
    assert "scene 'a1'" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"depth": np.zeros((30, 40), np.uint16)}, "lacks instance"),
        ({"depth": np.zeros((30, 40)), "instance": np.zeros((30, 40), np.uint8)}, "depth must be uint16"),
        ({"depth": np.zeros((30, 40), np.uint16), "instance": np.zeros((30, 41), np.uint8)}, "must be equal"),
        ({"depth": np.zeros((30, 40), np.uint16), "instance": np.zeros((30, 40))}, "must be integers"),
        ({"depth": np.zeros((30, 40), np.uint16), "instance": np.full((30, 40), -1)}, "must not be negative"),
        ({"depth": np.zeros((30, 40), np.uint16), "instance": np.full((30, 40), 2**32 + 2)}, "must be at most 65535"),
        ({"depth": np.zeros(1200, np.uint16), "instance": np.zeros(1200, np.uint8)}, "must be an image"),
    ],
)
def test_wrong_images_are_named_in_words(tmp_path, arrays, words):
    scenes.write_folder(tmp_path, [small_scene()])
    np.savez(tmp_path / "scenes" / "a1.npz", **arrays)
    with pytest.raises(ValueError, match=words) as caught:
        scenes.read_scene(tmp_path, "a1")
    assert "a1.npz" in str(caught.value)


def stored(path, name, header, content=b"", zipped=zipfile.ZIP_DEFLATED):
    """Add a member to an npz, of which the header may promise anything."""
    with zipfile.ZipFile(path, "a", zipped) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)


PROMISES = {
    "a terabyte": b"{'descr': '<u2', 'fortran_order': False, 'shape': (1000000, 1000000)}\n",
    "below nothing": b"{'descr': '<u2', 'fortran_order': False, 'shape': (-3, -4)}\n",
    "more than numbers can say": b"{'descr': '<u2', 'fortran_order': False, 'shape': (" + b"9" * 4000 + b", 1)}\n",
    "another type": b"{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (3, 4)}\n",
    "objects": b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 4)}\n",
    "no type": b"{'descr': 'xyz', 'fortran_order': False, 'shape': (3, 4)}\n",
    "code": b"__import__('os').system('true')\n",
    "more than there is": b"{'descr': '<u2', 'fortran_order': False, 'shape': (300, 400)}\n",
}


@pytest.mark.parametrize("name", PROMISES)
def test_an_image_that_promises_what_it_is_not_is_refused_before_it_is_unpacked(tmp_path, name):
    scenes.write_folder(tmp_path, [small_scene()])
    path = tmp_path / "scenes" / "a1.npz"
    path.unlink()
    stored(path, "depth", PROMISES[name])
    stored(path, "instance", PROMISES[name])
    with pytest.raises(ValueError, match=r"a1\.npz") as caught:
        scenes.read_scene(tmp_path, "a1")
    assert len(str(caught.value)) < 5000


def test_a_damaged_archive_is_the_scene_it_was_or_is_named_in_words(tmp_path):
    scene = small_scene()
    scenes.write_folder(tmp_path, [scene])
    path = tmp_path / "scenes" / "a1.npz"
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        found, said = None, ""
        try:
            found = scenes.read_scene(tmp_path, "a1")
        except ValueError as error:
            said = str(error)
        refused += found is None
        assert "a1.npz" in said if found is None else np.array_equal(found.instance, scene.instance), f"byte {place}"
    assert refused > 50


def test_lists_that_no_json_reader_survives_are_named_in_words(tmp_path):
    for text in ("[" * 200_000, '{"a": ' * 100_000, '{"a": ' + "9" * 9000 + "}"):
        (tmp_path / "scenes.json").write_text(text)
        with pytest.raises(ValueError, match="is not JSON"):
            scenes.scene_names(tmp_path)


def test_scenes_may_be_named_with_any_printable_letters_and_no_others(tmp_path):
    (tmp_path / "scenes.json").write_text(json.dumps({"m²": {}, "m3": {}, "٣": {}}))
    assert set(scenes.scene_names(tmp_path)) == {"m²", "m3", "٣"}
    for name in ("x" * 300, "ü" * 130, "a\nb", "a\0b", "\ud800"):
        (tmp_path / "scenes.json").write_text(json.dumps({name: {}}))
        with pytest.raises(ValueError, match="plain file name"):
            scenes.scene_names(tmp_path)


def test_missing_and_broken_files_are_named_in_words(tmp_path):
    with pytest.raises(ValueError, match="is no scene folder"):
        scenes.scene_names(tmp_path)
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        scenes.scene_names(tmp_path)
    (tmp_path / "scenes.json").write_text("[]")
    with pytest.raises(ValueError, match="one entry a scene"):
        scenes.scene_names(tmp_path)
    (tmp_path / "scenes.json").write_text('{"../a": {}}')
    with pytest.raises(ValueError, match="plain file name"):
        scenes.scene_names(tmp_path)
    (tmp_path / "scenes.json").unlink()
    scenes.write_folder(tmp_path, [small_scene()])
    with pytest.raises(ValueError, match="no scene 'b'"):
        scenes.read_scene(tmp_path, "b")
    (tmp_path / "scenes" / "a1.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="cannot be read as an npz"):
        scenes.read_scene(tmp_path, "a1")
    (tmp_path / "scenes" / "a1.npz").unlink()
    with pytest.raises(ValueError, match="is missing"):
        scenes.read_scene(tmp_path, "a1")


def test_pickled_arrays_are_refused(tmp_path):
    scenes.write_folder(tmp_path, [small_scene()])
    np.savez(tmp_path / "scenes" / "a1.npz", depth=np.array([{}], object), instance=np.zeros((1, 1), np.uint8))
    with pytest.raises(ValueError, match="Python objects, which are never read"):
        scenes.read_scene(tmp_path, "a1")


@pytest.mark.parametrize(
    "change", [{"depth": np.full((30, 40), 7.0)}, {"depth": np.full((30, 40), np.nan)}, {"name": "a/b"}]
)
def test_scenes_the_layout_cannot_hold_are_not_written(tmp_path, change):
    with pytest.raises(ValueError, match=r"depths outside|plain file name"):
        scenes.write_folder(tmp_path, [replace(small_scene(), **change)])


def test_the_real_scenes_read():
    folder = scenes.default_scenes_dir()
    if not (folder / "scenes.json").exists():
        pytest.skip(f"no real scenes at {folder}; set CLIPOINT3D_SCENES to their folder")
    names = scenes.scene_names(folder)
    first = scenes.read_scene(folder, names[0])
    assert scenes.points(first).shape == (480, 640, 3)
    table = scenes.level_points(first)[first.instance == 1]
    spread = np.nanstd(table, axis=0)
    assert spread[2] < 0.02, f"a levelled table is flat, but its height varies by {spread[2]:.3f} m"
