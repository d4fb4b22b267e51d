"""From runs to the table's rows.

| key of a row | meaning |
|---|---|
| `stream`, `start`, `method`, `views`, `seeds` | what it is |
| `objects`, `known` | of one stream: all, and those of the classes, which alone are scored |
| `accuracy`, `macro_accuracy` | mean over the seeds, fractions |
| `gain`, `gain_ci95` | macro accuracy less the frozen model's, paired; the interval is the wider of two bootstraps, over blocks of the stream and over scenes; `gain_by_seed` each |
| `micro_gain`, `micro_gain_ci95` | likewise of accuracy |
| `regret` | worst-window regret in points, the worst of the seeds; `regret_by_seed` each, `macro_regret` of macro accuracy |
| `worse_windows`, `windows` | windows significantly worse than frozen, and all windows, of all seeds |
| `forgetting` | accuracy on the source's objects after the stream less before, mean over the seeds: below 0 is forgotten |
| `ece`, `ece_frozen` | expected calibration error of the stream's answers, and of the frozen model's |
| `score_ece`, `score_ece_frozen` | of the score that perception would publish (probability times that of being of any class), over all objects, strange ones too |
| `half_gain_objects` | objects until half the final gain, mean over the seeds that gain; null where none does |
| `ms`, `ms_ratio` | the method's own step on one object in milliseconds, mean; and as a share of encoding it |
| `update_ms`, `update_ratio` | the part of it that is learning, which perception never waits for; null where not told apart |
| `false_accept`, `false_accept_frozen` | share of unknown objects accepted where 95 % of the known ones are; null without unknown ones |
| `auroc_unknown`, `auroc_unknown_frozen` | area under the ROC curve of telling them apart |
| `not_finite` | answers that were no probabilities, counted as wrong |
"""  # noqa: E501  (table)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipoint3d_ros.datasets.objects import NO_LABEL
from clipoint3d_ros.evaluation import metrics as accuracies
from clipoint3d_ros.evaluation.streams import metrics
from clipoint3d_ros.evaluation.streams.harness import Cell, Plan, Run
from clipoint3d_ros.evaluation.streams.methods import FROZEN

POINTS = 200  # of a curve over time


@dataclass(frozen=True, eq=False)
class Scored:
    """One run, taken apart.

    truth, predicted, scenes: (n,) int64 of the known objects, in order. score: (n,) of these in [0, 1], the best
        probability.
    familiar, strange: of known and of unknown objects, how much they seem of a class: best probability times
        familiarity. not_finite: answers that were no probabilities.
    """

    truth: np.ndarray
    predicted: np.ndarray
    score: np.ndarray
    scenes: np.ndarray
    familiar: np.ndarray
    strange: np.ndarray
    not_finite: int

    @property
    def right(self) -> np.ndarray:
        return self.truth == self.predicted


def scored(run: Run) -> Scored:
    """What of a run is scored."""
    finite = np.isfinite(run.probabilities).all(1)
    best = np.where(finite, np.nan_to_num(run.probabilities).max(1), 0.0).clip(0, 1)
    predicted = np.where(finite, np.nan_to_num(run.probabilities).argmax(1), accuracies.NONE)
    known, accepted = run.truth != NO_LABEL, best * run.familiarity
    return Scored(
        run.truth[known],
        predicted[known],
        best[known],
        run.scenes[known],
        accepted[known],
        accepted[~known],
        int((~finite).sum()),
    )


def rows(plan: Plan, runs: Mapping[Cell, Run]) -> list[dict[str, Any]]:
    """The table's rows, stream by stream and start by start (the module's table says what each key means)."""
    return [
        _row(plan, cells, [runs[cell] for cell in cells], [runs[_base(cell)] for cell in cells])
        for cells in _groups(runs)
    ]


def curves(runs: Mapping[Cell, Run]) -> list[dict[str, Any]]:
    """Accuracy over the trailing window, mean over the seeds, of every row: `objects` passed and `accuracy` there."""
    found = []
    for cells in _groups(runs):
        each = [scored(runs[cell]).right for cell in cells]
        length = min(map(len, each))
        at = np.unique(np.linspace(1, length, min(POINTS, length)).round().astype(int)) if length else np.zeros(0, int)
        window = min(metrics.WINDOW, max(length // 4, 1))
        lines = [metrics.running_accuracy(right, window)[at - 1] for right in each]
        found.append(
            {
                "stream": cells[0].stream,
                "start": cells[0].start.title,
                "method": cells[0].method,
                "window": window,
                "objects": at.tolist(),
                "accuracy": np.mean(lines, axis=0).tolist(),
            }
        )
    return found


def _groups(runs: Mapping[Cell, Run]) -> list[list[Cell]]:
    """Cells that differ in their seed only, in the table's order: by stream, start, method."""
    streams = list(dict.fromkeys(cell.stream for cell in runs))
    starts = list(dict.fromkeys(cell.start for cell in runs))
    methods = list(dict.fromkeys(cell.method for cell in runs))
    found = [
        [cell for cell in runs if (cell.stream, cell.start, cell.method) == (stream, start, method)]
        for stream in streams
        for start in starts
        for method in methods
    ]
    return [cells for cells in found if cells]


def _base(cell: Cell) -> Cell:
    return Cell(cell.stream, cell.start, FROZEN, cell.seed)


def _row(plan: Plan, cells: Sequence[Cell], runs: Sequence[Run], frozen: Sequence[Run]) -> dict[str, Any]:
    own, base = [scored(run) for run in runs], [scored(run) for run in frozen]
    classes = runs[0].probabilities.shape[1]
    window = min(metrics.fitting(len(s.truth)) for s in own)
    regrets = [metrics.regret(a.right, b.right, window) for a, b in zip(own, base, strict=True)]
    macro_regrets = [metrics.macro_regret(a.truth, a.right, b.right, window) for a, b in zip(own, base, strict=True)]
    halves = [metrics.half_gain(a.right, b.right) for a, b in zip(own, base, strict=True)]
    reached = [half for half in halves if half is not None]
    step = float(np.mean([run.step_ms.mean() for run in runs]))
    update, encoding = (float(np.mean([getattr(run, name) for run in runs])) for name in ("update_ms", "encode_ms"))
    return {
        "stream": cells[0].stream,
        "start": cells[0].start.title,
        "method": cells[0].method,
        "views": plan.views,
        "seeds": [cell.seed for cell in cells],
        "objects": len(runs[0].truth),
        "known": len(own[0].truth),
        "accuracy": _mean(accuracies.accuracy(s.truth, s.predicted) for s in own),
        "macro_accuracy": _mean(accuracies.macro_accuracy(s.truth, s.predicted, classes) for s in own),
        **_gains(own, base, classes),
        "window": window,
        "regret": max(regrets),
        "regret_by_seed": regrets,
        "macro_regret": max(macro_regrets),
        "worse_windows": sum(metrics.worse_windows(a.right, b.right, window) for a, b in zip(own, base, strict=True)),
        "windows": sum(max(round(len(s.truth) / window), 1) for s in own),
        "forgetting": _mean(run.probe[1] - base.probe[0] for run, base in zip(runs, frozen, strict=True)),
        "ece": _ece(own),
        "ece_frozen": _ece(base),
        "score_ece": _score_ece(own),
        "score_ece_frozen": _score_ece(base),
        "half_gain_objects": float(np.mean(reached)) if reached else None,
        "ms": step,
        "ms_ratio": step / max(encoding, 1e-9),
        "update_ms": update if np.isfinite(update) else None,
        "update_ratio": update / max(encoding, 1e-9) if np.isfinite(update) else None,
        "false_accept": _mean_or_none(metrics.false_accepts(s.familiar, s.strange) for s in own),
        "false_accept_frozen": _mean_or_none(metrics.false_accepts(s.familiar, s.strange) for s in base),
        "auroc_unknown": _mean_or_none(_auroc(s) for s in own),
        "auroc_unknown_frozen": _mean_or_none(_auroc(s) for s in base),
        "not_finite": sum(s.not_finite for s in own),
    }


def _gains(own: Sequence[Scored], base: Sequence[Scored], classes: int) -> dict[str, Any]:
    truths, rights, bases = [s.truth for s in own], [s.right for s in own], [s.right for s in base]
    by_block = [metrics.blocks(len(truth), seed) for seed, truth in enumerate(truths)]
    over_blocks = metrics.gains(truths, rights, bases, by_block)
    found = metrics.wider(over_blocks, metrics.gains(truths, rights, bases, [s.scenes for s in own]))
    each = [
        accuracies.macro_accuracy(a.truth, a.predicted, classes)
        - accuracies.macro_accuracy(b.truth, b.predicted, classes)
        for a, b in zip(own, base, strict=True)
    ]
    return {
        "gain": found.macro,
        "gain_ci95": list(found.macro_ci95),
        "gain_by_seed": each,
        "micro_gain": found.micro,
        "micro_gain_ci95": list(found.micro_ci95),
    }


def _ece(each: Sequence[Scored]) -> float:
    return _mean(accuracies.expected_calibration_error(s.right, s.score) for s in each)


def _score_ece(each: Sequence[Scored]) -> float:
    """Of the score that perception would publish, over all objects: a strange one is never right."""
    return _mean(
        accuracies.expected_calibration_error(
            np.concatenate([s.right, np.zeros(len(s.strange), bool)]), np.concatenate([s.familiar, s.strange])
        )
        for s in each
    )


def _auroc(seen: Scored) -> float | None:
    if not len(seen.strange) or not len(seen.familiar):
        return None
    return accuracies.auroc(seen.familiar, seen.strange)


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _mean_or_none(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
