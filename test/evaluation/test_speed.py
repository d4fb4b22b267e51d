"""Two models by turns on one thread."""

import numpy as np
import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.evaluation import speed


def test_a_model_is_as_fast_as_itself_and_the_threads_come_back(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    before = torch.get_num_threads()
    cloud = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    found = speed.compare(backbone, backbone, cloud, rounds=5)
    assert torch.get_num_threads() == before
    assert found["ratio"] == found["reference_ms"] / found["model_ms"]
    assert 0.2 < found["ratio"] < 5, f"the same model twice: {found}"
    assert (found["reference"], found["rounds"]) == (backbone.name, 5)
