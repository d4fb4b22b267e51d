"""Few-shot unsupervised domain adaptation: a labelled few-shot source, an unlabelled target, one adapter (METHOD 2–5).

Every step draws from (seed, step) alone, so a training resumed from its checkpoint ends as one that was never
interrupted. Several processes share the tower's work: each encodes its part of the views, all see all features, and
the averaged gradient is that of one process. The tower's memory is capped by passes of a few views whose activations
are computed again for the gradient.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipoint3d_ros.adaptation.batches import Batch, generator, source_batch, target_batch
from clipoint3d_ros.adaptation.clouds import Clouds, can_scan, levelled, scanned, worn
from clipoint3d_ros.adaptation.config import Recipe, TrainingConfig
from clipoint3d_ros.adaptation.objective import Objective, objective, see
from clipoint3d_ros.adaptation.priors import class_prior
from clipoint3d_ros.adaptation.probing import Probe, gain, look_over
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.clip.point_encoder import kept_statistics
from clipoint3d_ros.clip.text import ClassPrompts, class_prompts
from clipoint3d_ros.clip.tower import PatchLimit
from clipoint3d_ros.datasets.objects import Objects, few_shot
from clipoint3d_ros.geometry.views import DepthViews
from clipoint3d_ros.pretraining.config import fingerprint
from clipoint3d_ros.pretraining.distributed import Peers
from clipoint3d_ros.recognition.calibration import fit_temperature

CHECKPOINT = "checkpoint.pt"
PROBE_SCANS = 2  # of each object of the probe set
STORED_POINTS = 2048  # of each cloud, of which each step draws some
_BELIEF = 0.5  # in even classes, against one object of the target: rare classes must not be drawn to frequent ones
_DTYPES = {"bf16": torch.bfloat16}


@dataclass(frozen=True)
class Material:
    """What a training learns from, on the CPU.

    source: complete or seen, labelled. scans: of the source, or None. target: unlabelled, None where nothing looks at
    it. probe: labelled source objects that no step sees, looked at like the target.
    """

    source: Clouds
    scans: Clouds | None
    target: Clouds | None
    probe: Clouds


@dataclass
class Run:
    """A training under way: everything a checkpoint holds.

    average: the trained parameters' running mean, which is what is served. best: the average at the best probe score.
    score: the last average's. kept: what a finished or best run would be served by.
    prior: (C,) the target's class shares, estimated so far.
    """

    network: Network
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    prior: Tensor
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = -math.inf
    best_step: int = 0
    score: float = -math.inf
    kept: dict[str, Tensor] = field(default_factory=dict)
    kept_step: int = 0
    step: int = 0


Report = Callable[[int, dict[str, float]], None]
OnBest = Callable[[Run, Probe], None]


def prepare(source: Objects, target: Objects | None, recipe: Recipe) -> Material:
    """Few-shot source, its scans from where the target's objects were seen, and the probe set.

    Args:
        source: labelled objects of every class; `shots` of each are learned from, `probe` others are kept apart.
        target: its labels are taken away before anything else happens.

    Raises:
        ValueError: a class without objects, no object left for the probe, or losses that need a target without one.
    """
    config = recipe.training
    numbers = np.random.default_rng(config.seed)
    shots, rest = few_shot(source, config.shots, numbers)
    if len(np.unique(rest.labels)) < len(source.classes):  # none left to keep apart: a fifth of such a class is
        counts = np.bincount(source.labelled().labels)
        if counts.min() < 2:
            raise ValueError(
                f"{source.domain} has classes of one object, and the probe set needs another: give at least 2 a class"
            )
        without = counts - np.maximum(counts // 5, 1)
        shots, rest = few_shot(source, np.where(counts > config.shots, config.shots, without), numbers)
    held, _ = few_shot(rest, config.probe, numbers)
    seen = None if target is None or len(target) == 0 else levelled(target.unlabelled(), STORED_POINTS)
    if seen is None and recipe.losses.sees_target:
        raise ValueError("losses conf, transport, proto and agree look at a target; name one, or set them to 0")
    complete, probe, scans = levelled(shots, STORED_POINTS), levelled(held, STORED_POINTS), None
    if config.scans and seen is not None and can_scan(complete, seen):
        scans = scanned(complete, seen, config.scans, config.seed, config.misshape)
        # Judged as the target is: other proportions than the shots', and with a sensor's and a segmenter's faults.
        probe = scanned(probe, seen, PROBE_SCANS, config.seed + 1, config.misshape)
        probe = worn(probe, config.points, config.cut_share, config.seed)
    return Material(complete, scans, seen if recipe.losses.sees_target else None, probe)


def train(
    backbone: Backbone,
    classes: Descriptions,
    material: Material,
    recipe: Recipe,
    folder: Path | None = None,
    report: Report | None = None,
    on_best: OnBest | None = None,
    stop_at: int | None = None,
    make: Callable[[Backbone, NetworkConfig], Network] = Network,
    loss: Objective = objective,
    peers: Peers = Peers(),  # noqa: B008 (frozen)
) -> Run:
    """Train, or go on with the checkpoint in `folder`.

    Args:
        backbone: frozen, and left as it is.
        classes: what the labels index.
        material: from `prepare`.
        recipe: everything else.
        folder: takes `checkpoint.pt`; None keeps none.
        report: called after each step with its figures.
        on_best: called whenever the probe score is the best so far, with the run whose `best` has just been set.
        stop_at: leave after this step, as a kill would but with a checkpoint.
        make, loss: the network and its objective; others than this method's own for a comparison.
        peers: the processes that train together.

    Returns:
        The run, whose network holds the last average, or the best one where the last fell below it on the probe set
        by more than `keep_margin`; what it was before training where that gained nothing `certain` on the probe set.

    Raises:
        ValueError: a checkpoint of another recipe, backbone, preprocessing or material.
        FloatingPointError: a loss, gradient or prediction that is not finite, before it changes the checkpoint.
    """
    config = recipe.training
    run, learner = begin(backbone, classes, recipe, make, loss, peers)
    network = run.network
    untrained = _copied(network)
    identity = fingerprint(
        asdict(recipe), backbone.checksum, asdict(backbone.preprocessing), classes, _digest(material)
    )
    _resume(run, identity, folder)
    if run.step == 0:
        _probe(run, learner, backbone, classes, material, on_best)
    last = config.steps if stop_at is None else min(config.steps, stop_at)
    while run.step < last:
        figures = step(run, learner, material)
        run.step += 1
        if run.step % config.probe_every == 0 or run.step == config.steps:
            figures.update(_probe(run, learner, backbone, classes, material, on_best))
        if report is not None:
            report(run.step, figures)
        if folder is not None and peers.first and (run.step % config.checkpoint_every == 0 or run.step == last):
            _save(run, identity, folder)
    if run.score < run.best_score - config.keep_margin:
        run.kept, run.kept_step = run.best, run.best_step
    else:
        run.kept, run.kept_step = run.average, run.step
    network.load_adapter(run.kept)
    if config.certain and run.step == config.steps and not _gains(network, backbone, classes, material, config.certain):
        run.kept, run.kept_step = untrained, 0
        network.load_adapter(untrained)
    network.eval()
    return run


def begin(
    backbone: Backbone,
    classes: Descriptions,
    recipe: Recipe,
    make: Callable[[Backbone, NetworkConfig], Network] = Network,
    loss: Objective = objective,
    peers: Peers = Peers(),  # noqa: B008 (frozen)
) -> tuple[Run, Learner]:
    """A run before its first step, and what its steps need; arguments as in `train`."""
    config = recipe.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = make(backbone, recipe.network)
    prompts = class_prompts(backbone, classes, recipe.network.context)
    even = torch.full((len(classes.names),), 1 / len(classes.names))
    run = Run(network, _optimiser(network, config), _copied(network), even)
    return run, Learner(recipe, prompts, DepthViews(size=backbone.preprocessing.size), loss, peers)


@dataclass(frozen=True)
class Learner:
    """What is the same in every step."""

    recipe: Recipe
    prompts: ClassPrompts
    views: DepthViews
    loss: Objective
    peers: Peers


def step(run: Run, learner: Learner, material: Material) -> dict[str, float]:
    """One step of the optimiser, drawn from (seed, run.step); the caller counts it. Gives its figures.

    Raises:
        FloatingPointError: something is not finite; the parameters are as they were.
    """
    recipe, config, network = learner.recipe, learner.recipe.training, run.network
    device = learner.prompts.frozen.device
    began = time.monotonic()
    network.train()
    source = source_batch(material.source, material.scans, config, run.step).to(device)
    target = None if material.target is None else target_batch(material.target, config, run.step).to(device)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, config)
    with _seeded(config.seed, run.step), _autocast(config, device):
        shown = [source] if target is None else [source, target]
        tokens, turned = zip(*(_prompts(network, b, config, b is target) for b in shown), strict=True)
        features = _encode(network, learner, shown, tokens, run.step)
        text = network.text(learner.prompts)
    _demand_finite(f"what step {run.step} sees", text, *features)
    scale = float(network.model.logit_scale.exp())
    seen = [see(f, text, scale, a) for f, a in zip(features, turned, strict=True)]
    loss, terms = learner.loss(
        seen[0], source.labels, seen[1] if target is not None else None, target, run.prior.to(device), recipe
    )
    told = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
    _demand_finite(f"the loss of step {run.step} ({told})", loss)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    trained = list(network.trained().values())
    learner.peers.average(p.grad for p in trained if p.grad is not None)
    _demand_finite(f"the gradient of step {run.step} ({told})", nn.utils.clip_grad_norm_(trained, 1.0))
    run.optimiser.step()
    _follow(run, min(config.ema, (1 + run.step) / (10 + run.step)))
    with torch.no_grad():
        right = (seen[0].pooled.argmax(1) == source.labels).float().mean()
    figures = {"loss": float(loss.detach()), **{k: float(v.detach()) for k, v in terms.items()}}
    return {**figures, "accuracy": float(right), "seconds": time.monotonic() - began}


def _demand_finite(what: str, *values: Tensor) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise FloatingPointError(f"{what} is not finite; lower training.learning_rate")


def _prompts(
    network: Network, batch: Batch, config: TrainingConfig, is_target: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Visual prompts and alignment of a batch; a target leaves the point encoder's statistics alone unless asked."""
    keep = is_target and not config.target_statistics and network.points is not None
    with kept_statistics(network.points) if keep and network.points is not None else nullcontext():
        return network.visual_prompts(batch.points)


def _encode(
    network: Network, learner: Learner, shown: list[Batch], tokens: tuple[Tensor | None, ...], step: int
) -> list[Tensor]:
    """Unit features (B, V, D) of each batch: all views of all objects in one pass, or in capped ones."""
    views = shown[0].chosen.shape[1]
    with torch.no_grad():
        images = torch.cat([learner.views(b.points, b.chosen).flatten(0, 1) for b in shown])
    extents = torch.cat([b.extents for b in shown]).repeat_interleave(views, 0)
    given = [t for t in tokens if t is not None]
    prompts = torch.cat(given).repeat_interleave(views, 0) if given else None

    patches = _patch_limit(network, len(images), learner.recipe.training, step, images.device)

    def passed(rows: Tensor, prompts: Tensor | None) -> Tensor:
        return network.views(images[rows], prompts, extents[rows], None if patches is None else patches.rows(rows))

    own = learner.peers.share(len(images))
    limit = learner.recipe.training.views_at_once or len(images)
    parts = []
    for rows in torch.arange(own.start, own.stop).split(limit):
        arguments = (rows, None if prompts is None else prompts[rows])
        capped = limit < own.stop - own.start
        parts.append(checkpoint(passed, *arguments, use_reentrant=False) if capped else passed(*arguments))
    features = learner.peers.gather(torch.cat(parts), len(images))
    return list(features.unflatten(0, (-1, views)).split([len(b.labels) for b in shown]))


def _patch_limit(
    network: Network, views: int, config: TrainingConfig, step: int, device: torch.device
) -> PatchLimit | None:
    if not config.patches:
        return None
    side = network.backbone.preprocessing.size // network.model.visual.patch_size[0]
    priority = torch.rand(views, side * side, generator=generator(config.seed, step, 2))
    return PatchLimit(priority.to(device), config.patches)


def _probe(
    run: Run,
    learner: Learner,
    backbone: Backbone,
    classes: Descriptions,
    material: Material,
    on_best: OnBest | None,
) -> dict[str, float]:
    """Score the average on the probe set, keep it where it is the best, and look anew at the target's class shares."""
    _demand_finite(f"the average after step {run.step}", *run.average.values())
    current = _copied(run.network)
    run.network.load_adapter(run.average)
    run.network.eval()
    served = run.network.merged()
    run.network.load_adapter(current)
    probe = look_over(served, backbone, classes, material.probe)
    _demand_finite(f"what is predicted after step {run.step}", probe.logits)
    if material.target is not None and learner.recipe.losses.transport:
        seen = look_over(served, backbone, classes, material.target)
        temperature = fit_temperature(probe.logits, probe.labels)  # EM wants posteriors, not mere scores
        run.prior = class_prior(seen.logits / temperature, strength=_BELIEF * len(seen.labels)).cpu().float()
    run.score = probe.score
    if probe.score > run.best_score:
        run.best_score, run.best_step = probe.score, run.step
        run.best = {name: value.clone() for name, value in run.average.items()}
        run.kept, run.kept_step = run.best, run.step
        if on_best is not None and learner.peers.first:
            on_best(run, probe)
    return {"probe": probe.macro_accuracy}


def _gains(network: Network, backbone: Backbone, classes: Descriptions, material: Material, certain: float) -> bool:
    """Whether the network is better than the frozen model on the probe set by `certain` standard errors."""
    network.eval()
    before = look_over(None, backbone, classes, material.probe)
    rise, error = gain(before, look_over(network.merged(), backbone, classes, material.probe))
    return rise > certain * error


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def _optimiser(network: Network, config: TrainingConfig) -> torch.optim.Optimizer:
    trained = list(network.trained().values())
    decay = [p for p in trained if p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


@contextmanager
def _seeded(seed: int, step: int) -> Iterator[None]:
    """Dropout's masks are those of this step, whenever it is computed; the caller's generator stays where it was."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed * 1_000_003 + step)
        yield


def _autocast(config: TrainingConfig, device: torch.device) -> Any:
    dtype = _DTYPES.get(config.precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.adapter().items()}


@torch.no_grad()
def _follow(run: Run, decay: float) -> None:
    """The average goes a little towards the parameters; statistics, which are averages already, are taken over."""
    trained = run.network.trained()
    for name, value in run.network.adapter().items():
        if name in trained:
            run.average[name].lerp_(value, 1 - decay)
        else:
            run.average[name].copy_(value)


def _resume(run: Run, identity: str, folder: Path | None) -> None:
    path = None if folder is None else folder / CHECKPOINT
    if path is None or not path.is_file():
        return
    device = next(iter(run.average.values())).device
    stored = torch.load(path, map_location=device, weights_only=True)
    if stored["fingerprint"] != identity:
        raise ValueError(
            f"{path} is of another recipe, backbone, choice of patches, class list or data; choose another output "
            "folder or remove it"
        )
    run.network.load_adapter(stored["current"])
    run.optimiser.load_state_dict(stored["optimiser"])
    run.average, run.best, run.prior = stored["average"], stored["best"], stored["prior"].cpu()
    run.best_score, run.best_step, run.step = stored["best_score"], stored["best_step"], stored["step"]
    run.score, run.kept, run.kept_step = stored["score"], run.best, run.best_step


def _save(run: Run, identity: str, folder: Path) -> None:
    _demand_finite(f"a parameter after step {run.step}", *run.network.adapter().values())
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        "fingerprint": identity,
        "current": _copied(run.network),
        "optimiser": run.optimiser.state_dict(),
        "average": run.average,
        "best": run.best,
        "prior": run.prior,
        "best_score": run.best_score,
        "best_step": run.best_step,
        "score": run.score,
        "step": run.step,
    }
    beside = folder / f"{CHECKPOINT}.part"
    torch.save(stored, beside)
    beside.replace(folder / CHECKPOINT)


def _digest(material: Material) -> str:
    """A short hash of everything in it."""
    digest = hashlib.sha256()
    for clouds in (material.source, material.scans, material.target, material.probe):
        if clouds is not None:
            for part in (clouds.points, clouds.labels, clouds.seen, clouds.elevation, clouds.distance):
                digest.update(part.numpy().tobytes())
            digest.update(str(clouds.metric).encode())
    return digest.hexdigest()[:16]
