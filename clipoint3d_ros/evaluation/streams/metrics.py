"""What a stream says of a method beside the frozen model. Arrays in, numbers out.

Throughout, n scored objects in the order of the stream; `right` (n,) bool of the method and `base` (n,) bool of the
frozen model, on the same objects; `truth` (n,) class numbers. Differences are fractions, above 0 where the method is
better; only regret is in points and above 0 where it is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

WINDOW = 500  # objects
BLOCK = 50  # objects in a row that a resample draws together, at most
RESAMPLES = 2000


class Gains(NamedTuple):
    """Accuracy less the frozen model's: (low, high) are 95 % intervals."""

    macro: float
    macro_ci95: tuple[float, float]
    micro: float
    micro_ci95: tuple[float, float]


def gains(
    truths: Sequence[np.ndarray],
    rights: Sequence[np.ndarray],
    bases: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
    resamples: int = RESAMPLES,
) -> Gains:
    """Gain over frozen, mean over seeds, with a paired bootstrap over groups of objects.

    The method's and the frozen model's objects are drawn together, so that what both find hard cancels out. A group
    that occurs in several seeds (a scene) is drawn in all of them together.

    Args:
        truths, rights, bases: of each seed, (n,).
        groups: of each seed, (n,) integers: objects that are not independent of each other.
        resamples: of the bootstrap, which draws from a fixed seed.

    Returns:
        NaN without objects.
    """
    if not sum(map(len, truths)):
        return Gains(np.nan, (np.nan,) * 2, np.nan, (np.nan,) * 2)
    names = np.unique(np.concatenate(groups))
    classes = int(max(t.max(initial=0) for t in truths)) + 1
    counts = np.zeros((3, len(names), len(truths), classes))  # objects, right, base
    for seed, (truth, right, base, group) in enumerate(zip(truths, rights, bases, groups, strict=True)):
        place = np.searchsorted(names, group)
        for table, weight in zip(counts, (np.ones(len(truth)), right, base), strict=True):
            np.add.at(table[:, seed], (place, truth), weight)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    macro, micro = _both(np.ones((1, len(names))), counts)
    macros, micros = _both(draws, counts)
    return Gains(float(macro[0]), _interval(macros), float(micro[0]), _interval(micros))


def _both(draws: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) macro and micro gains of R resamples (R, G), mean over seeds."""
    total, right, base = (np.tensordot(draws, table, axes=1) for table in counts)  # (R, S, C)
    won = right - base
    with np.errstate(invalid="ignore", divide="ignore"):
        each = won / np.where(total > 0, total, np.nan)
        seen = ~np.isnan(each)
        macro = np.where(seen, each, 0).sum(2) / np.maximum(seen.sum(2), 1)
        micro = won.sum(2) / np.maximum(total.sum(2), 1)
    return macro.mean(1), micro.mean(1)


def blocks(count: int, seed: int, size: int | None = None) -> np.ndarray:
    """(count,) numbers of consecutive blocks of a stream, no number shared with another seed's.

    Args:
        size: objects of a block; None gives `BLOCK`, or fewer where the stream would have less than thirty of these.
            The last block may be half as long again rather than shorter than half.
    """
    size = size or min(BLOCK, max(count // 30, 1))
    number = max(round(count / size), 1)
    return np.minimum(np.arange(count) // size, number - 1) + seed * (1 << 32)


def wider(first: Gains, second: Gains) -> Gains:
    """The gains with the union of both intervals."""
    macro = _union(first.macro_ci95, second.macro_ci95)
    return Gains(first.macro, macro, first.micro, _union(first.micro_ci95, second.micro_ci95))


def fitting(count: int, window: int = WINDOW) -> int:
    """Objects of a window of a stream of `count`: `window`, or a third of a stream that does not hold two of these."""
    return window if count >= 2 * window else max(count // 3, 1)


def regret(right: np.ndarray, base: np.ndarray, window: int = WINDOW) -> float:
    """Worst-window regret: the most by which the frozen model is better over any `window` objects in a row, in points.

    A shorter stream is one window. Below 0 where the method is better in every window; NaN without objects.
    """
    if not len(right):
        return float("nan")
    lost = np.concatenate([[0], np.cumsum(base.astype(int) - right.astype(int))])
    size = min(window, len(right))
    return float(100 * (lost[size:] - lost[:-size]).max() / size)


def macro_regret(truth: np.ndarray, right: np.ndarray, base: np.ndarray, window: int = WINDOW) -> float:
    """The same of macro accuracy over the classes that occur in each window."""
    if not len(right):
        return float("nan")
    size = min(window, len(right))
    lost = base.astype(float) - right.astype(float)
    summed, occurring = np.zeros(len(right) - size + 1), np.zeros(len(right) - size + 1)
    for label in np.unique(truth):
        own = truth == label
        count = _rolling(own.astype(float), size)
        summed += np.where(count > 0, _rolling(np.where(own, lost, 0), size) / np.maximum(count, 1), 0)
        occurring += count > 0
    return float(100 * (summed / occurring).max())


def worse_windows(right: np.ndarray, base: np.ndarray, window: int = WINDOW, level: float = 0.05) -> int:
    """How many windows are significantly worse than the frozen model: windows that follow each other, McNemar's exact
    test on each (McNemar, Psychometrika 12, 1947), Holm's correction over them (Holm, Scandinavian Journal of
    Statistics 6, 1979).

    A last window shorter than half is one with that before it.
    """
    if not len(right):
        return 0
    number = max(round(len(right) / window), 1)
    edges = [i * window for i in range(number)] + [len(right)]
    found = [_mcnemar(right[a:b], base[a:b]) for a, b in pairwise(edges)]
    corrected = holm([p for p, _ in found])
    return sum(p < level and worse for p, (_, worse) in zip(corrected, found, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected, highest = np.zeros(len(order)), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected.tolist()


def half_gain(right: np.ndarray, base: np.ndarray, window: int = WINDOW) -> int | None:
    """Objects until the gain over the last objects first reaches half of what it is at the stream's end.

    Gains are of micro accuracy over trailing windows of a quarter of the stream, at most `window`; while fewer objects
    than that have passed, over those, from half a window on.

    Returns:
        None where the final gain is not above 0.
    """
    size = min(window, max(len(right) // 4, 1))
    if len(right) < 2:
        return None
    won = np.concatenate([[0], np.cumsum(right.astype(int) - base.astype(int))])
    final = (won[-1] - won[-1 - size]) / size
    if final <= 0:
        return None
    passed = np.arange(max(size // 2, 1), len(right) + 1)
    gain = (won[passed] - won[np.maximum(passed - size, 0)]) / np.minimum(passed, size)
    return int(passed[np.argmax(gain >= final / 2)])


def false_accepts(known: np.ndarray, unknown: np.ndarray, kept: float = 0.95) -> float | None:
    """Share of unknown objects accepted as some class by the threshold that accepts `kept` of the known ones.

    Args:
        known, unknown: scores, higher for objects that are of a class.

    Returns:
        None without either.
    """
    if not len(known) or not len(unknown):
        return None
    return float((unknown >= np.quantile(known, 1 - kept)).mean())


def running_accuracy(right: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """(n,) accuracy over the trailing `window` objects, or all so far."""
    summed = np.concatenate([[0], np.cumsum(right.astype(float))])
    passed = np.arange(1, len(right) + 1)
    return (summed[passed] - summed[np.maximum(passed - window, 0)]) / np.minimum(passed, window)


def _mcnemar(right: np.ndarray, base: np.ndarray) -> tuple[float, bool]:
    """Two-sided p, and whether the method lost more than it won."""
    won, lost = int((right & ~base).sum()), int((base & ~right).sum())
    if won + lost == 0:
        return 1.0, False
    return float(binomtest(lost, won + lost).pvalue), lost > won


def _rolling(values: np.ndarray, size: int) -> np.ndarray:
    """(n − size + 1,) sums."""
    summed = np.concatenate([[0], np.cumsum(values)])
    return summed[size:] - summed[:-size]


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _union(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return min(first[0], second[0]), max(first[1], second[1])
