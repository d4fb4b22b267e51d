"""The released recipe: which of its faults are kept, and that it runs."""

import math
from dataclasses import replace

import pytest
import torch

from clipoint3d_ros.adaptation.config import LossConfig
from clipoint3d_ros.adaptation.losses import confidence
from clipoint3d_ros.adaptation.trainer import prepare, train
from clipoint3d_ros.adaptation.transport import TransportConfig
from clipoint3d_ros.clip.bundle import Adapter
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.clip.text import class_prompts
from clipoint3d_ros.evaluation.adaptation.official import (
    OfficialNetwork,
    _batch_entropy,
    official_objective,
    official_recipe,
)
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

CONFIG = NetworkConfig(rank=2, context=2, heads=4)


@pytest.fixture(scope="module")
def network(backbone):
    torch.manual_seed(0)
    return OfficialNetwork(backbone, CONFIG).eval()


@pytest.fixture
def images():
    """Two views of 32 pixels, patches of 8: dark all over."""
    return torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8


def test_prompts_and_attention_are_given_to_no_optimiser(network):
    trained = network.trained()
    assert trained, "LoRA and the point encoder are"
    assert not [name for name in trained if name.startswith("prompts.")]
    assert any(name.startswith("points.") for name in trained)
    assert any("lora" in name.lower() for name in trained) or any(name.startswith("model.") for name in trained)


def test_prompts_are_random_where_ours_begin_as_the_frozen_model(backbone, classes, network):
    words = class_prompts(backbone, classes, CONFIG.context)
    cloud = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    ours = Network(backbone, CONFIG).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours.text(words), words.frozen, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(network.text(words), words.frozen, atol=1e-2)
        assert ours.visual_prompts(cloud)[0] is None, "prompts that say nothing are left out in use"
        assert network.visual_prompts(cloud)[0].abs().mean() > 1e-3


def test_its_text_is_the_prompt_alone_whatever_the_descriptions_hold(backbone, classes, network):
    with torch.no_grad():
        text = network.text(class_prompts(backbone, classes, CONFIG.context))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(len(text)))
    assert not torch.allclose(text[0], text[1], atol=1e-3), "the class names are still told apart"


def test_the_first_patches_are_blanked(network, images):
    prompts = torch.randn(2, CONFIG.context, 32, generator=torch.Generator().manual_seed(2))
    blank, elsewhere = images.clone(), images.clone()
    blank[:, :8, :16] = 1  # the first two patches of the first row
    elsewhere[:, :8, 16:24] = 1
    before = images.clone()
    with torch.no_grad():
        seen = network.views(images, prompts, None)
        torch.testing.assert_close(seen, network.views(blank, prompts, None))
        assert not torch.allclose(seen, network.views(elsewhere, prompts, None))
    assert torch.equal(images, before), "the views themselves are left as they were"


def test_ours_looks_at_the_first_patches(backbone, images):
    torch.manual_seed(0)
    ours = Network(backbone, CONFIG).eval()
    blank = images.clone()
    blank[:, :8, :16] = 1
    with torch.no_grad():
        assert not torch.allclose(ours.views(images, None, None), ours.views(blank, None, None))


def test_patches_are_blanked_in_use_as_in_training(backbone, classes, column, network):
    served = network.merged()
    classifier = Classifier(
        backbone, classes, ClassifierConfig(selection="all"), Adapter(served, classes, temperature=1.0, version=1)
    )
    projection = classifier.project(list(column.scored.clouds), column.scored.up, column.scored.viewpoints)
    darkened, blanked = projection.images.clone(), projection.images.clone()
    darkened[..., :8, :16] = 0.2
    blanked[..., :8, :16] = 1
    seen = [classifier.encode(replace(projection, images=images)) for images in (darkened, blanked)]
    torch.testing.assert_close(*seen)


def test_without_a_context_it_is_refused(backbone):
    with pytest.raises(ValueError, match="the released recipe has prompts; give it a context of at least 1"):
        OfficialNetwork(backbone, replace(CONFIG, context=0))


def test_its_entropy_calls_a_collapsed_batch_as_uncertain_as_an_even_one():
    even, collapsed = torch.zeros(6, 4), torch.tensor([9.0, 0, 0, 0]).expand(6, 4)
    assert float(_batch_entropy(even)) == pytest.approx(math.log(6))
    assert float(_batch_entropy(collapsed)) == pytest.approx(math.log(6))
    alone = torch.ones(6, 1)
    assert confidence(collapsed[:, None], alone) < 0.1 < confidence(even[:, None], alone), "ours tells them apart"


def test_its_entropy_drives_a_batch_of_one_class_apart():
    logits = torch.tensor([[3.0, 0.0], [2.9, 0.0]], requires_grad=True)
    _batch_entropy(logits).backward()
    step = logits - 0.1 * logits.grad
    assert step[0, 0] - step[1, 0] > logits[0, 0] - logits[1, 0], "the less sure object loses its right class"


def test_its_recipe_keeps_steps_objects_and_shots(recipe):
    changed = replace(recipe, training=replace(recipe.training, seed=4, scans=3, ema=0.9))
    released = official_recipe(changed)
    for name in ("steps", "objects", "views", "shots", "probe", "points", "seed"):
        assert getattr(released.training, name) == getattr(changed.training, name), name
    assert (released.training.optimiser, released.training.learning_rate, released.training.warmup) == ("sgd", 2e-3, 0)
    assert released.network.points == changed.network.points
    assert released.training.statistics == 0, "the released code has no class statistics"
    assert (released.training.scans, released.training.ema, released.training.target_statistics) == (0, 0.0, True)
    assert (released.network.variant, released.network.tuning, released.network.context) == ("B", "lora", 4)
    assert released.transport == TransportConfig()


def test_a_recipe_that_looks_at_no_target_does_not_keep_it_from_doing_so(recipe):
    blind = replace(recipe, losses=LossConfig(conf=0.0, transport=0.0, proto=0.0))
    assert official_recipe(blind).losses.sees_target


def test_it_runs_to_its_end_with_finite_losses_and_leaves_its_prompts_alone(backbone, column, recipe):
    released = official_recipe(replace(recipe, training=replace(recipe.training, steps=3)))
    material = prepare(column.source(0), column.target, released)
    told = []
    made = []

    def make(frozen, config):
        network = OfficialNetwork(frozen, config)
        made.append({name: value.clone() for name, value in network.state_dict().items()})
        return network

    finished = train(
        backbone,
        column.classes,
        material,
        released,
        report=lambda step, figures: told.append(figures),
        make=make,
        loss=official_objective,
    )
    assert len(told) == 3
    for figures in told:
        assert {"ce", "conf", "transport", "ortho"} < figures.keys()
        assert "proto" not in figures
        assert all(math.isfinite(value) for value in figures.values())
    after = finished.network.state_dict()
    prompts = [name for name in after if name.startswith("prompts.")]
    assert prompts
    assert all(torch.equal(after[name], made[0][name]) for name in prompts)
    assert not all(torch.equal(after[name], made[0][name]) for name in after), "something was trained"
