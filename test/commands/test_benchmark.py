"""`clipoint3d benchmark`, with a tiny untrained model and, where it is there, the embedded one on real scenes."""

import json

import pytest
from corpora import corpus_of
from labelled import scene_folder, untrained_backbone

from clipoint3d_ros.cli import main
from clipoint3d_ros.datasets.scenes import default_scenes_dir
from clipoint3d_ros.evaluation import procedural
from clipoint3d_ros.resources import EMBEDDED


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(untrained_backbone(tmp_path_factory.mktemp("models") / "untrained"))


@pytest.fixture
def folder(tmp_path):
    scene_folder(tmp_path / "scenes")
    return tmp_path / "scenes"


def test_scenes_with_two_models_side_by_side(tmp_path, folder, backbone, capsys, monkeypatch):
    other = untrained_backbone(tmp_path / "other", seed=1)
    words = ["--scenes", folder, "--zero-shot", "--score-on", "s[01]", "--device", "cpu"]
    words += ["--backbone", backbone, "--backbone", other]
    words += ["--json", tmp_path / "out" / "f.json", "--markdown", tmp_path / "out" / "f.md"]
    assert main(["benchmark", "scenes", *map(str, words)]) == 0
    figures = json.loads((tmp_path / "out" / "f.json").read_text())
    assert (figures["scenes"], figures["objects"], figures["score_on"]) == (2, 4, "s[01]")
    assert list(figures["models"]) == [backbone, str(other)]
    first, second = figures["models"].values()
    assert first["checksum"] != second["checksum"]
    assert first["unknown"]["n"] == 1, "a bottle is none of the tabletop classes"
    assert list(first["selections"]) == ["sensor", "entropy", "all"]
    assert first["selections"]["sensor"]["accuracy"] == first["accuracy"]
    said = capsys.readouterr().out
    assert "4 objects in 2 scenes (s[01])" in said
    card = (tmp_path / "out" / "f.md").read_text()
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert f"| {backbone} | sensor * |" in card


def test_without_zero_shot_a_sentence_and_exit_code_2(folder, capsys):
    assert main(["benchmark", "scenes", "--scenes", str(folder)]) == 2
    assert "add --zero-shot" in capsys.readouterr().err


def test_a_glob_that_matches_nothing_names_scenes_there_are(folder, backbone, capsys):
    words = ["--scenes", str(folder), "--zero-shot", "--score-on", "test*", "--backbone", backbone]
    assert main(["benchmark", "scenes", *words]) == 1
    assert "matches 'test*': it has s0, s1, s2" in capsys.readouterr().err


def test_weights_belong_to_the_backbone_before_them(capsys):
    for words in (["--pretrained", "openai"], ["--backbone", "A", "--pretrained", "x", "--pretrained", "y"]):
        with pytest.raises(SystemExit) as stop:
            main(["benchmark", "scenes", "--zero-shot", *words])
        assert stop.value.code == 2
        assert "must follow the --backbone" in capsys.readouterr().err


def test_a_model_named_twice_is_refused(folder, backbone, capsys):
    words = ["--scenes", str(folder), "--zero-shot", "--backbone", backbone, "--backbone", backbone]
    assert main(["benchmark", "scenes", *words]) == 1
    assert "is named twice" in capsys.readouterr().err


def test_the_embedded_model_on_a_few_real_scenes(tmp_path):
    if not (default_scenes_dir() / "scenes.json").is_file():
        pytest.skip(f"no real scenes at {default_scenes_dir()}; set CLIPOINT3D_SCENES")
    words = ["--zero-shot", "--score-on", "test1*", "--device", "cpu"]
    assert main(["benchmark", "scenes", *words, "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["scenes"] >= 5
    assert list(figures["models"]) == list(EMBEDDED), "they are there without being asked for"
    assert figures["models"][EMBEDDED[0]]["macro_accuracy"] > 0.6


def test_shapes_with_the_shipped_class_files(tmp_path, small_model_folder, capsys, monkeypatch):
    asked = []

    def made(words, count, cache, workers):
        asked.append((count, cache, workers))
        return procedural.HeldOutObjects(corpus_of(words.trained.names, each=1), corpus_of(words.unseen.names, each=1))

    monkeypatch.setattr(procedural, "held_out_objects", made)
    words = ["--backbone", f"local-dir:{small_model_folder}", "--device", "cpu", "--rounds", "0", "--count", "7"]
    words += ["--cache", tmp_path / "cache", "--workers", "1", "--json", tmp_path / "f.json"]
    assert main(["benchmark", "shapes", *map(str, words), "--markdown", str(tmp_path / "f.md")]) == 0
    assert asked == [(7, tmp_path / "cache", 1)]
    figures = json.loads((tmp_path / "f.json").read_text())
    model = figures["models"][f"local-dir:{small_model_folder}"]
    assert (figures["count"], figures["classes"], model["speed"]) == (7, 42, None)
    assert len(model["unseen"]["classes"]) == 10
    assert model["unseen"]["complete"]["chance"] == 0.1
    assert len(model["synonyms"]["words"]) >= 10
    assert "other household classes" in capsys.readouterr().out
    assert "| bottle → flask | 1 |" in (tmp_path / "f.md").read_text()


def test_shapes_refuse_what_cannot_be(capsys, backbone):
    assert main(["benchmark", "shapes", "--rounds", "-1"]) == 2
    assert "--rounds must be 0 or more, but is -1" in capsys.readouterr().err
    assert main(["benchmark", "shapes", "--count", "0", "--backbone", backbone]) == 1
    assert "--count must be at least 1, but is 0" in capsys.readouterr().err
