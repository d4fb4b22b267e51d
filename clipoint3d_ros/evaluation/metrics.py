"""How good a set of answers is: accuracies, calibration, confusion and their uncertainty. Arrays in, numbers out.

Throughout, M objects of C classes: `truth` (M,) holds class indices in [0, C), `predicted` (M,) the index named
for each object or NONE where no class was named (nothing was answered, or "unknown"). A figure over no object at
all is NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

NONE = -1  # predicted: no class was named


class Intervals(NamedTuple):
    """(low, high) of each figure."""

    accuracy: tuple[float, float]
    macro_accuracy: tuple[float, float]


class Reliability(NamedTuple):
    """Of each bin of scores, (bins,): how many objects, their mean score, the share named rightly (NaN: no object)."""

    objects: np.ndarray
    score: np.ndarray
    accuracy: np.ndarray


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of all M objects named rightly; an object without an answer is a wrong one."""
    return _mean(truth == predicted)


def answered_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share named rightly among the objects for which some class was named."""
    return _mean((truth == predicted)[predicted != NONE])


def class_counts(truth: np.ndarray, classes: int) -> np.ndarray:
    """(C,) objects of each class."""
    return np.bincount(truth, minlength=classes)


def class_accuracies(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(C,) share of each class's objects named rightly, NaN for a class without objects."""
    counts = class_counts(truth, classes)
    right = np.bincount(truth[truth == predicted], minlength=classes)
    return np.divide(right, counts, out=np.full(classes, np.nan), where=counts > 0)


def macro_accuracy(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean of the class accuracies over the classes that have objects: every class weighs the same."""
    per_class = class_accuracies(truth, predicted, classes)
    return _mean(per_class[~np.isnan(per_class)])


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts: row the truth, column what was named. Objects for which nothing was named are in no column."""
    named = predicted != NONE
    return np.bincount(truth[named] * classes + predicted[named], minlength=classes**2).reshape(classes, classes)


def expected_calibration_error(right: np.ndarray, score: np.ndarray, bins: int = 15) -> float:
    """Mean gap between score and accuracy: sum_b n_b / M · |accuracy_b - mean score_b|.

    The bins are of equal width over [0, 1]: (0, 1/bins], (1/bins, 2/bins], …; a score of 0 belongs to the first.
    Empty bins weigh nothing.

    Args:
        right: (M,) bool, whether the answer was right.
        score: (M,) its score in [0, 1].

    Returns:
        The error in [0, 1].

    Raises:
        ValueError: a score outside [0, 1].
    """
    if len(score) == 0:
        return float("nan")
    gap = np.bincount(_bin(score, bins), right.astype(float) - score, minlength=bins)  # n_b (accuracy_b - mean score_b)
    return float(np.abs(gap).sum() / len(score))


def reliability(right: np.ndarray, score: np.ndarray, bins: int = 15) -> Reliability:
    """Score against accuracy, in the bins of `expected_calibration_error`; arguments and errors as there."""
    which = _bin(score, bins)
    objects = np.bincount(which, minlength=bins)
    sums = (np.bincount(which, values, minlength=bins) for values in (score, right.astype(float)))
    return Reliability(objects, *(np.divide(s, objects, out=np.full(bins, np.nan), where=objects > 0) for s in sums))


class Calibration(NamedTuple):
    """A model's named objects: whether each was right, its score and its scene, as in `calibration_interval`."""

    right: np.ndarray
    score: np.ndarray
    scene: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return expected_calibration_error(self.right, self.score)


def calibration_interval(
    of: Calibration, less: Calibration | None = None, share: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Basic bootstrap interval over scenes of the calibration error, or of its difference from another model's.

    A resample's gaps are those of the sample and noise besides, so the resamples' errors lie too high; the basic
    interval (2 e - q_high, 2 e - q_low) takes that off again (Davison and Hinkley, "Bootstrap Methods and their
    Application", 1997, section 5.2). Scenes for the reason given in `bootstrap_intervals`.

    Args:
        of: right (M,) bool, score (M,) in [0, 1], scene (M,) any integers, equal for the objects of one scene.
        less: the other model on the same scenes, which are drawn for both together.
        share: of the interval.

    Returns:
        (low, high), of an error within [0, 1]; NaN where a model named no object.
    """
    models = [of] if less is None else [of, less]
    if not all(len(model.score) for model in models):
        return (float("nan"),) * 2
    names = np.unique(np.concatenate([model.scene for model in models]))
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    errors, drawn = zip(*((model.error, _drawn_errors(model, names, draws)) for model in models), strict=True)
    error, resampled = (values[0] - (values[1] if less is not None else 0) for values in (errors, drawn))
    high, low = np.nanpercentile(resampled, [50 * (1 + share), 50 * (1 - share)])
    return _pair(np.clip([2 * error - high, 2 * error - low], 0 if less is None else -1, 1))


def bootstrap_intervals(
    truth: np.ndarray,
    predicted: np.ndarray,
    scene: np.ndarray,
    classes: int,
    share: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """Percentile bootstrap over scenes.

    Objects of one scene share light, clutter and often the object itself, so scenes are drawn with replacement,
    not objects; intervals over objects would be too narrow.

    Args:
        scene: (M,) any integers, equal for the objects of one scene.
        share: of the resamples that lie within the interval.

    Returns:
        The intervals of accuracy and macro accuracy, NaN without objects.
    """
    if len(truth) == 0:
        return Intervals((float("nan"),) * 2, (float("nan"),) * 2)
    names, which = np.unique(scene, return_inverse=True)
    counts, right = np.zeros((2, len(names), classes))
    np.add.at(counts, (which, truth), 1)
    np.add.at(right, (which, truth), truth == predicted)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    drawn, correct = draws @ counts, draws @ right  # (resamples, C)
    per_class = np.divide(correct, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
    tails = 100 * np.array([(1 - share) / 2, (1 + share) / 2])
    return Intervals(
        _pair(np.percentile(correct.sum(1) / drawn.sum(1), tails)),
        _pair(np.percentile(np.nanmean(per_class, axis=1), tails)),
    )


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the ROC curve of telling known from unknown objects by a score that is higher for known ones.

    The Mann-Whitney statistic over all pairs, P(known > unknown) + P(known = unknown) / 2, from mid-ranks so that ties
    count a half (Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic curve",
    Radiology 143, 1982): 1 where every known object scores higher, 1/2 for chance.

    Args:
        known: (K,) finite scores.
        unknown: (U,) finite scores.

    Returns:
        The area in [0, 1], NaN where either is empty.

    Raises:
        ValueError: a score that is not finite, which has no rank.
    """
    both = _finite_scores(known, unknown)
    if not len(known) or not len(unknown):
        return float("nan")
    _, which, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]  # of equal scores the mean of their places, from 1
    wins = ranks[: len(known)].sum() - len(known) * (len(known) + 1) / 2
    return float(wins / (len(known) * len(unknown)))


def auroc_interval(
    known: np.ndarray, unknown: np.ndarray, share: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of `auroc`: known and unknown objects drawn with replacement, each among themselves.

    Arguments and errors as in `auroc`; `share` of the resamples lies within the interval. NaN where either is empty.
    """
    _finite_scores(known, unknown)
    if not len(known) or not len(unknown):
        return (float("nan"),) * 2
    wins = ((known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)).astype(np.float32)  # (K, U)
    rng = np.random.default_rng(seed)
    drawn_known, drawn_unknown = (
        rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float32) / n for n in wins.shape
    )
    areas = (drawn_known @ wins * drawn_unknown).sum(1)
    return _pair(np.percentile(areas, [50 * (1 - share), 50 * (1 + share)]))


def _finite_scores(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    both = np.concatenate([known, unknown])
    if not np.isfinite(both).all():
        raise ValueError(f"{int((~np.isfinite(both)).sum())} of {len(both)} scores are not finite and have no rank")
    return both


def _drawn_errors(of: Calibration, names: np.ndarray, draws: np.ndarray, bins: int = 15) -> np.ndarray:
    """(R,) calibration errors of resamples that hold each of the (G,) scenes `draws` (R, G) times; NaN: no object."""
    which = np.searchsorted(names, of.scene)
    gap, count = np.zeros((len(names), bins)), np.bincount(which, minlength=len(names))
    np.add.at(gap, (which, _bin(of.score, bins)), of.right.astype(float) - of.score)
    total = draws @ count
    return np.divide(np.abs(draws @ gap).sum(1), total, out=np.full(len(draws), np.nan), where=total > 0)


def _bin(score: np.ndarray, bins: int) -> np.ndarray:
    """(M,) bins of equal width over [0, 1], each with its upper end; ValueError where a score lies outside."""
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError(f"scores must lie in [0, 1], but range from {score.min()} to {score.max()}")
    return np.clip(np.ceil(score * bins).astype(int) - 1, 0, bins - 1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 1927), which keeps its promise for few objects and for shares near 0 and 1.

    Raises:
        ValueError: no objects.
    """
    if total < 1:
        raise ValueError("a share of no objects has no interval")
    share, shrink = right / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
