"""The engine says what the reference says, with less work, and survives a device without memory."""

import dataclasses
import logging

import pytest
import torch
from open_clip.transformer import VisionTransformer

from clipoint3d_ros.clip.backbone import Preprocessing, load_backbone
from clipoint3d_ros.clip.peft import LowRank, tune
from clipoint3d_ros.recognition.engine import Engine, ServedTower, engine_for

RNG = torch.Generator().manual_seed(0)


def depth_views(count=7, size=32):
    """White, each with a dark rectangle of its own size, so that occupied patches differ in number."""
    rng, views = torch.Generator().manual_seed(1), torch.ones(count, size, size)
    for row in range(count):
        views[row, : 4 + 3 * row, 2 : 6 + 2 * row] = torch.rand(1, generator=rng) * 0.8
    return views


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture
def tower():
    """A tower whose every part does something."""
    torch.manual_seed(3)
    return VisionTransformer(32, 8, 32, 3, 2, 4.0, output_dim=16).eval().requires_grad_(False)


def with_tower(backbone, visual, **look):
    own = Preprocessing(32, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), **look)
    model = type("Model", (torch.nn.Module,), {})()
    model.visual = visual
    return dataclasses.replace(backbone, model=model, preprocessing=own)


@pytest.mark.parametrize("drop_empty", [False, True])
@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_the_engine_is_the_reference_tower(backbone, tower, drop_empty, prompted, pool):
    tower.pool_type = pool
    plain = with_tower(backbone, tower, drop_empty=drop_empty)
    views = depth_views()
    prompts = torch.randn(7, 3, 32, generator=RNG) if prompted else None
    expected = plain.encode_views(views, prompts)
    played = Engine(ServedTower(tower, plain.preprocessing), plain.preprocessing, torch.float32, graphs=True)
    for most in (100, 3, 1):
        found = engine_for(plain).encode(views, prompts, None, most)
        assert (found - expected).abs().max() < 1e-5, f"{most} views of a pass"
        found = played.encode(views, prompts, None, most)
        assert (found - expected).abs().max() < 1e-5, f"{most} views of a pass, filled up to a bucket"
    assert (expected[0] - expected[-1]).abs().max() > 1e-3


def test_a_convolutional_stem_and_a_size_token_are_served_too(backbone):
    views, sizes = depth_views(), torch.rand(7, 3, generator=RNG) * 0.3
    sizes[2] = torch.nan
    expected = backbone.encode_views(views, None, sizes)
    assert (engine_for(backbone).encode(views, None, sizes, 4) - expected).abs().max() < 1e-5
    blank = engine_for(backbone).encode(torch.ones(2, 32, 32), None, None, 4)
    assert torch.isfinite(blank).all(), "a view of nothing has its class token still"
    assert engine_for(backbone).encode(views[:0], None, None, 4).shape == (0, 32)
    resized = torch.rand(2, 110, 110, generator=RNG)
    assert (engine_for(backbone).encode(resized, None, None, 4) - backbone.encode_views(resized)).abs().max() < 1e-5


def test_an_unequal_mean_reaches_the_border_of_a_stem_that_pads(backbone):
    look = dataclasses.replace(backbone.preprocessing, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    other = dataclasses.replace(backbone, preprocessing=look)
    expected = other.encode_views(depth_views())
    assert (engine_for(other).encode(depth_views(), None, None, 9) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_bits_cost_little(backbone, precision):
    views = depth_views()
    exact = engine_for(backbone).encode(views, None, None, 9)
    rounded = engine_for(backbone, precision).encode(views, None, None, 9)
    cosine = (exact * rounded).sum(-1)
    assert (cosine > 0.999).all(), f"cosines to fp32 {cosine.tolist()}"
    assert engine_for(backbone, precision).dtype != torch.float32
    assert (exact - rounded).abs().max() > 0, "it is not computed in fp32"
    assert all(p.dtype == torch.float32 for p in backbone.visual.parameters()), "the backbone itself stays"


def test_one_tower_has_one_engine_until_its_weights_change(backbone, tower):
    plain = with_tower(backbone, tower)
    first = engine_for(plain, "bf16")
    assert engine_for(plain, "bf16") is first
    before = first.encode(depth_views(), None, None, 9)
    with torch.no_grad():
        tower.positional_embedding.mul_(2.0)
    assert engine_for(plain, "bf16") is not first
    assert (engine_for(plain, "bf16").encode(depth_views(), None, None, 9) - before).abs().max() > 1e-3


def test_an_adapter_that_is_not_merged_yet_is_served_as_it_is(backbone, tower):
    tune(tower, "lora", rank=4)
    for module in tower.modules():
        if isinstance(module, LowRank):
            module.up.data.normal_(0, 0.2, generator=RNG)
    plain = with_tower(backbone, tower.eval(), drop_empty=True)
    with torch.no_grad():
        expected = plain.encode_views(depth_views())
    assert (engine_for(plain).encode(depth_views(), None, None, 3) - expected).abs().max() < 1e-5


def starved(monkeypatch, fits):
    """From now on the first tower asked has memory for `fits` views; another, as on the CPU, for all."""
    forward, tried = ServedTower.forward, []

    def limited(self, views, *rest):
        tried.append(len(views))
        short = len(views) > fits and self is tried_by[0]
        if short:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, views, *rest)

    tried_by = []
    monkeypatch.setattr(ServedTower, "forward", limited)
    return tried, tried_by


def test_a_pass_too_large_is_halved_and_remembered(backbone, monkeypatch, caplog):
    look = backbone.preprocessing
    engine = Engine(ServedTower(backbone.visual, look), look, torch.float32)
    expected = engine.encode(depth_views(), None, None, 9)
    tried, tried_by = starved(monkeypatch, fits=2)
    tried_by.append(engine._tower)
    with caplog.at_level(logging.WARNING):
        found = engine.encode(depth_views(), None, None, 9)
        assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
        tried.clear()
        engine.encode(depth_views(), None, None, 9)
    assert tried == [1] * 7, "what did not fit once is not tried again"
    assert (found - expected).abs().max() < 1e-5
    assert [r.message for r in caplog.records] == [
        "cpu has no memory for 7 views at once; going on with 3",
        "cpu has no memory for 3 views at once; going on with 1",
    ]


def test_a_device_without_memory_for_one_view_leaves_the_work_to_the_cpu(backbone, monkeypatch, caplog):
    look = backbone.preprocessing
    engine = Engine(ServedTower(backbone.visual, look), look, torch.float32)
    expected = engine.encode(depth_views(), None, None, 9)
    _, tried_by = starved(monkeypatch, fits=0)
    tried_by.append(engine._tower)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert (engine.encode(depth_views(), None, None, 9) - expected).abs().max() < 1e-5
    assert caplog.records[-1].message.endswith("going on on the CPU")
    assert len(caplog.records) == 3, "each step is told once"
