"""Prompts: what the classes say is common to all objects, what the geometry says is each object's own."""

import math

import pytest
import torch

from clipoint3d_ros.clip.prompts import CrossAttention, FeedForward, Prompts

TOKENS, WIDTH, TEXT, VISION = 4, 32, 12, 20


def fresh(seed=0):
    torch.manual_seed(seed)
    return Prompts(TOKENS, WIDTH, TEXT, VISION, heads=8)


def moved(module, step=0.1, seed=1):
    """The module with every parameter off where it began, so that no zero of the start hides a fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += step * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return module


def vectors(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def normalised(x, norm):
    """LN x, written out: zero mean and unit variance over channels, then weight and bias."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def test_both_prompts_are_zero_at_the_start():
    prompts = fresh()
    assert not prompts.text_context(vectors(5, WIDTH)).any(), (
        "the text context is off the hand-written one at the start"
    )
    assert not prompts.visual(vectors(3, WIDTH)).any(), "visual prompts are not zero at the start"


@pytest.mark.parametrize("classes", [1, 5, 40])
def test_the_text_context_has_k_rows_for_any_number_of_classes(classes):
    context = moved(fresh()).text_context(vectors(classes, WIDTH))
    assert context.shape == (TOKENS, TEXT), f"the context of {classes} classes is {tuple(context.shape)}"
    assert torch.isfinite(context).all(), "the context is not finite"


def test_the_text_context_is_that_of_the_set_of_classes():
    prompts, classes = moved(fresh()).double(), vectors(6, WIDTH).double()
    context = prompts.text_context(classes)
    shuffled = prompts.text_context(classes[torch.tensor([3, 0, 5, 1, 4, 2])])
    assert (shuffled - context).abs().max() < 1e-10, "the order of the classes changes their context"
    assert (prompts.text_context(classes[:3]) - context).abs().max() > 1e-4, "other classes have the same context"
    assert (context[0] - context[1]).abs().max() > 1e-4, "all rows of the context are one"


def test_the_text_context_does_not_depend_on_any_object():
    prompts, classes = moved(fresh()), vectors(5, WIDTH)
    before = prompts.text_context(classes)
    prompts.visual(vectors(7, WIDTH))
    moved(prompts.vision, seed=5)
    assert torch.equal(prompts.text_context(classes), before), "what objects are asked with changes the text context"
    before.sum().backward()
    reached = [name for name, p in prompts.vision.named_parameters() if p.grad is not None]
    assert not reached, f"the text context trains the objects' branch: {reached}"


def test_visual_prompts_are_each_objects_own():
    prompts, points = moved(fresh()).double(), vectors(6, WIDTH).double()
    visual = prompts.visual(points)
    assert visual.shape == (6, TOKENS, VISION), f"visual prompts of 6 objects are {tuple(visual.shape)}"
    for i in range(6):
        alone = prompts.visual(points[i : i + 1])
        assert (alone[0] - visual[i]).abs().max() < 1e-10, f"object {i}'s prompts depend on the others of its batch"
        for j in range(i):
            assert (visual[i] - visual[j]).abs().max() > 1e-3, f"objects {i} and {j} have the same prompts"


def test_no_objects_have_no_prompts():
    assert moved(fresh()).visual(torch.zeros(0, WIDTH)).shape == (0, TOKENS, VISION)


def test_one_query_asks_in_both_branches():
    prompts = moved(fresh())
    for name, asked in (
        ("text", prompts.text_context(vectors(5, WIDTH))),
        ("vision", prompts.visual(vectors(2, WIDTH))),
    ):
        prompts.query.grad = None
        asked.square().sum().backward()
        assert prompts.query.grad.abs().max() > 0, f"the {name} branch does not ask with the shared query"


@pytest.mark.parametrize("factor", [1, 4])
def test_feed_forward_is_a_gated_gelu_with_a_residual(factor):
    torch.manual_seed(0)
    layer = moved(FeedForward(6, factor)).double()
    x = vectors(2, 3, 6).double()
    inner = normalised(x, layer.norm) @ layer.inner.weight.T + layer.inner.bias
    a, b = inner[..., : 6 * factor], inner[..., 6 * factor :]
    gelu = b * (1 + torch.erf(b / math.sqrt(2))) / 2
    wanted = x + (a * gelu) @ layer.outer.weight.T + layer.outer.bias
    assert layer.inner.weight.shape == (12 * factor, 6), f"the inner layer is {tuple(layer.inner.weight.shape)}"
    assert (layer(x) - wanted).abs().max() < 1e-12, "the feed-forward is not x + W₂(a · gelu(b))"


@pytest.mark.parametrize("heads", [1, 4])
def test_cross_attention_is_pre_norm_with_a_residual(heads):
    width, head = 8, 8 // heads
    torch.manual_seed(0)
    layer = moved(CrossAttention(width, heads)).double()
    queries, keys = vectors(2, 3, width).double(), vectors(2, 5, width, seed=4).double()
    asked, known = normalised(queries, layer.norm_query), normalised(keys, layer.norm_keys)
    weights, biases = layer.attention.in_proj_weight.chunk(3), layer.attention.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((asked, known, known), weights, biases, strict=True))
    mixed = torch.zeros_like(queries)
    for batch in range(2):
        for h in range(heads):
            own = slice(h * head, (h + 1) * head)
            for row in range(3):
                scores = torch.stack([q[batch, row, own] @ k[batch, m, own] / math.sqrt(head) for m in range(5)])
                share = scores.exp() / scores.exp().sum()
                mixed[batch, row, own] = sum(share[m] * v[batch, m, own] for m in range(5))
    wanted = queries + mixed @ layer.attention.out_proj.weight.T + layer.attention.out_proj.bias
    assert (layer(queries, keys) - wanted).abs().max() < 1e-12, "cross-attention is not x + MHA(LN x, LN y)"
