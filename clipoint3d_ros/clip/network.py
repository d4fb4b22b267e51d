"""CLIPoint3D: a frozen CLIP, knowledge-driven prompts, a point encoder, and a few tuned parameters (METHOD 2–4).

Everything is batched: the text is encoded once an update, all objects and views go through the vision tower together.
The backbone it is made from is never changed; what is tuned is a copy, and what is not tuned is shared.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.peft import TUNINGS, merge, tune
from clipoint3d_ros.clip.point_encoder import PointNet
from clipoint3d_ros.clip.prompts import Prompts
from clipoint3d_ros.clip.sentences import Sentences
from clipoint3d_ros.clip.text import ClassPrompts, encode_words
from clipoint3d_ros.clip.tower import PatchLimit

VARIANTS = ("T", "V", "B")
MOST_POINTS = 65536  # of a cloud that the point encoder sees; more would fill a robot's memory


@dataclass(frozen=True)
class NetworkConfig:
    """What is trained beside the frozen CLIP."""

    variant: str = "B"  # the tuned towers: T text, V vision, B both
    tuning: str = "lora"  # lora, bitfit, layernorm, or none: prompts only
    rank: int = 16  # of LoRA
    alpha: float = 32.0  # of LoRA; alpha / rank scales it
    dropout: float = 0.1  # of LoRA's input in training
    context: int = 4  # learned tokens of the text's context and of each object's visual prompt; 0 leaves prompts out
    heads: int = 8  # of the prompts' attention
    points: int = 1024  # of each cloud that the point encoder sees, in training and use alike

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant '{self.variant}' is none of {', '.join(VARIANTS)}")
        if self.tuning not in TUNINGS:
            raise ValueError(f"tuning '{self.tuning}' is none of {', '.join(TUNINGS)}")
        if not 1 <= self.rank <= 256 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"rank must be 1 to 256, alpha above 0 and dropout in [0, 1), but they are {self.rank}, "
                f"{self.alpha} and {self.dropout}"
            )
        if self.heads < 1 or self.points < 1:
            raise ValueError(f"heads and points must be at least 1, but are {self.heads} and {self.points}")
        if self.points > MOST_POINTS:
            raise ValueError(f"points must be at most {MOST_POINTS}, but are {self.points}")
        if not 0 <= self.context <= 16:
            raise ValueError(f"context must be 0 to 16 tokens, but is {self.context}")

    @property
    def frozen(self) -> bool:
        """Whether nothing is trained, and the network is the frozen CLIP: for adapters of class statistics alone."""
        return self.tuning == "none" and self.context == 0

    @property
    def tuned_towers(self) -> tuple[bool, bool]:
        """Whether the vision tower is tuned, and the text tower."""
        return not self.frozen and self.variant in "VB", not self.frozen and self.variant in "TB"


class Network(nn.Module):
    """The adapted model.

    config: what is trained.
    backbone: the adapted CLIP, whose parameters that nothing tunes are the frozen backbone's own.
    prompts, points: the prompts and the point encoder; None where the context is 0.
    """

    def __init__(self, frozen: Backbone, config: NetworkConfig) -> None:
        """Raises ValueError where the backbone's width suits no attention of `heads`."""
        super().__init__()
        self.config = config
        vision, text = config.tuned_towers
        model = tuned_copy(frozen.model, vision, text)
        self.model = model
        settings = (config.tuning, config.rank, config.alpha, config.dropout)
        if vision:
            tune(model.visual, *settings)
        if text:
            tune(model.transformer, *settings)
            model.ln_final.requires_grad_(config.tuning == "layernorm")
            if config.tuning == "bitfit" and model.ln_final.bias is not None:
                model.ln_final.bias.requires_grad_(True)
        self.backbone = replace(frozen, model=model, _sentences=Sentences())
        self.prompts: Prompts | None = None
        self.points: PointNet | None = None
        if config.context:
            width = model.visual.output_dim
            if width % config.heads:
                raise ValueError(f"the embedding's {width} channels cannot be shared by {config.heads} attention heads")
            vision_width = model.visual.class_embedding.shape[0]
            self.prompts = Prompts(
                config.context, width, model.token_embedding.weight.shape[1], vision_width, config.heads
            )
            self.points = PointNet(width)
        self.to(frozen.device)

    def text(self, classes: ClassPrompts) -> Tensor:
        """(C, D) unit class features: what the frozen model says of the descriptions, moved as the prompt has moved.

        The prompt is [start, context, class name, ".", end] through the tuned text tower; before training it adds
        nothing, and the features are the frozen model's own.
        """
        words = classes.words
        if self.prompts is not None:
            context = self.prompts.text_context(classes.frozen)
            words = torch.cat([words[:, :1], words[:, 1 : 1 + len(context)] + context, words[:, 1 + len(context) :]], 1)
        said = F.normalize(encode_words(self.model, words, classes.end).float(), dim=-1)
        return F.normalize(classes.frozen + said - classes.plain, dim=-1)

    @property
    def tokens(self) -> int:
        """How many visual prompts `visual_prompts` gives an object in use."""
        return 0 if self.prompts is None or self.prompts.silent else self.config.context

    def visual_prompts(self, points: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, N, 3) normalised clouds → (B, K, W) prompts of their views and the alignment (B, 64, 64); None, None
        without prompts, or in use where their projection is still zero: such tokens say nothing, but would be seen."""
        if self.prompts is None or self.points is None or (not self.training and self.prompts.silent):
            return None, None
        count = min(self.config.points, points.shape[1])
        # Evenly from first to last: a small cloud's repeated points lie side by side.
        rows = torch.arange(count, device=points.device) * points.shape[1] // count
        features, alignment = self.points(points[:, rows])
        return self.prompts.visual(features), alignment

    def views(
        self, images: Tensor, prompts: Tensor | None, extents: Tensor | None, limit: PatchLimit | None = None
    ) -> Tensor:
        """Unit embeddings of depth views; arguments as in `Backbone.encode_views`, rows of views."""
        return self.backbone.encode_views(images, prompts, extents, limit)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def adapter(self) -> dict[str, Tensor]:
        """What is to be kept of a training: its parameters and the point encoder's statistics, detached."""
        kept = {name: p.detach() for name, p in self.trained().items()}
        kept.update({name: b for name, b in self.named_buffers() if name.startswith("points.")})
        return kept

    @torch.no_grad()
    def load_adapter(self, adapter: dict[str, Tensor]) -> None:
        """Take over what `adapter` gave of a network of the same configuration.

        Raises:
            ValueError: parameters are missing, unknown, of another shape or not finite; the message names them, and
                nothing has changed.
        """
        own = self.adapter()
        for kind, names in (("lacks", own.keys() - adapter.keys()), ("has unknown", adapter.keys() - own.keys())):
            if names:
                raise ValueError(f"the adapter {kind} {', '.join(sorted(names)[:3])} ({len(names)} of {len(own)})")
        for name, value in adapter.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{name} of the adapter is {tuple(value.shape)}, but this network's is {tuple(own[name].shape)}"
                )
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} of the adapter has values that are not finite")
        for name, value in adapter.items():
            own[name].copy_(value)

    def merged(self) -> Network:
        """A copy for use: LoRA merged into the weights, in evaluation mode, nothing to be trained."""
        served = copy.copy(self)
        served._modules = dict(self._modules)
        twin = tuned_copy(self.model, *self.config.tuned_towers)
        merge(twin)
        served.model = twin
        served.backbone = replace(self.backbone, model=twin, _sentences=Sentences())
        served.prompts, served.points = copy.deepcopy(self.prompts), copy.deepcopy(self.points)
        return served.eval().requires_grad_(False)


def tuned_copy(model: CLIP, vision: bool, text: bool) -> CLIP:
    """A CLIP that shares its modules with `model` but those of the towers to be tuned, which are copies."""
    twin = copy.copy(model)
    twin._modules, twin._parameters = dict(model._modules), dict(model._parameters)
    if vision:
        twin.visual = copy.deepcopy(model.visual)
    if text:
        twin.transformer, twin.ln_final = copy.deepcopy(model.transformer), copy.deepcopy(model.ln_final)
    return twin
