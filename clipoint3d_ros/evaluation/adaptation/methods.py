"""The rows of the table: each method takes the same task and gives its looks at the scored objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from clipoint3d_ros.adaptation.config import LossConfig, Recipe, TrainingConfig
from clipoint3d_ros.adaptation.outcome import adapter_of, helpful, source_statistics
from clipoint3d_ros.adaptation.probing import look_over
from clipoint3d_ros.adaptation.trainer import Material, prepare, train
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.bundle import FROZEN_NETWORK, Adapter
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.adaptation import baselines
from clipoint3d_ros.evaluation.adaptation.looking import Looks, look
from clipoint3d_ros.evaluation.adaptation.official import OfficialNetwork, official_objective, official_recipe
from clipoint3d_ros.evaluation.adaptation.protocol import Protocol
from clipoint3d_ros.recognition.classifier import Classifier

PLAIN = "entropy"  # the ten-view policy of a method that has no other of its own
# Passes over its shots of a 3D encoder, which has no CLIP to start from. By the source's own probe set: after 12 passes
# PointNet names 85 % of it, and its loss there still falls.
ENCODER_EPOCHS = 60


@dataclass(frozen=True)
class Task:
    """One cell of the table: a protocol, a starting point, a recipe with its seed."""

    protocol: Protocol
    backbone: Backbone
    recipe: Recipe


@dataclass(frozen=True)
class Method:
    """One row.

    name: in the table. told: what it is. run: its looks at the scored objects. seeded: whether seeds make it differ.
    clip: whether it starts from the backbone; one that does not is computed once for all starts.
    ten_views: how it chooses among all ten views.
    """

    name: str
    told: str
    run: Callable[[Task], Looks]
    seeded: bool = True
    clip: bool = True
    ten_views: str = PLAIN


def adapted(change: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> Callable[[Task], Looks]:
    """A method that trains this package's network by a changed recipe."""

    def run(task: Task) -> Looks:
        recipe = change(task.recipe)
        classes, material = task.protocol.classes, _material(task, recipe)
        finished = train(task.backbone, classes, material, recipe)
        _, adapter = adapter_of(finished, task.backbone, classes, material, recipe, {})
        return look(Classifier(task.backbone, classes, adapter=adapter), task.protocol.scored)

    return run


def source_only(cut_share: float = 0.0, **network: object) -> Callable[[Recipe], Recipe]:
    """The recipe on the complete few-shot source alone: no target, no scans, and clouds that are whole and clean, for
    what a sensor and a segmenter do to them is knowledge of the target."""

    def change(recipe: Recipe) -> Recipe:
        return Recipe(
            replace(recipe.network, **network),  # type: ignore[arg-type]
            recipe.losses.blind(),
            recipe.transport,
            replace(recipe.training, scans=0, cut_share=cut_share, certain=0.0, statistics=0),
        )

    return change


def varied(section: str, **values: object) -> Callable[[Recipe], Recipe]:
    """The recipe with some values of one section changed."""
    return lambda recipe: replace(recipe, **{section: replace(getattr(recipe, section), **values)})


def _zero_shot(task: Task) -> Looks:
    return baselines.zero_shot(task.backbone, task.protocol.classes, task.protocol.scored)


def _pointclip(task: Task) -> Looks:
    return baselines.pointclip(task.backbone, task.protocol.classes, task.protocol.scored)


def _linear_probe(task: Task) -> Looks:
    material = _material(task, source_only()(task.recipe))
    return baselines.linear_probe(task.backbone, task.protocol.classes, material, task.protocol.scored)


def _point_encoder(adversarial: bool) -> Callable[[Task], Looks]:
    def run(task: Task) -> Looks:
        recipe = source_only()(task.recipe)
        if adversarial:  # its own loss looks at the target, whatever the recipe's do
            recipe = replace(recipe, losses=LossConfig())
        material = _material(task, recipe)
        steps = math.ceil(ENCODER_EPOCHS * len(material.source) / recipe.training.objects)
        config = replace(recipe.training, steps=steps)
        device = task.backbone.device
        return baselines.point_encoder(
            task.protocol.classes, material, config, task.protocol.scored, device, adversarial
        )

    return run


def _statistics_only(task: Task) -> Looks:
    """The frozen network with the class statistics of the source's scans, and no training."""
    classes, material, config = task.protocol.classes, _material(task, task.recipe), task.recipe.training
    if not config.statistics:
        raise ValueError("the row 'statistics only' needs training.statistics of at least 1")
    network = Network(task.backbone, FROZEN_NETWORK).eval()
    statistics = source_statistics(network, task.backbone, classes, material, config, config.statistics)
    probe = look_over(network, task.backbone, classes, material.probe)
    adapter = Adapter(network, classes, 1.0, version=1, statistics=helpful(statistics, probe, config.certain))
    if adapter.statistics is None:
        return _zero_shot(task)
    return look(Classifier(task.backbone, classes, adapter=adapter), task.protocol.scored)


def _lora_with_faults(task: Task) -> Looks:
    return adapted(source_only(cut_share=task.recipe.training.cut_share, context=0, variant="B"))(task)


def _official(task: Task) -> Looks:
    recipe = official_recipe(task.recipe)
    material = _material(task, recipe)
    finished = train(
        task.backbone, task.protocol.classes, material, recipe, make=OfficialNetwork, loss=official_objective
    )
    return _served(task, finished.network, np.random.default_rng(recipe.training.seed))


METHODS: tuple[Method, ...] = (
    Method("zero-shot", "the frozen model", _zero_shot, seeded=False),
    Method("PointCLIP", "zero-shot, one sentence a class, all views even", _pointclip, seeded=False, ten_views="all"),
    Method("linear probe", "source only: logistic regression on frozen features", _linear_probe),
    Method("prompts only", "source only: prompts and point encoder", adapted(source_only(tuning="none"))),
    Method("LoRA only", "source only: LoRA in both towers", adapted(source_only(context=0, variant="B"))),
    Method("PointNet", "a 3D encoder from scratch, source only", _point_encoder(adversarial=False), clip=False),
    Method("DANN", "a 3D encoder from scratch, adversarial alignment", _point_encoder(adversarial=True), clip=False),
    Method("official", "the released recipe, mended until it runs", _official),
    Method("statistics only", "ours without training: the frozen model and class statistics", _statistics_only),
    Method("CLIPoint3D-T", "ours, text tower", adapted(varied("network", variant="T"))),
    Method("CLIPoint3D-V", "ours, vision tower", adapted(varied("network", variant="V"))),
    Method("CLIPoint3D-B", "ours, both towers", adapted(varied("network", variant="B"))),
)

ABLATIONS: tuple[Method, ...] = (
    *(
        Method(f"− {name}", f"ours without L_{name}", adapted(varied("losses", **{name: 0.0})))
        for name in ("ortho", "conf", "transport", "proto", "agree")
    ),
    Method("− prompts", "ours without prompts", adapted(varied("network", context=0))),
    Method("− statistics", "ours without class statistics", adapted(varied("training", statistics=0))),
    Method("− scans", "ours with a complete source only", adapted(varied("training", scans=0))),
    Method("LoRA with faults", "LoRA only, with a sensor's and a segmenter's faults", _lora_with_faults),
    Method(
        "scans only",
        "source only, seen as the target's sensor would",
        adapted(lambda recipe: replace(recipe, losses=recipe.losses.blind())),
    ),
    *(
        Method(f"{shots} shots", f"ours with {shots} source objects a class", adapted(varied("training", shots=shots)))
        for shots in (1, 4, 16)
    ),
    *(
        Method(f"tuning {name}", f"ours by {name} instead of LoRA", adapted(varied("network", tuning=name)))
        for name in ("bitfit", "layernorm")
    ),
)


def find(names: str | None) -> tuple[Method, ...]:
    """Methods by name, separated by commas; None gives the table's own, "ablations" these.

    Raises:
        ValueError: a name that no method has.
    """
    if names is None:
        return METHODS
    known = {m.name: m for m in (*METHODS, *ABLATIONS)}
    found: list[Method] = []
    for name in (word.strip() for word in names.split(",")):
        if name == "ablations":
            found += ABLATIONS
        elif name == "all":
            found += [*METHODS, *ABLATIONS]
        elif name in known:
            found.append(known[name])
        else:
            raise ValueError(f"no method '{name}'; there are {', '.join(known)}, ablations and all")
    return tuple(dict.fromkeys(found))


def _material(task: Task, recipe: Recipe) -> Material:
    return _prepared(task.protocol, recipe.training, recipe.losses.sees_target)


@lru_cache(maxsize=4)
def _prepared(protocol: Protocol, training: TrainingConfig, sees_target: bool) -> Material:
    losses = LossConfig() if sees_target else LossConfig().blind()
    return prepare(protocol.source(training.seed), protocol.target, Recipe(losses=losses, training=training))


def _served(task: Task, network: object, spoil: np.random.Generator | None = None) -> Looks:
    classes, temperature = task.protocol.classes, task.backbone.temperature  # the frozen model's: entropies compare
    adapter = Adapter(network.merged(), classes, temperature, version=1)  # type: ignore[attr-defined]
    scored: Objects = task.protocol.scored
    return look(Classifier(task.backbone, classes, adapter=adapter), scored, spoil)
