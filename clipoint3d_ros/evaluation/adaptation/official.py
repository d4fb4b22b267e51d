"""The released recipe, its faults mended only as far as it runs (METHOD 5 lists them).

Kept: prompts and cross-attention stay as they were drawn at random, for no optimiser is given them; a visual prompt
takes the place of the first patch tokens instead of joining them; the "entropy" loss normalises over the batch; the
prototype loss is computed from detached features, so that no gradient reaches it; target passes move the point
encoder's BatchNorm; SGD; scored clouds are turned and jittered at random.
Mended: what stops it from running at all, the device, levelling, and the backbone's own preprocessing, without which
no embedded model sees anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.adaptation.batches import Batch
from clipoint3d_ros.adaptation.config import LossConfig, Recipe
from clipoint3d_ros.adaptation.losses import cross_entropy, orthogonality
from clipoint3d_ros.adaptation.objective import Seen
from clipoint3d_ros.adaptation.transport import TransportConfig, alignment
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.clip.prompts import Branch
from clipoint3d_ros.clip.text import ClassPrompts, encode_words
from clipoint3d_ros.clip.tower import PatchLimit

CONTEXT_DEVIATION = 0.02  # of the random prompt words, as CoOp draws them


@dataclass(frozen=True)
class _Overwritten(Backbone):
    """A backbone whose visual prompts, `context` of them, take the place of the first patches."""

    context: int = 0

    def encode_views(
        self,
        views: Tensor,
        prompts: Tensor | None = None,
        extents: Tensor | None = None,
        limit: PatchLimit | None = None,
    ) -> Tensor:
        """The first patches are blanked: a tower that leaves empty patches out has the prompts in their place."""
        if prompts is not None:
            patch = self.visual.patch_size[0] * views.shape[-1] // self.preprocessing.size
            views = views.clone()
            views[:, :patch, : patch * self.context] = 1
        return super().encode_views(views, prompts, extents, limit)


class OfficialNetwork(Network):
    """The network with the released code's prompts: random, untrained, in the place of patches and of words."""

    def __init__(self, frozen: Backbone, config: NetworkConfig) -> None:
        super().__init__(frozen, config)
        if self.prompts is None:
            raise ValueError("the released recipe has prompts; give it a context of at least 1")
        for branch in (self.prompts.text, self.prompts.vision):
            assert isinstance(branch, Branch)
            torch.nn.init.normal_(branch.project.weight, std=CONTEXT_DEVIATION)
        self.prompts.requires_grad_(False)
        self.backbone = _Overwritten(**vars(self.backbone), context=config.context)

    def text(self, classes: ClassPrompts) -> Tensor:
        """The prompt alone, its context in the place of the hand-written one."""
        assert self.prompts is not None
        context = self.prompts.text_context(classes.frozen).expand(len(classes.names), -1, -1)
        words = torch.cat([classes.words[:, :1], context, classes.words[:, 1 + classes.context :]], 1)
        return F.normalize(encode_words(self.model, words, classes.end).float(), dim=-1)


def official_recipe(recipe: Recipe) -> Recipe:
    """The released settings in the same number of steps and objects as `recipe`."""
    training = replace(
        recipe.training,
        scans=0,
        cut_share=0.0,
        unknown_size=0.0,
        optimiser="sgd",
        learning_rate=2e-3,
        warmup=0,
        weight_decay=5e-4,
        ema=0.0,
        target_statistics=True,
        certain=0.0,
        statistics=0,
    )
    network = replace(recipe.network, variant="B", tuning="lora", context=4)
    return Recipe(network, LossConfig(), TransportConfig(), training)


def official_objective(
    source: Seen, labels: Tensor, target: Seen | None, batch: Batch | None, prior: Tensor, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Its loss, arguments as in `adaptation.objective.objective`; L_proto is left out: nothing learns from it."""
    assert target is not None
    terms = {
        "ce": cross_entropy(source.pooled, labels),
        "conf": _batch_entropy(source.pooled) + _batch_entropy(target.pooled),
        "transport": alignment(source.fused, labels, target.fused, target.pooled, recipe.transport),
    }
    turned = [seen.turned for seen in (source, target) if seen.turned is not None]
    if turned:
        terms["ortho"] = torch.stack([orthogonality(each) for each in turned]).mean()
    return torch.stack(list(terms.values())).sum(), terms


def _batch_entropy(logits: Tensor) -> Tensor:
    """The fault: probabilities that sum to 1 over the batch, for each class."""
    log = logits.log_softmax(0)
    return -(log.exp() * log).sum(0).mean()
