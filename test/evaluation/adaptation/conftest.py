"""Shared by the tests of the table: one tiny column of it, simulated scenes on disk, and the smallest recipe."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.adaptation.config import LossConfig, Recipe, TrainingConfig
from clipoint3d_ros.adaptation.transport import TransportConfig
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import Adapter
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.tabletop import SceneConfig, simulate
from clipoint3d_ros.evaluation.adaptation.protocol import scenes_protocol
from clipoint3d_ros.geometry.camera import DepthCamera

NAMES = ("box", "can", "bowl")


@pytest.fixture(scope="session")
def classes():
    return describe(list(NAMES))


@pytest.fixture(scope="session")
def scene_dir(tmp_path_factory):
    """Two scenes to adapt to and four to score, two or three objects each, some of which have no class."""
    folder = tmp_path_factory.mktemp("table") / "scenes"
    config, camera = SceneConfig(objects=(3, 3), stacking=0.0, min_points=60), DepthCamera().scaled(0.25)
    names = ("learn1", "learn2", "test1", "test2", "test3", "test4")
    made = (
        simulate(name, (*NAMES, "mug"), np.random.default_rng((5, i)), config, camera) for i, name in enumerate(names)
    )
    scenes.write_folder(folder, made)
    return folder


@pytest.fixture(scope="session")
def column(classes, scene_dir):
    """The protocol of the table's one column."""
    return scenes_protocol(classes, str(scene_dir), "learn*", "test[12]", count=3)


@pytest.fixture(scope="session")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="session")
def recipe():
    """Two steps of four objects, two views and 64 points; every loss has a weight."""
    return Recipe(
        NetworkConfig(rank=2, context=2, heads=4, points=32),
        LossConfig(agree=0.5),
        TransportConfig(unbalanced=0.5, prediction_weight=0.2, iterations=20),
        TrainingConfig(
            certain=0.0,
            shots=2,
            probe=1,
            steps=2,
            objects=4,
            views=2,
            points=64,
            scans=1,
            warmup=0,
        ),
    )


@pytest.fixture(scope="session")
def adapter(backbone, classes, recipe):
    """A network as if trained: every number that training moves is a little off where it began."""
    torch.manual_seed(0)
    network = Network(backbone, recipe.network).eval()
    generator = torch.Generator().manual_seed(0)
    for value in network.adapter().values():
        if value.is_floating_point():
            value += 0.05 * torch.rand(value.shape, generator=generator)  # never below, as variances must stay
    return Adapter(network.merged(), classes, temperature=1.0, version=1)
