"""Contrastive training of a small CLIP on depth views and captions, to resume at any step with the same result.

Every step draws from a generator seeded by (seed, step), so what a step sees does not depend on when the run was
interrupted; it does depend on how many processes share it. Two terms: each view against one caption of every class (a
cross-entropy over classes), and each object against the batch's own captions, where only a caption of an object with
the same class, attributes and told size is right (UniCL: Yang et al., "Unified contrastive learning in
image-text-label space", CVPR 2022).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import CONFIG_FILE, WEIGHTS_FILE, build_model, file_checksum
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.size import size_prompts
from clipoint3d_ros.clip.text import encode_tokens
from clipoint3d_ros.geometry.views import DepthViews
from clipoint3d_ros.pretraining.batches import Batch, Facts, Material, Sampler, batches
from clipoint3d_ros.pretraining.captions import every_text
from clipoint3d_ros.pretraining.config import ModelConfig, PretrainConfig, TrainingConfig, fingerprint
from clipoint3d_ros.pretraining.corpus import Corpus
from clipoint3d_ros.pretraining.distributed import Peers

MEAN, STD = 0.5, 0.5  # of a depth view: background 1 becomes 1, the nearest point −1


@dataclass
class Run:
    """A training under way: everything a checkpoint holds.

    The models' token tables have only the rows of `vocabulary`, ascending: a step then touches hundreds of words, not
    the tokenizer's 49 408.
    """

    model: CLIP
    average: CLIP
    optimiser: torch.optim.Optimizer
    vocabulary: Tensor
    step: int = 0
    seconds: float = 0.0  # that all its parts have taken


def open_clip_config(model: ModelConfig) -> dict[str, Any]:
    """The `open_clip_config.json` of a small CLIP; the key "clipoint3d" holds what open_clip has no word for."""
    return {
        "model_cfg": {
            "embed_dim": model.embed_dim,
            "vision_cfg": {
                "image_size": model.image_size,
                "patch_size": model.patch_size,
                "width": model.vision_width,
                "layers": model.vision_layers,
                "head_width": model.vision_head_width,
            },
            "text_cfg": {
                "context_length": model.context_length,
                "vocab_size": 49408,
                "width": model.text_width,
                "heads": model.text_heads,
                "layers": model.text_layers,
            },
        },
        "preprocess_cfg": {"mean": [MEAN] * 3, "std": [STD] * 3},
        "clipoint3d": {
            "stem": list(model.stem),
            "stem_blocks": model.stem_blocks,
            "size_token": model.size_token,
            "drop_empty": True,
            "temperature": 1.0,
        },
    }


def train(
    config: PretrainConfig,
    corpus: Corpus,
    classes: Descriptions,
    folder: Path,
    device: torch.device,
    stop_at: int | None = None,
    report: Callable[[int, dict[str, float]], None] | None = None,
    peers: Peers = Peers(),  # noqa: B008 (frozen)
) -> Run:
    """Train, or go on with the checkpoint in `folder`.

    Args:
        config: the model's file.
        corpus: what to learn from; its classes are those of `classes`, in order.
        classes: names and descriptions.
        folder: takes `checkpoint.pt` and `log.jsonl`.
        device: where to train.
        stop_at: leave after this step, as a kill would but with a checkpoint.
        report: called after each step with the step and its figures.
        peers: the processes that train together.

    Returns:
        The run; `average` is the model to publish.

    Raises:
        ValueError: the checkpoint in `folder` is of another configuration, class file or number of processes; a class
            has no clouds; or the objects of a step cannot be shared evenly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.training
    if settings.objects % peers.count:
        raise ValueError(f"{settings.objects} objects a step cannot be shared evenly by {peers.count} processes")
    tokenizer = build_tokenizer(config.model)
    vocabulary = tokenizer(list(every_text(classes, corpus.words, config.synonyms))).unique()
    run = _start(config, vocabulary, device)
    identity = fingerprint(config, classes, peers.count)
    _resume(run, identity, folder)
    rows = torch.full((int(vocabulary.max()) + 1,), -1).scatter_(0, vocabulary, torch.arange(len(vocabulary)))
    material = Material(config, corpus, classes, tokenizer, rows, Sampler(corpus, config), peers)
    learner = _Learner(config.training, DepthViews(size=config.model.image_size), len(classes.names), device, peers)
    last = min(settings.steps, stop_at or settings.steps)
    since = time.monotonic()
    for step, batch in enumerate(batches(material, run.step, last, ahead=device.type != "cpu"), run.step):
        rate = _learning_rate(step, settings)
        for group in run.optimiser.param_groups:
            group["lr"] = rate
        figures = _step(run, learner, batch, step)
        run.step = step + 1
        now = time.monotonic()
        run.seconds, since = run.seconds + now - since, now
        figures["learning_rate"] = rate
        if report is not None:
            report(run.step, figures)
        if peers.first and (run.step % settings.checkpoint_every == 0 or run.step == last):
            _save(run, identity, folder)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": run.step, **{k: round(v, 5) for k, v in figures.items()}}) + "\n")
    return run


def build_tokenizer(model: ModelConfig) -> Any:
    import open_clip

    return open_clip.SimpleTokenizer(context_length=model.context_length)


def publish(run: Run, config: PretrainConfig, folder: Path, told: dict[str, Any]) -> None:
    """Write the averaged model in open_clip's `local-dir:` layout, with its checksum beside it.

    `told` joins the key "clipoint3d" of its configuration: `temperature`, `unknown_logit`, and how it was trained.

    Weights are stored as float16 (they are used as float32). A word never seen in training keeps no vector: zeros say
    nothing, where its random start would say something wrong; and they make the file small to pack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = open_clip_config(config.model)
    described["clipoint3d"].update(told)
    state = {k: v.detach().cpu() for k, v in run.average.state_dict().items()}
    words = state["token_embedding.weight"]
    table = torch.zeros(described["model_cfg"]["text_cfg"]["vocab_size"], words.shape[1])
    state["token_embedding.weight"] = table.index_copy_(0, run.vocabulary.cpu(), words)
    half = {
        k: v.half().contiguous() if v.is_floating_point() and v.ndim > 0 else v.contiguous() for k, v in state.items()
    }
    save_file(half, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes for its owner alone; an install must be readable
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n")
    (folder / "SHA256SUMS").write_text(f"{file_checksum(folder / WEIGHTS_FILE)}  {WEIGHTS_FILE}\n")


def _start(config: PretrainConfig, vocabulary: Tensor, device: torch.device) -> Run:
    torch.manual_seed(config.training.seed)
    model, _ = build_model(open_clip_config(config.model))
    model.token_embedding = nn.Embedding.from_pretrained(model.token_embedding.weight[vocabulary], freeze=False)
    model = model.to(device).train()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.training.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.training.learning_rate, betas=(0.9, 0.98))
    return Run(model, copy.deepcopy(model).eval(), optimiser, vocabulary)


def _resume(run: Run, identity: str, folder: Path) -> None:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return
    stored = torch.load(path, map_location=next(run.model.parameters()).device, weights_only=True)
    if stored["fingerprint"] != identity:
        raise ValueError(
            f"{path} is of another configuration, class file or number of processes; choose another output folder or "
            "remove it"
        )
    run.model.load_state_dict(stored["model"])
    run.average.load_state_dict(stored["average"])
    run.optimiser.load_state_dict(stored["optimiser"])
    run.step = int(stored["step"])
    run.seconds = float(stored["seconds"])


def _save(run: Run, identity: str, folder: Path) -> None:
    stored = {
        "fingerprint": identity,
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
    }
    beside = folder / "checkpoint.pt.part"
    torch.save(stored, beside)
    beside.replace(folder / "checkpoint.pt")


def _learning_rate(step: int, settings: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


@dataclass(frozen=True)
class _Learner:
    """What is the same in every step; `classes` is their number."""

    settings: TrainingConfig
    views: DepthViews
    classes: int
    device: torch.device
    peers: Peers


def _step(run: Run, learner: _Learner, batch: Batch, step: int) -> dict[str, float]:
    settings, device, classes = learner.settings, learner.device, learner.classes
    count = len(batch.labels)
    images = learner.views(batch.points.to(device), batch.chosen.to(device)).flatten(0, 1)
    labels, tokens = batch.labels.to(device), batch.tokens.to(device)

    model = run.model
    kind = {"bf16": torch.bfloat16}.get(settings.precision)
    with torch.autocast(device.type, dtype=kind or torch.bfloat16, enabled=kind is not None):
        occupancy = tower.patch_occupancy(images, model.visual.patch_size[0])
        priority = torch.rand(occupancy.shape, generator=batch.rng).to(device)
        occupancy = tower.PatchLimit(priority, settings.tokens)(occupancy)
        pixels = ((images - MEAN) / STD)[:, None].expand(-1, 3, -1, -1)
        prompts = size_prompts(model.visual, batch.sizes.repeat_interleave(settings.views, 0).to(device), len(images))
        seen = tower.forward(model.visual, pixels, prompts, occupancy)
        text = encode_tokens(model, tokens)
    seen = F.normalize(seen.float(), dim=-1).unflatten(0, (count, settings.views))
    text = F.normalize(text.float(), dim=-1)
    scale = model.logit_scale.exp().clamp(max=100)
    class_text, own_text = text[:classes], text[classes:]

    logits = scale * seen @ class_text.T
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(settings.views))
    mean = F.cross_entropy(logits.mean(1), labels)
    told = F.normalize(seen[: len(own_text)].mean(1), dim=-1)
    contrast = _unified_contrast(scale * told @ own_text.T, _same(batch.facts).to(device))
    loss = each + mean + settings.caption_weight * contrast

    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    learner.peers.average(p.grad for p in model.parameters() if p.grad is not None)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    run.optimiser.step()
    _follow(run.average, model, min(settings.ema, (1 + step) / (10 + step)))
    accuracy = (logits.mean(1).argmax(1) == labels).float().mean()
    figures = {"loss": loss, "view": each, "contrast": contrast, "accuracy": accuracy}
    return {name: float(value.detach()) for name, value in figures.items()}


def _same(facts: list[Facts]) -> Tensor:
    """(B, B) float: 1 where the same is told of two objects."""
    keys: dict[Facts, int] = {}
    ids = torch.tensor([keys.setdefault(f, len(keys)) for f in facts])
    return (ids[:, None] == ids[None]).float()


def _unified_contrast(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy in both directions, each row's target spread evenly over its right answers."""
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
