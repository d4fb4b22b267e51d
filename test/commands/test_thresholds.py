"""`clipoint3d thresholds`, with a tiny untrained model."""

import json

import pytest
import yaml
from labelled import labelled_bag, untrained_backbone

from clipoint3d_ros.cli import main


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    backbone = untrained_backbone(tmp_path_factory.mktemp("models") / "untrained")
    return ["--backbone", backbone, "--device", "cpu"]


def test_it_writes_a_file_and_figures_and_says_why_classes_are_left_out(tmp_path, words, capsys):
    bag = labelled_bag(tmp_path / "bag", [{"2": "box", "3": "can"}] * 4)
    file, figures = tmp_path / "thresholds.yaml", tmp_path / "figures.json"
    asked = [str(bag), "--precision", "0.3", "--at-least", "2", *words, "--out", str(file), "--json", str(figures)]
    assert main(["thresholds", *asked]) == 0
    told = json.loads(figures.read_text())
    assert sum(one["answers"] for one in told["classes"]) == 8
    parameters = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert set(parameters) == {"unknown_below_class"}
    out = capsys.readouterr().out
    assert "too few to say" in out
    assert str(file) in out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--precision", "95"], "between 0 and 1, but is 95"),
        (["--at-least", "0"], "at least 1 answer"),
        (["--param", "unknown_below_class:=mug=0.4"], "set by the evaluation itself"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, capsys, more, sentence):
    bag = labelled_bag(tmp_path / "bag", [{"2": "box"}])
    assert main(["thresholds", str(bag), *more]) == 1
    assert sentence in capsys.readouterr().err
