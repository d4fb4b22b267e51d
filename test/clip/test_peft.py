"""A tower's few trained parameters: which they are, that they start at nothing, and that LoRA's merge is exact."""

import copy
import hashlib

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.clip.peft import LowRank, merge, tune
from clipoint3d_ros.clip.text import class_prompts, encode_words

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
NETWORKS = [("T", "lora"), ("V", "lora"), ("B", "lora"), ("T", "bitfit"), ("V", "layernorm"), ("B", "none")]
PLACES = ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
CLOUDS = torch.rand(2, 24, 3, generator=torch.Generator().manual_seed(2)) - 0.5
VIEWS = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def frozen(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def moved(module, step=0.05, seed=1):
    """The module with every parameter off where it began; biases above all, which open_clip starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += step * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return module


def vit():
    torch.manual_seed(0)
    return moved(
        VisionTransformer(
            image_size=32, patch_size=8, width=48, layers=2, heads=3, mlp_ratio=4.0, output_dim=16
        ).eval()
    )  # fmt: skip


class Text(nn.Module):
    """A text tower by itself: random words in, embeddings out, with every bias off zero."""

    def __init__(self, frozen):
        super().__init__()
        self.model = moved(copy.deepcopy(frozen.model))
        self.words = torch.randn(5, 9, 16, generator=torch.Generator().manual_seed(4))
        self.end = torch.tensor([8, 3, 5, 8, 2])

    @property
    def tuned(self):
        return self.model.transformer

    def answer(self, dtype):
        return encode_words(self.model, self.words.to(dtype), self.end)


class Vision(nn.Module):
    def __init__(self, frozen):
        super().__init__()
        self.visual = vit()

    @property
    def tuned(self):
        return self.visual

    def answer(self, dtype):
        return tower.forward(self.visual, IMAGES.to(dtype))


def low_ranks(module):
    return {name: m for name, m in module.named_modules() if isinstance(m, LowRank)}


def checksum(module):
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("biased", [True, False])
def test_a_merged_layer_answers_as_the_layer_and_its_adapter(dtype, biased):
    torch.manual_seed(0)
    layer = LowRank(nn.Linear(10, 14, biased), rank=3, alpha=6.0, dropout=0.5).to(dtype).eval()
    nn.init.normal_(layer.up)
    merged, x = layer.merged(), torch.randn(6, 4, 10, dtype=dtype)
    assert merged.weight.dtype == dtype, f"a layer of {dtype} is merged to {merged.weight.dtype}"
    assert (merged(x) - layer(x)).abs().max() < TOLERANCE[dtype], "the merge changes the layer's answer"
    assert (layer(x) - layer.linear(x)).abs().max() > 0.1, "the adapter does nothing, so its merge shows nothing"
    matrix = torch.eye(14, dtype=dtype) + 2.0 * layer.up @ layer.down
    assert (merged.weight - matrix @ layer.linear.weight).abs().max() < 1e-5, "W' is not (I + sBA)W"
    if biased:
        assert (merged.bias - matrix @ layer.linear.bias).abs().max() < 1e-5, "b' is not (I + sBA)b"
    else:
        assert merged.bias is None, "a layer without bias has one after the merge"


def test_an_adapters_dropout_leaves_the_layer_itself_whole():
    torch.manual_seed(0)
    layer = LowRank(nn.Linear(10, 14), rank=3, alpha=6.0, dropout=0.5).train()
    x = torch.randn(4000, 2, 10)
    assert torch.equal(layer(x), layer.linear(x)), "dropout touches the layer's own answer"
    nn.init.normal_(layer.up)
    assert (layer(x)[:1] - layer.eval()(x)[:1]).abs().max() > 0, "nothing is dropped in training"
    same = torch.randn(1, 2, 10).expand(4000, -1, -1)
    bias = (layer.train()(same).mean(0) - layer.eval()(same)[0]).abs().max()
    assert bias < 0.05 * (layer(same)[0] - layer.linear(same)[0]).abs().max() + 0.05, f"dropout is off by {bias:.3f}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("place", [*PLACES, "all"])
@pytest.mark.parametrize("kind", [Vision, Text])
def test_a_merged_tower_answers_as_the_tuned_one(kind, place, dtype, frozen):
    side = kind(frozen)
    tune(side.tuned, "lora", rank=4, alpha=8.0)
    side.to(dtype).eval()
    before = side.answer(dtype)
    chosen = {n: m for n, m in low_ranks(side.tuned).items() if place == "all" or n.endswith(place)}
    assert chosen, f"no LoRA stands behind {place}"
    for low_rank in chosen.values():
        assert low_rank.linear.bias.abs().min() > 0, "a bias of zero hides a merge that forgets it"
        nn.init.normal_(low_rank.up, std=0.5)
    tuned = side.answer(dtype)
    assert (tuned - before).abs().max() > 1e-3, f"LoRA behind {place} never runs"
    merge(side.tuned)
    assert not low_ranks(side.tuned), "a LoRA is left after the merge"
    difference = (side.answer(dtype) - tuned).abs().max()
    assert difference < TOLERANCE[dtype], f"the merge of {place} changes embeddings by {difference:.1e}"


@pytest.mark.parametrize("kind", [Vision, Text])
def test_lora_stands_in_every_block_and_changes_nothing_before_training(kind, frozen):
    side = kind(frozen)
    before = side.answer(torch.float32)
    blocks = side.tuned.transformer.resblocks if kind is Vision else side.tuned.resblocks
    tune(side.tuned, "lora", rank=4)
    found = low_ranks(side.tuned)
    assert len(found) == 3 * len(blocks), f"{len(blocks)} blocks have LoRA at {sorted(found)}"
    assert all(name.endswith(PLACES) for name in found), f"LoRA stands at {sorted(found)}"
    assert not any(m.up.any() for m in found.values()), "LoRA's up does not start at zero"
    for training in (False, True):
        side.train(training)
        difference = (side.answer(torch.float32) - before).abs().max()  # a gradient takes another path: not all bits
        assert difference < 1e-5, f"untrained LoRA changes answers by {difference:.1e} (training {training})"
    trained = {name for name, p in side.tuned.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.{part}" for name in found for part in ("down", "up")}, f"LoRA trains {sorted(trained)}"


def own_biases(module):
    """The biases of a tower by what its modules are, not by what they are called."""
    found = set()
    for name, m in module.named_modules():
        if isinstance(m, nn.MultiheadAttention):
            found.add(f"{name}.in_proj_bias")
        elif isinstance(m, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm) and m.bias is not None:
            found.add(f"{name}.bias")
    return found


def own_norms(module):
    return {
        f"{name}.{part}"
        for name, m in module.named_modules()
        if isinstance(m, nn.LayerNorm)
        for part in ("weight", "bias")
    }


@pytest.mark.parametrize(("tuning", "chosen"), [("bitfit", own_biases), ("layernorm", own_norms)])
@pytest.mark.parametrize("part", ["vit", "visual", "transformer"])
def test_bitfit_trains_the_biases_and_layernorm_the_norms(tuning, chosen, part, frozen):
    module = (vit() if part == "vit" else copy.deepcopy(getattr(frozen.model, part))).requires_grad_(True)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    tune(module, tuning)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    wanted = chosen(module)
    assert trained == wanted, f"too many: {sorted(trained - wanted)}; too few: {sorted(wanted - trained)}"
    assert len(wanted) > 3, f"{part} has hardly anything for {tuning} to train"
    assert {name: p.shape for name, p in module.named_parameters()} == shapes, f"{tuning} changes the tower's layers"


def test_none_trains_nothing():
    visual = vit().requires_grad_(True)
    tune(visual, "none")
    assert not any(p.requires_grad for p in visual.parameters()), "tuning 'none' leaves something to be trained"


def test_unknown_tunings_and_towers_without_blocks_are_refused_in_words():
    visual = vit().requires_grad_(True)
    with pytest.raises(ValueError, match=r"tuning 'prefix' is none of lora, bitfit, layernorm, none"):
        tune(visual, "prefix")
    assert all(p.requires_grad for p in visual.parameters()), "a refused tuning froze the tower"
    with pytest.raises(ValueError, match="a Sequential has no transformer blocks"):
        tune(nn.Sequential(nn.Linear(3, 3)), "lora")


def answers(network, classes):
    """All that a network says: of classes, of clouds, of views with and without prompts."""
    prompts, _ = network.visual_prompts(CLOUDS)
    return [network.text(classes), prompts, network.views(VIEWS, prompts, None), network.views(VIEWS, None, None)]


@pytest.mark.parametrize(("variant", "tuning"), NETWORKS)
def test_a_merged_network_answers_as_the_trained_one(variant, tuning, frozen):
    torch.manual_seed(0)
    network = Network(frozen, NetworkConfig(variant, tuning, rank=4))
    with torch.no_grad():
        for value in network.trained().values():
            value += 0.05 * torch.randn(value.shape)
    classes = class_prompts(frozen, describe(["mug", "box", "tin"]), 4)
    network.train().points(CLOUDS)  # so that its statistics are no longer the initial ones
    trained = set(network.trained())
    served = network.merged()
    network.eval()
    for mine, its in zip(answers(network, classes), answers(served, classes), strict=True):
        assert (mine - its).abs().max() < 1e-5, f"merging {variant} with {tuning} changes an answer"
    before = [x.clone() for x in answers(served, classes)]
    assert not low_ranks(served), f"the merged network still has {sorted(low_ranks(served))}"
    trainable = [name for name, p in served.named_parameters() if p.requires_grad]
    assert not trainable, f"the merged network would train {trainable}"
    assert not any(m.training for m in served.modules()), "the merged network is not in evaluation mode"
    lost = trained - set(network.trained())
    assert not lost, f"after the merge the network itself no longer trains {sorted(lost)}"
    assert len(low_ranks(network)) == (0 if tuning != "lora" else {"T": 3, "V": 6, "B": 9}[variant])
    with torch.no_grad():
        for value in network.trained().values():
            value += 0.1
    for was, its in zip(before, answers(served, classes), strict=True):
        assert torch.equal(was, its), "training on changes a network that was merged before"


@pytest.mark.parametrize(("variant", "tuning"), NETWORKS)
def test_training_leaves_the_frozen_backbone_bit_identical(variant, tuning, frozen):
    before = checksum(frozen.model)
    classes = class_prompts(frozen, describe(["mug", "box", "tin"]), 4)
    torch.manual_seed(0)
    network = Network(frozen, NetworkConfig(variant, tuning, rank=4)).train()
    start = {name: p.detach().clone() for name, p in network.trained().items()}
    optimiser = torch.optim.AdamW(network.trained().values(), lr=1e-2)
    for _ in range(2):
        prompts, alignment = network.visual_prompts(CLOUDS)
        seen = network.views(VIEWS, prompts, torch.full((2, 3), 0.1))
        loss = nn.functional.cross_entropy(10 * seen @ network.text(classes).T, torch.tensor([0, 2]))
        optimiser.zero_grad()
        (loss + 0.1 * alignment.square().mean()).backward()
        optimiser.step()
    still = [name for name, p in network.trained().items() if torch.equal(p, start[name])]
    assert len(still) < len(start) / 2, f"two steps trained hardly anything: {still}"
    network.merged()
    assert checksum(frozen.model) == before, f"training {variant} with {tuning} changed the frozen backbone"
    assert not low_ranks(frozen.model), "LoRA stands in the frozen backbone"
    assert not any(p.requires_grad for p in frozen.model.parameters()), "the frozen backbone would be trained"


def test_the_checksum_sees_one_changed_bit(frozen):
    model = copy.deepcopy(frozen.model)
    before = checksum(model)
    with torch.no_grad():
        model.ln_final.bias[0] += 1e-7
    assert checksum(model) != before, "a checksum that sees no change proves nothing"
