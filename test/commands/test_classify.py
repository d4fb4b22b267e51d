"""`classify` as its user runs it."""

import json
import shutil

import numpy as np
import pytest
import trimesh
from bundles import small_bundle
from labelled import untrained_backbone

from clipoint3d_ros import cli
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.datasets.files import read_points
from clipoint3d_ros.recognition.classifier import Classifier


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


def test_answers_that_do_not_fit_on_the_disk_leave_those_before(files, tmp_path, small_model_folder, full_disk, capsys):
    out = tmp_path / "answers" / "out.json"
    words = ["classify", *files, "--backbone", f"local-dir:{small_model_folder}", "--json", str(out)]
    assert cli.main([*words, "--classes", "mug, box"]) == 0
    full_disk()
    assert cli.main([*words, "--classes", "hat, shoe"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert json.loads(out.read_text())["classes"] == ["mug", "box"]
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]


@pytest.mark.parametrize("names", ["no. 2 pencil, mug", "mug 2.0"])
def test_a_name_may_have_a_dot(files, tmp_path, small_model_folder, names):
    out = tmp_path / "out.json"
    words = [*files, "--backbone", f"local-dir:{small_model_folder}", "--classes", names, "--json", str(out)]
    assert cli.main(["classify", *words]) == 0
    assert json.loads(out.read_text())["classes"] == names.split(", ")


def test_what_is_unknown_is_told_with_the_classes_it_is_likest(files, tmp_path, small_model_folder, capsys):
    out = tmp_path / "out.json"
    words = [*files, "--backbone", f"local-dir:{small_model_folder}", "--classes", "mug, box", "--unknown-below", "1"]
    assert cli.main(["classify", *words, "--json", str(out)]) == 0
    first = json.loads(out.read_text())["objects"][0]
    best = max(first["probabilities"], key=first["probabilities"].get)
    assert first["label"] == "unknown"
    assert first["familiarity"] == 1, "of a model that does not judge it"
    line = capsys.readouterr().out.splitlines()[0]
    assert f"unknown {first['score']:.0%}, else {best} {first['probabilities'][best]:.0%}, " in line


def test_clouds_in_millimetres_and_words_that_were_never_met_are_doubted(tmp_path, capsys, caplog):
    np.save(tmp_path / "box.npy", np.random.default_rng(0).uniform(0, 100, (300, 3)))
    assert cli.main(["classify", str(tmp_path / "box.npy"), "--classes", "xylophone, box", "--device", "cpu"]) == 0
    assert f"{tmp_path / 'box.npy'} is 99" in capsys.readouterr().err
    assert "clipoint3d-tiny never met the words xylophone, which say nothing to it" in caplog.text


def test_files_are_looked_for_before_anything_is_loaded_or_fetched(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Classifier, "load", lambda *_: pytest.fail("the model was loaded"))
    assert cli.main(["classify", *files, "nowhere.ply", "--download"]) == 1
    assert "no file nowhere.ply" in capsys.readouterr().err
    assert cli.main(["classify", *files, "--json", str(tmp_path / "a.stl" / "out.json")]) == 1
    assert "a.stl" in capsys.readouterr().err


@pytest.fixture
def bundle(tmp_path, small_model_folder):
    return small_bundle(tmp_path / "adapter", load_backbone(f"local-dir:{small_model_folder}", device="cpu"))


def test_a_bundle_answers_with_its_own_backbone_and_classes(files, tmp_path, bundle, capsys):
    out = tmp_path / "out.json"
    words = ["classify", *files, "--bundle", str(bundle), "--device", "cpu", "--json", str(out)]
    assert cli.main(words) == 0
    told = json.loads(out.read_text())
    assert told["classes"] == ["mug", "box", "tin"]
    adapted = Classifier.load(bundle, device="cpu")
    answers = adapted.classify([read_points(file) for file in files])
    assert [list(entry["probabilities"].values()) for entry in told["objects"]] == [
        answer.probabilities.tolist() for answer in answers
    ]
    assert all((answer.probabilities != answer.frozen.probabilities).any() for answer in answers)
    assert cli.main([*words, "--classes", "hat, shoe"]) == 0
    assert json.loads(out.read_text())["classes"] == ["hat", "shoe"], "an adapter serves any classes"


def test_a_backbone_that_is_not_the_bundle_s_is_refused_naming_both(
    files, tmp_path, bundle, small_model_folder, capsys
):
    other = untrained_backbone(tmp_path / "other")
    words = ["classify", *files, "--bundle", str(bundle), "--device", "cpu", "--backbone"]
    assert cli.main([*words, other]) == 1
    said = capsys.readouterr().err
    assert f"'local-dir:{small_model_folder}'" in said
    assert f"'{other}'" in said
    assert "name the backbone it was trained on" in said
    copied = shutil.copytree(small_model_folder, tmp_path / "copied")
    assert cli.main([*words, f"local-dir:{copied}"]) == 0, "the same weights in another place are the same backbone"
    assert cli.main([*words[:-1], "--pretrained", "openai"]) == 1
    assert "without a backbone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere.ply"], "no file nowhere.ply"),
        (["b.npy", "--classes", "absent.yaml"], "no class file"),
        (["b.npy", "--bundle", "adapter"], "'adapter' is no bundle: it has no bundle.json"),
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
