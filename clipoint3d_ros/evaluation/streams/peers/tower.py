"""A vision tower of which only the LayerNorms' gains and shifts may move: what TENT and RoTTA train here.

Where those papers adapt BatchNorm, a ViT has LayerNorm, whose statistics are of each token and need no adapting. Which
views count is the table's choice, by the frozen model, for these methods as for all others.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from clipoint3d_ros.clip.network import tuned_copy
from clipoint3d_ros.clip.sentences import Sentences
from clipoint3d_ros.evaluation.streams.online import Look, Seen, Setting


class NormTower:
    """A copy of the frozen vision tower in evaluation mode; the text features stay."""

    def __init__(self, setting: Setting) -> None:
        classifier = setting.classifier
        model = tuned_copy(classifier.backbone.model, vision=True, text=False)
        self._backbone = replace(classifier.backbone, model=model, _sentences=Sentences())
        self._text, self._scale = classifier.text.detach().clone(), classifier.scale
        self.parameters: list[nn.Parameter] = []
        for module in model.visual.modules():
            if isinstance(module, nn.LayerNorm):
                self.parameters += [p for p in (module.weight, module.bias) if p is not None]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def logits(self, looks: list[Look], weights: list[Tensor]) -> Tensor:
        """(B, C) float32 of objects, each the weighted mean over its views; views of weight 0 are not encoded.

        Args:
            looks: B clouds' views. weights: B (V,), each summing to 1.
        """
        chosen = [torch.nonzero(w > 0)[:, 0] for w in weights]
        images = torch.cat([look.images[rows] for look, rows in zip(looks, chosen, strict=True)])
        sizes = torch.cat([look.extents.expand(len(rows), 3) for look, rows in zip(looks, chosen, strict=True)])
        each = self._scale * self._backbone.encode_views(images, None, sizes) @ self._text.T
        counts = [len(rows) for rows in chosen]
        parts = zip(each.split(counts), weights, chosen, strict=True)
        return torch.stack([(w[rows, None].to(part) * part).sum(0) for part, w, rows in parts])

    @torch.no_grad()
    def follow(self, other: NormTower, rate: float) -> None:
        """Move `rate` of the way to another tower's parameters."""
        for own, theirs in zip(self.parameters, other.parameters, strict=True):
            own.lerp_(theirs, rate)


def clone_look(look: Look) -> Look:
    """Free of inference mode, so that gradients may be taken through it."""
    return Look(look.images.clone(), look.extents.clone())


def weights_of(seen: Seen) -> Tensor:
    """(V,) of the table's choice of views."""
    return torch.from_numpy(seen.weights)


def step_if_finite(optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> bool:
    """One step down the loss, left out where the loss or a gradient is not finite."""
    optimiser.zero_grad(set_to_none=True)
    if not torch.isfinite(loss):
        return False
    loss.backward()
    if not all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None):
        return False
    optimiser.step()
    return True
