"""The vision tower's forward, with room for visual prompts and for empty patches.

Written over open_clip's VisionTransformer: its own weights, its own blocks. A sequence is [class, patches, prompts];
prompts carry no position, and a patch whose occupancy is False takes part in nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn


def check_tower(visual: nn.Module, name: str) -> VisionTransformer:
    """The tower itself where this module can run it.

    Raises:
        ValueError: not a plain ViT of open_clip.
    """
    if not isinstance(visual, VisionTransformer):
        raise ValueError(
            f"backbone '{name}' has a vision tower of type {type(visual).__name__}; clipoint3d runs open_clip's own "
            "ViTs, such as ViT-B-32, ViT-B-16 or ViT-L-14"
        )
    if visual.attn_pool is not None:
        raise ValueError(f"backbone '{name}' pools by attention, which takes no visual prompts; name a plain ViT")
    blocks = {type(block).__name__ for block in visual.transformer.resblocks}
    if not all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks):
        raise ValueError(f"backbone '{name}' has blocks of type {', '.join(blocks)}; name a plain ViT")
    return visual


def patch_occupancy(images: Tensor, patch: int) -> Tensor:
    """Which patches of a depth view hold any of the object.

    Args:
        images: (M, H, W) depth views, 1 where background.
        patch: side of a patch in pixels.

    Returns:
        (M, P) bool, patches in row order.
    """
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    tiles = images[..., : rows * patch, : columns * patch].unflatten(-1, (columns, patch)).unflatten(-3, (rows, patch))
    return (tiles.amin((-1, -3)) < 1 - 1e-4).flatten(1)


class PatchLimit(NamedTuple):
    """How many occupied patches of an image take part in training, and which: those of the lowest priority numbers
    (M, P), random ones (FLIP: Li et al., "Scaling language-image pre-training via masking", CVPR 2023)."""

    priority: Tensor
    most: int

    def __call__(self, occupancy: Tensor) -> Tensor:
        """(M, P) bool → the same with at most `most` True in a row."""
        order = self.priority.masked_fill(~occupancy, torch.inf)
        return occupancy & (order.argsort(1).argsort(1) < self.most)

    def rows(self, rows: Tensor) -> PatchLimit:
        return PatchLimit(self.priority[rows], self.most)


def forward(
    visual: VisionTransformer, images: Tensor, prompts: Tensor | None = None, occupancy: Tensor | None = None
) -> Tensor:
    """Image embeddings of a batch.

    Args:
        visual: the tower.
        images: (M, 3, H, W), preprocessed as the tower's weights want them.
        prompts: (M, K, W) extra tokens of the tower's width.
        occupancy: (M, P) bool; None lets every patch take part.

    Returns:
        (M, D), not normalised.

    Raises:
        ValueError: prompts or occupancy of another shape than the tower's.
    """
    tokens = visual.conv1(images).flatten(2).transpose(1, 2)
    count, patches, width = tokens.shape
    if occupancy is not None and occupancy.shape != (count, patches):
        raise ValueError(f"occupancy must be {(count, patches)} for these images, but it is {tuple(occupancy.shape)}")
    if prompts is not None and (prompts.ndim != 3 or prompts.shape[0] != count or prompts.shape[2] != width):
        raise ValueError(f"prompts must be ({count}, K, {width}) for these images, but they are {tuple(prompts.shape)}")
    position = visual.positional_embedding.to(tokens.dtype)
    tokens = tokens + position[1:]
    if occupancy is not None:
        tokens, occupancy = _pack(tokens, occupancy)
    start = (visual.class_embedding.to(tokens.dtype) + position[0]).expand(count, 1, -1)
    parts = [start, tokens] if prompts is None else [start, tokens, prompts.to(tokens.dtype)]
    sequence = visual.ln_pre(torch.cat(parts, 1))
    bias = _absence(occupancy, sequence)
    for layer in visual.transformer.resblocks:
        sequence = block(layer, sequence, bias)
    pooled = _pool(visual, sequence, tokens.shape[1], occupancy)
    return pooled if visual.proj is None else pooled @ visual.proj


def _pack(tokens: Tensor, occupancy: Tensor) -> tuple[Tensor, Tensor]:
    """Move each image's occupied patches to the front and cut off what no image of the batch needs."""
    longest = max(int(occupancy.sum(1).max()), 1) if len(occupancy) else 1
    order = occupancy.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2])), occupancy.gather(1, order)


def _absence(occupancy: Tensor | None, sequence: Tensor) -> Tensor | None:
    """(M, 1, 1, L) what is added to attention scores: −∞ where a token is no key; None where all of them are."""
    if occupancy is None or bool(occupancy.all()):
        return None
    absent = torch.zeros(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
    absent[:, 1 : 1 + occupancy.shape[1]] = ~occupancy
    bias = torch.zeros(absent.shape, dtype=sequence.dtype, device=sequence.device)
    return bias.masked_fill_(absent, -torch.inf)[:, None, None]


def block(layer: ResidualAttentionBlock, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """One block of a transformer of open_clip's.

    Args:
        layer: the block.
        x: (M, L, W) tokens.
        bias: added to attention scores, to broadcast to (M, heads, L, L); never −∞ for all keys of a query.
    """
    x = x + layer.ls_1(_attention(layer.attn, layer.ln_1(x), bias))
    return x + layer.ls_2(layer.mlp(layer.ln_2(x)))


def _attention(attention: nn.MultiheadAttention, x: Tensor, bias: Tensor | None) -> Tensor:
    packed = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = packed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    if x.device.type == "cpu" and packed.requires_grad:
        # torch's fused attention has a backward pass on the CPU that takes many times as long as the plain one's.
        scores = query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5
        mixed = (scores if bias is None else scores + bias.to(scores.dtype)).softmax(-1).to(value.dtype) @ value
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, None if bias is None else bias.to(query.dtype))
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _pool(visual: VisionTransformer, sequence: Tensor, patches: int, occupancy: Tensor | None) -> Tensor:
    if not visual.final_ln_after_pool:
        sequence = visual.ln_post(sequence)
    if visual.pool_type == "avg":
        body = sequence[:, 1 : 1 + patches]
        weights = torch.ones(body.shape[:2], device=body.device) if occupancy is None else occupancy.float()
        weights = (weights / weights.sum(1, keepdim=True).clamp_min(1)).to(body.dtype)
        pooled = (body * weights[..., None]).sum(1)
    else:
        pooled = sequence[:, 0]
    return visual.ln_post(pooled) if visual.final_ln_after_pool else pooled
