"""The demo: a table, a picture of each scene and of its objects' ten views."""

import json

import numpy as np
from PIL import Image

from clipoint3d_ros import cli
from clipoint3d_ros.commands import demo
from clipoint3d_ros.datasets import files, scenes


def test_the_demo_prints_a_table_and_writes_pictures(tmp_path, capsys):
    leave_an_earlier_demo(tmp_path)
    command = ["demo", "--scenes", "1", "--shapes", "2", "--no-ros", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "recognised as" in printed
    assert "objects right" in printed
    for name in ("tabletop1.png", "tabletop1_views.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert pixels.shape[0] > 200
        assert pixels.std() > 10, f"{name} shows something"
    check_what_tutorials_start_from(tmp_path)


def leave_an_earlier_demo(folder):
    """Of two scenes, as files that are there."""
    (folder / "scenes" / "scenes").mkdir(parents=True)
    (folder / "objects").mkdir()
    for path in ("tabletop2.png", "objects/tabletop2_3_mug.npy", "scenes/scenes/tabletop2.npz"):
        (folder / path).touch()
    (folder / "scenes" / "scenes.json").write_text('{"tabletop1": {}, "tabletop2": {}}')


def check_what_tutorials_start_from(folder):
    (scene,) = scenes.read_scenes(folder / "scenes")
    assert sorted(path.name for path in folder.glob("*.png")) == ["tabletop1.png", "tabletop1_views.png"]
    saved = {path.name: files.read_points(path) for path in (folder / "objects").iterdir()}
    seen = {f"{scene.name}_{key}_{name}.npy" for key, name in scene.classes.items()}
    assert set(saved) == seen, "one cloud of every object"
    assert all(0.3 < np.linalg.norm(cloud.mean(0)) < 3 for cloud in saved.values()), "metres from the sensor"
    shapes = files.class_folders(folder / "shapes")
    assert {len(each) for each in shapes.values()} == {2}
    for meshes in shapes.values():
        low, high = (edge(files.read_points(meshes[0]), axis=0) for edge in (np.min, np.max))
        assert 0.03 < (high - low).max() < 0.6, "metres"


def test_no_scenes_are_refused(capsys):
    assert cli.main(["demo", "--scenes", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err


def test_somebody_else_s_scenes_stay_listed(tmp_path):
    leave_an_earlier_demo(tmp_path)
    (tmp_path / "scenes" / "scenes" / "tabletop_mine.npz").touch()
    listing = tmp_path / "scenes" / "scenes.json"
    listing.write_text('{"tabletop2": {}, "tabletop_mine": {"a": 1}}')
    demo._remove_earlier(tmp_path)
    assert json.loads(listing.read_text()) == {"tabletop_mine": {"a": 1}}
