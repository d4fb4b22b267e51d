"""`clipoint3d record` on generated scene folders, and on the real ones where they are."""

import numpy as np
import pytest
from labelled import fields, scene_folder

from clipoint3d_ros.cli import main
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation.bags import SECOND, LabelledBag, Topics


def test_record_writes_levelled_clouds_with_matching_truth(tmp_path, capsys):
    stream = scene_folder(tmp_path / "scenes")
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 0
    assert "3 scenes at 2 Hz on /segments" in capsys.readouterr().out
    bag = LabelledBag(tmp_path / "bag")
    clouds, truth = list(bag.clouds()), bag.truth()
    assert np.diff([c.stamp for c in clouds]).tolist() == [SECOND // 2] * 2
    assert [c.stamp for c in clouds] == list(truth)
    for scene, cloud in zip(stream, clouds, strict=True):
        packed = fields(bag.decode(cloud))
        xyz = np.stack([packed[n] for n in "xyz"], axis=-1)
        np.testing.assert_array_equal(xyz, scenes.level_points(scene))
        np.testing.assert_array_equal(packed["instance_id"], scene.instance)
        assert {o.id: o.name for o in truth[cloud.stamp]} == {str(i): n for i, n in scene.classes.items()}
        for known in truth[cloud.stamp]:
            own = xyz[scene.instance == int(known.id)]
            low, high = np.nanmin(own, axis=0), np.nanmax(own, axis=0)
            np.testing.assert_allclose(known.center, (low + high) / 2, atol=1e-6)
            np.testing.assert_allclose(known.size, high - low, atol=1e-6)


def test_a_bag_that_is_there_is_left_before_any_scene_is_read(tmp_path, capsys):
    scene_folder(tmp_path / "scenes")
    (tmp_path / "bag").mkdir()
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 1
    said = capsys.readouterr().err
    assert "exists already; remove it or choose another name" in said
    assert "scene/s" not in said, "no progress of reading"


def test_record_selects_scenes_rate_and_topics(tmp_path):
    scene_folder(tmp_path / "scenes", count=12)
    words = ["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]
    words += ["--only", "s1*", "--rate", "10", "--points-topic", "/p", "--truth-topic", "/t"]
    assert main(words) == 0
    clouds = list(LabelledBag(tmp_path / "bag", Topics("/p", "/t")).clouds())
    assert np.diff([c.stamp for c in clouds]).tolist() == [SECOND // 10] * 2  # s1, s10, s11


def test_the_same_folder_gives_the_same_bag(tmp_path):
    scene_folder(tmp_path / "scenes")
    for name in ("a", "b"):
        assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / name)]) == 0
    assert list(LabelledBag(tmp_path / "a").clouds()) == list(LabelledBag(tmp_path / "b").clouds())


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--rate", "0"], "the rate must lie between"),
        (["--only", "x*"], "no scene"),
        (["--scenes", "/none"], "no scene folder"),
    ],
)
def test_what_cannot_be_recorded_is_said_and_leaves_nothing(tmp_path, capsys, extra, words):
    scene_folder(tmp_path / "scenes")
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag"), *extra]) == 1
    assert words in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]


def test_a_scene_that_breaks_half_way_leaves_no_bag(tmp_path, capsys):
    scene_folder(tmp_path / "scenes")
    (tmp_path / "scenes" / "scenes" / "s2.npz").unlink()
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 1
    assert "s2.npz is missing" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]


def test_the_real_scenes_record(tmp_path):
    folder = scenes.default_scenes_dir()
    if not (folder / "scenes.json").exists():
        pytest.skip(f"no real scenes at {folder}; set CLIPOINT3D_SCENES to their folder")
    names = scenes.scene_names(folder)
    assert (
        main(["record", "--scenes", str(folder), str(tmp_path / "bag"), "--only", names[0], "--only", names[-1]]) == 0
    )
    assert len(list(LabelledBag(tmp_path / "bag").clouds())) == 2
