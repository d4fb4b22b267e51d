"""Metrics against cases worked out by hand."""

import numpy as np
import pytest

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.metrics import NONE

# Eight objects: four of class 0 (three right), two of class 1 (one right, one not answered), two of class 2
# (both called 0); class 3 has none.
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, NONE, 0, 0])


def test_accuracy_keeps_the_unanswered_in_the_denominator():
    assert metrics.accuracy(TRUTH, PREDICTED) == 4 / 8
    assert metrics.answered_accuracy(TRUTH, PREDICTED) == 4 / 7


def test_macro_accuracy_weighs_the_classes_that_occur_alike():
    np.testing.assert_allclose(metrics.class_accuracies(TRUTH, PREDICTED, 4), [3 / 4, 1 / 2, 0, np.nan])
    assert metrics.macro_accuracy(TRUTH, PREDICTED, 4) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


def test_confusion_has_the_truth_in_its_rows():
    matrix = metrics.confusion(TRUTH, PREDICTED, 4)
    assert matrix.tolist() == [[3, 1, 0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]


def test_calibration_error_by_hand():
    # Two bins. (0, 0.5]: scores 0.5 and 0.3, one right: |0.5 - 0.4| = 0.1. (0.5, 1]: 0.9 and 0.7, both right:
    # |1 - 0.8| = 0.2. Half the objects each: 0.15.
    right = np.array([True, False, True, True])
    assert metrics.expected_calibration_error(right, np.array([0.5, 0.3, 0.9, 0.7]), bins=2) == pytest.approx(0.15)


def test_calibration_error_at_the_ends_of_the_scale():
    assert metrics.expected_calibration_error(np.array([True, False]), np.array([1.0, 0.0])) == 0
    assert metrics.expected_calibration_error(np.array([False, True]), np.array([1.0, 0.0])) == 1
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.expected_calibration_error(np.array([True]), np.array([1.5]))


def test_figures_over_no_object_are_nan():
    none = np.zeros(0, int)
    values = [
        metrics.accuracy(none, none),
        metrics.answered_accuracy(TRUTH, np.full(8, NONE)),
        metrics.macro_accuracy(none, none, 3),
        metrics.expected_calibration_error(none > 0, none.astype(float)),
        *metrics.bootstrap_intervals(none, none, none, 3).accuracy,
    ]
    assert np.isnan(values).all()


def test_bootstrap_of_one_scene_has_no_width():
    intervals = metrics.bootstrap_intervals(TRUTH, PREDICTED, np.zeros(8, int), 4)
    assert intervals.accuracy == (0.5, 0.5)
    assert intervals.macro_accuracy == pytest.approx((5 / 12, 5 / 12))


def test_bootstrap_draws_scenes_not_objects():
    # Two scenes, one all right, one all wrong: a resample is 0, 1/2 or 1, whatever the number of objects in it.
    truth = np.zeros(200, int)
    predicted = np.repeat([0, 1], 100)
    scene = np.repeat([5, 9], 100)
    assert metrics.bootstrap_intervals(truth, predicted, scene, 2).accuracy == (0, 1)
    narrow = metrics.bootstrap_intervals(truth, predicted, np.arange(200), 2).accuracy
    assert 0.42 < narrow[0] < 0.45
    assert 0.55 < narrow[1] < 0.58


def test_bootstrap_contains_the_estimate():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 300)
    predicted = np.where(rng.random(300) < 0.7, truth, rng.integers(0, 5, 300))
    intervals = metrics.bootstrap_intervals(truth, predicted, rng.integers(0, 60, 300), 5)
    assert intervals.accuracy[0] < metrics.accuracy(truth, predicted) < intervals.accuracy[1]
    assert intervals.macro_accuracy[0] < metrics.macro_accuracy(truth, predicted, 5) < intervals.macro_accuracy[1]


def test_auroc_by_hand_with_ties():
    # Six pairs: 0.9 beats both, 0.5 ties with 0.5 and beats 0.1, 0.1 loses to 0.5 and ties with 0.1: 4 of 6.
    known, unknown = np.array([0.9, 0.5, 0.1]), np.array([0.5, 0.1])
    assert metrics.auroc(known, unknown) == pytest.approx((2 + 1.5 + 0.5) / 6)


def test_auroc_is_the_share_of_pairs_won():
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 9, 60) / 8, rng.integers(0, 7, 40) / 8
    pairs = (known[:, None] > unknown).mean() + (known[:, None] == unknown).mean() / 2
    assert metrics.auroc(known, unknown) == pytest.approx(pairs)
    assert metrics.auroc(np.exp(known), np.exp(unknown)) == pytest.approx(pairs), "only the order of scores counts"
    assert metrics.auroc(unknown, known) == pytest.approx(1 - pairs)


def test_auroc_of_nothing_is_nan_and_a_score_without_rank_is_refused():
    assert np.isnan(metrics.auroc(np.array([0.5]), np.empty(0)))
    assert np.isnan(metrics.auroc_interval(np.empty(0), np.array([0.5]))).all()
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        metrics.auroc(np.array([0.1, np.nan]), np.array([0.2]))


def test_auroc_interval_holds_the_area_and_narrows_with_more_objects():
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(1, 1, 400), rng.normal(0, 1, 400)
    low, high = metrics.auroc_interval(known, unknown)
    assert low < metrics.auroc(known, unknown) < high
    few_low, few_high = metrics.auroc_interval(known[:40], unknown[:40])
    assert high - low < 0.6 * (few_high - few_low), "ten times the objects, about a third of the width"
    assert metrics.auroc_interval(np.array([1.0, 2.0]), np.array([0.0])) == (1.0, 1.0)
