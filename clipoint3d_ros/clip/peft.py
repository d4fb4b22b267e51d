"""Parameter-efficient tuning of a tower: LoRA, BitFit or LayerNorm, and LoRA's exact merge for use (METHOD 3).

LoRA stands behind the attention's output and both MLP layers of every block: y = Wx + b becomes y + s·BA·drop(y), so
that merged W' = (I + sBA)W and b' = (I + sBA)b.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TUNINGS = ("lora", "bitfit", "layernorm", "none")


class LowRank(nn.Module):
    """A frozen linear layer with a low-rank adapter after it; the layer alone before training.

    Args:
        linear: the layer, whose weights stay.
        rank: r of A (r, out) and B (out, r).
        alpha: s = alpha / rank.
        dropout: chance that a channel of the adapter's input is left out in training, of all tokens of a sequence at
            once (Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015): a mask for
            every token costs as much as the tower's own forward pass on a CPU.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.linear, self.scale, self.dropout = linear, alpha / rank, dropout
        width = linear.out_features
        self.down = nn.Parameter(torch.randn(rank, width) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(width, rank))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        given = y
        if self.training and self.dropout:
            mask = torch.empty(y.shape[0], *[1] * (y.ndim - 2), y.shape[-1], device=y.device, dtype=y.dtype)
            given = y * mask.bernoulli_(1 - self.dropout).div_(1 - self.dropout)
        return y + self.scale * F.linear(F.linear(given, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer of the same outputs; the products are taken in float64."""
        matrix = self.scale * self.up.double() @ self.down.double()
        weight, bias = self.linear.weight, self.linear.bias
        merged = nn.Linear(self.linear.in_features, self.linear.out_features, bias is not None, weight.device)
        merged.weight = nn.Parameter((weight.double() + matrix @ weight.double()).to(weight.dtype), False)
        if bias is not None:
            merged.bias = nn.Parameter((bias.double() + matrix @ bias.double()).to(bias.dtype), False)
        return merged


def tune(tower: nn.Module, tuning: str, rank: int = 16, alpha: float = 32.0, dropout: float = 0.1) -> None:
    """Make a tower's few parameters trainable, in place: no others are.

    Args:
        tower: a module that holds open_clip's residual blocks; with its own layer norms for "layernorm".
        tuning: one of `TUNINGS`; "none" trains nothing.
        rank, alpha, dropout: of LoRA.

    Raises:
        ValueError: an unknown tuning, or a tower without blocks.
    """
    if tuning not in TUNINGS:
        raise ValueError(f"tuning '{tuning}' is none of {', '.join(TUNINGS)}")
    tower.requires_grad_(False)
    if tuning == "lora":
        blocks = [m for m in tower.modules() if hasattr(m, "attn") and hasattr(m, "mlp")]
        if not blocks:
            raise ValueError(f"a {type(tower).__name__} has no transformer blocks for LoRA to stand in")
        for block in blocks:
            for owner, name in ((block.attn, "out_proj"), (block.mlp, "c_fc"), (block.mlp, "c_proj")):
                setattr(owner, name, LowRank(getattr(owner, name), rank, alpha, dropout))
    elif tuning == "bitfit":
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(name.rsplit(".", 1)[-1] in ("bias", "in_proj_bias"))
    elif tuning == "layernorm":
        for module in tower.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)


def merge(tower: nn.Module) -> None:
    """Replace every LoRA of a tower by one linear layer, in place: outputs stay, and cost what the frozen ones did."""
    for module in list(tower.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LowRank):
                setattr(module, name, child.merged())
