"""`pretrain` from its configuration to a model that serves."""

import json

import numpy as np
import pytest

from clipoint3d_ros import cli
from clipoint3d_ros.recognition.classifier import Classifier

CONFIG = """
name: minute
corpus: {classes: tabletop, complete: 4, tabletop_scenes: 1, floor_scenes: 0, points: 256, min_points: 60}
model:
  {embed_dim: 16, image_size: 32, patch_size: 8, vision_width: 16, vision_layers: 1, vision_head_width: 8,
   stem: [4, 4, 4], context_length: 24, text_width: 16, text_layers: 1, text_heads: 2}
training: {steps: 3, objects: 8, views: 2, tokens: 16, warmup: 1, precision: fp32}
"""


@pytest.mark.slow
def test_pretrain_stops_goes_on_and_publishes(tmp_path, capsys):
    (tmp_path / "minute.yaml").write_text(CONFIG)
    words = [
        "pretrain",
        str(tmp_path / "minute.yaml"),
        "--out",
        str(tmp_path / "run"),
        "--cache",
        str(tmp_path / "cache"),
    ]
    words += ["--workers", "0", "--device", "cpu"]
    assert cli.main([*words, "--stop-at", "1"]) == 0
    assert "stopped after step 1" in capsys.readouterr().out
    assert cli.main([*words, "--json", str(tmp_path / "new" / "told.json")]) == 0
    assert "held out" in capsys.readouterr().out
    told = json.loads((tmp_path / "new" / "told.json").read_text())
    assert told["steps"] == 3
    assert 0 <= told["camera"] <= 1
    classifier = Classifier.load(backbone=f"local-dir:{tmp_path / 'run' / 'minute'}", device="cpu")
    assert classifier.backbone.temperature == pytest.approx(told["temperature"], abs=1e-3)
    answer = classifier.classify([np.random.default_rng(0).normal(size=(100, 3))])[0]
    assert answer.label in classifier.classes


def test_a_device_that_is_not_here_is_a_sentence(tmp_path, capsys):
    (tmp_path / "minute.yaml").write_text(CONFIG)
    words = ["pretrain", str(tmp_path / "minute.yaml"), "--out", str(tmp_path / "run"), "--device", "banana"]
    assert cli.main(words) == 1
    assert "device 'banana' cannot be used here" in capsys.readouterr().err


def test_a_missing_configuration_is_a_sentence(tmp_path, capsys):
    assert cli.main(["pretrain", str(tmp_path / "absent.yaml"), "--out", str(tmp_path)]) == 1
    assert "no pretraining configuration" in capsys.readouterr().err
