"""From looks to the table's rows.

| key of a row | meaning |
|---|---|
| `protocol`, `start`, `method`, `views`, `seeds` | what it is; `views` is `ten` or `sensor` |
| `policy` | how it chose among them (see `looking.Looks.choose`) |
| `objects`, `scenes` | scored |
| `accuracy`, `macro_accuracy` | means over the seeds, fractions; `…_std` their population deviation, `…_by_seed` each |
| `accuracy_ci95`, `macro_ci95` | 95 % bootstrap over scenes of the mean over the seeds |
| `per_class` | {class: {n, accuracy}}, mean over the seeds |
| `gain`, `gain_ci95` | macro accuracy less that of the best source-only row of the same protocol, start and views, paired: the same scenes of each resample, the same seeds; null where there is no such row |
| `over_frozen`, `over_frozen_ci95` | likewise less the zero-shot row's |
"""  # noqa: E501  (table)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.adaptation.looking import Looks
from clipoint3d_ros.evaluation.adaptation.methods import find
from clipoint3d_ros.evaluation.adaptation.protocol import Protocol
from clipoint3d_ros.evaluation.adaptation.runs import Cell, Plan, Start

VIEWS = ("ten", "sensor")
SOURCE_ONLY = ("linear probe", "prompts only", "LoRA only")
FROZEN = "zero-shot"
RESAMPLES = 2000


@dataclass(frozen=True)
class Counts:
    """What was right, by seed, scene and class. right: (S, G, C). total: (G, C)."""

    right: np.ndarray
    total: np.ndarray

    def accuracy(self) -> np.ndarray:
        """(S,) of all objects."""
        return self.right.sum((1, 2)) / self.total.sum()

    def by_class(self) -> np.ndarray:
        """(S, C); NaN for a class without objects."""
        total = self.total.sum(0).astype(float)
        return self.right.sum(1) / np.where(total > 0, total, np.nan)

    def macro(self) -> np.ndarray:
        """(S,) mean over the classes that occur."""
        return np.nanmean(self.by_class(), axis=1)

    def resampled(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(R,) accuracy and macro accuracy of R resamples (R, G) of the scenes, mean over the seeds."""
        right = np.einsum("rg,sgc->rsc", draws, self.right)
        total = draws @ self.total
        with np.errstate(invalid="ignore"):
            each = right / np.where(total > 0, total, np.nan)[:, None]
        return right.sum(2).mean(1) / total.sum(1), np.nanmean(each, axis=2).mean(1)


def count(predictions: Sequence[np.ndarray], scored: Objects) -> Counts:
    """Counts of one (M,) array of class numbers a seed."""
    scenes, place = np.unique(scored.scenes, return_inverse=True)
    shape = (len(scenes), len(scored.classes))
    total, right = np.zeros(shape), np.zeros((len(predictions), *shape))
    np.add.at(total, (place, scored.labels), 1)
    for seed, predicted in enumerate(predictions):
        np.add.at(right[seed], (place, scored.labels), predicted == scored.labels)
    return Counts(right, total)


def rows(plan: Plan, protocols: Sequence[Protocol], looks: Mapping[Cell, Looks]) -> list[dict[str, Any]]:
    """The table's rows, in the plan's order (the module's table says what each key means)."""
    found = []
    for number, protocol in enumerate(protocols):
        for start in plan.starts:
            for views in VIEWS if protocol.scored.viewpoints is not None else VIEWS[:1]:
                found += _block(plan, number, protocol, start, views, looks)
    return found


def by_views(
    plan: Plan, protocols: Sequence[Protocol], looks: Mapping[Cell, Looks], method: str, policies: Sequence[str]
) -> list[dict[str, Any]]:
    """One method's accuracies under several choices of views; those facing the sensor only where one stood."""
    found = []
    for number, protocol in enumerate(protocols):
        for start in plan.starts:
            seen = [looks[Cell(number, start, method, seed)] for seed in plan.seeds]
            for policy in policies:
                if policy == "sensor" and protocol.scored.viewpoints is None:
                    continue
                counts = count([each.choose(policy).argmax(1).numpy() for each in seen], protocol.scored)
                found.append(
                    {
                        "protocol": protocol.name,
                        "start": start.title,
                        "method": method,
                        "views": "ten",
                        "policy": policy,
                        "seeds": list(plan.seeds),
                        "objects": len(protocol.scored),
                        "scenes": len(counts.total),
                        **figures(counts, _draws(counts), protocol.scored.classes),
                    }
                )
    return found


def _draws(counts: Counts) -> np.ndarray:
    """(R, G) how often each scene is drawn in each resample; the same for all rows of a protocol."""
    scenes = len(counts.total)
    return np.random.default_rng(0).multinomial(scenes, np.full(scenes, 1 / scenes), RESAMPLES)


def _block(
    plan: Plan, number: int, protocol: Protocol, start: Start, views: str, looks: Mapping[Cell, Looks]
) -> list[dict[str, Any]]:
    """The rows that are compared with each other."""
    methods = find(",".join(plan.methods))
    by_method: dict[str, Counts] = {}
    policies = {m.name: m.ten_views if views == "ten" else "sensor" for m in methods}
    for method in methods:
        seeds = plan.seeds if method.seeded else plan.seeds[:1]
        seen = [looks[Cell(number, start, method.name, seed).of(method, plan)] for seed in seeds]
        predictions = [each.choose(policies[method.name]).argmax(1).numpy() for each in seen]
        by_method[method.name] = count(predictions, protocol.scored)
    base = max((n for n in SOURCE_ONLY if n in by_method), key=lambda n: by_method[n].macro().mean(), default=None)
    draws = _draws(next(iter(by_method.values())))
    return [
        {
            "protocol": protocol.name,
            "start": start.title,
            "method": method.name,
            "views": views,
            "policy": policies[method.name],
            "seeds": list(plan.seeds if method.seeded else plan.seeds[:1]),
            "objects": len(protocol.scored),
            "scenes": draws.shape[1],
            **figures(by_method[method.name], draws, protocol.scored.classes),
            **_difference("gain", by_method, method.name, base, draws),
            **_difference("over_frozen", by_method, method.name, FROZEN if FROZEN in by_method else None, draws),
        }
        for method in methods
    ]


def figures(counts: Counts, draws: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracies of one row with spread and intervals."""
    accuracy, macro = counts.accuracy(), counts.macro()
    by_chance = counts.resampled(draws)
    each = counts.by_class().mean(0)
    return {
        "accuracy": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std()),
        "accuracy_by_seed": accuracy.tolist(),
        "accuracy_ci95": _interval(by_chance[0]),
        "macro_accuracy": float(macro.mean()),
        "macro_std": float(macro.std()),
        "macro_by_seed": macro.tolist(),
        "macro_ci95": _interval(by_chance[1]),
        "per_class": {
            name: {"n": int(n), "accuracy": float(a) if n else None}
            for name, n, a in zip(classes, counts.total.sum(0), each, strict=True)
        },
    }


def _difference(
    key: str, by_method: Mapping[str, Counts], name: str, base: str | None, draws: np.ndarray
) -> dict[str, Any]:
    if base is None:
        return {key: None, f"{key}_ci95": None, f"{key}_base": None}
    own, other = by_method[name], by_method[base]
    mean = float(own.macro().mean() - other.macro().mean())
    spread = own.resampled(draws)[1] - other.resampled(draws)[1]
    return {key: mean, f"{key}_ci95": _interval(spread), f"{key}_base": base}


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]
