"""`clipoint3d bench`: its figures, and what it refuses."""

import json

import numpy as np
import pytest

from clipoint3d_ros.cli import main
from clipoint3d_ros.evaluation.serving import objects, timing


@pytest.fixture
def quick_objects(monkeypatch):
    rng = np.random.default_rng(0)
    clouds = [(rng.normal(size=(300, 3)) * 0.05 + 1).astype(np.float32) for _ in range(4)]
    monkeypatch.setattr(objects, "simulated_objects", lambda count: clouds)


@pytest.fixture(autouse=True)
def small_architecture(monkeypatch):
    """An architecture of open_clip's whose random weights are made at once."""
    import open_clip

    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    configs = {"ViT-small": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", open_clip.factory._MODEL_CONFIGS | configs)


def test_random_weights_are_timed_against_the_published_inference(tmp_path, quick_objects, capsys):
    words = ["bench", "--backbone", "ViT-small", "--objects", "1,3", "--points", "500,2000", "--rounds", "1"]
    told, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    assert main([*words, "--baseline", "--json", str(told), "--plot", str(drawn)]) == 0
    figures = json.loads(told.read_text())
    for row in ("exact", "served"):
        assert figures[row]["speedup"] == pytest.approx(
            figures["baseline"]["ms_per_object"] / figures[row]["ms_per_object"]
        )
    assert (figures["objects"], figures["weights"], figures["doubt"]) == (3, "random", 0.25)
    assert list(figures["growth"]["objects"]) == ["1", "3"]
    assert drawn.stat().st_size > 1000
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("baseline", "one_pass", "exact", "occupied", "facing", "served"))


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_in_words(device, capsys):
    assert main(["bench", "--backbone", "ViT-small", "--device", device]) == 1
    assert f"device '{device}' cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--rounds", "0"], 2), (["--doubt", "2"], 2), (["--first-views", "11"], 2), (["--backbone", "ViT-nothing"], 1)],
)
def test_words_that_do_not_fit_are_refused(words, code, quick_objects, capsys):
    assert main(["bench", *words]) == code
    assert capsys.readouterr().err.startswith("clipoint3d bench: ")


def test_scenes_that_are_none_are_refused_before_anything_is_measured(capsys, monkeypatch):
    monkeypatch.setattr(timing, "measure", lambda *_: pytest.fail("measured first"))
    assert main(["bench", "--backbone", "ViT-small", "--scenes", "nowhere"]) == 1
    assert "nowhere is no scene folder" in capsys.readouterr().err
