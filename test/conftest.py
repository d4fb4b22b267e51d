"""Shared by all tests: a CLIP too small to know anything, in open_clip's folder layout, and probes that are quick."""

import errno
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sharp_model import sharp_model
from small_model import SMALL

from clipoint3d_ros.adaptation import probing
from clipoint3d_ros.clip.backbone import CONFIG_FILE, WEIGHTS_FILE, build_model
from clipoint3d_ros.pretraining.training import open_clip_config
from clipoint3d_ros.recognition.config import ClassifierConfig


@pytest.fixture(scope="session")
def small_model_folder(tmp_path_factory):
    """A folder with random weights, to be named as local-dir:."""
    folder = tmp_path_factory.mktemp("small") / "model"
    folder.mkdir()
    config = open_clip_config(SMALL)
    torch.manual_seed(0)
    model, _ = build_model(config)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def quick_probes():
    """Probes look at a few points of each object; a module asks for it by `pytestmark`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "ClassifierConfig", partial(ClassifierConfig, points=64))
        yield


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """A small model that is sure of itself; see `sharp_model`."""
    return sharp_model(tmp_path_factory.mktemp("models") / "sharp")


@pytest.fixture
def full_disk(monkeypatch):
    """Makes the disk full: from then on half of a text is written, and then it fails."""
    write = Path.write_text

    def half(path, text, *rest, **more):
        write(path, text[: len(text) // 2], *rest, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(Path, "write_text", half)
