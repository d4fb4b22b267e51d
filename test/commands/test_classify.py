"""`classify` as its user runs it."""

import json

import numpy as np
import pytest
import trimesh

from clipoint3d_ros import cli


@pytest.fixture
def files(tmp_path):
    trimesh.creation.box(extents=(0.1, 0.2, 0.3)).export(tmp_path / "a.stl")
    np.save(tmp_path / "b.npy", np.random.default_rng(0).normal(size=(300, 3)))
    return [str(tmp_path / "a.stl"), str(tmp_path / "b.npy")]


def test_files_are_labelled_and_told_in_json(files, tmp_path, small_model_folder, capsys):
    out = tmp_path / "out.json"
    words = [
        "classify",
        *files,
        "--backbone",
        f"local-dir:{small_model_folder}",
        "--classes",
        "mug, box",
        "--json",
        str(out),
    ]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "a.stl" in printed
    assert "%" in printed
    told = json.loads(out.read_text())
    assert told["classes"] == ["mug", "box"]
    assert [o["file"] for o in told["objects"]] == files
    for entry in told["objects"]:
        assert entry["label"] in ("mug", "box")
        assert sum(entry["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere.ply"], "no file nowhere.ply"),
        (["b.npy", "--classes", "absent.yaml"], "no class file"),
        (["b.npy", "--bundle", "adapter"], "cannot be loaded"),
        (["b.npy", "--pretrained", "openai"], "without a backbone"),
    ],
)
def test_failures_are_sentences_and_not_zero(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("b.npy", np.zeros((40, 3)))
    assert cli.main(["classify", *words]) == 1
    assert complaint in capsys.readouterr().err


def test_a_direction_that_is_none_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["classify", "a.npy", "--up", "0", "0", "z"])
    assert "must be a number" in capsys.readouterr().err
