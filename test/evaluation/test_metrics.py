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


def test_reliability_by_hand():
    # The case above: bin (0, 0.5] holds scores 0.5 (right) and 0.3 (wrong), bin (0.5, 1] holds 0.9 and 0.7, both right.
    right, score = np.array([True, False, True, True]), np.array([0.5, 0.3, 0.9, 0.7])
    found = metrics.reliability(right, score, bins=2)
    assert found.objects.tolist() == [2, 2]
    np.testing.assert_allclose(found.score, [0.4, 0.8])
    np.testing.assert_allclose(found.accuracy, [0.5, 1])


def test_the_gaps_of_reliability_are_the_calibration_error():
    rng = np.random.default_rng(0)
    score = rng.random(500) ** 2
    right = rng.random(500) < 0.5
    found = metrics.reliability(right, score)
    gaps = np.nan_to_num(np.abs(found.accuracy - found.score)) * found.objects
    assert gaps.sum() / 500 == pytest.approx(metrics.expected_calibration_error(right, score))
    empty = metrics.reliability(right[:1], np.array([1.0]))
    assert empty.objects.tolist() == [0] * 14 + [1]
    assert np.isnan(empty.accuracy[:14]).all()


def claims(bias, seed=0, count=600, scenes=80):
    """Objects that are right with the probability of their score less `bias`."""
    rng = np.random.default_rng(seed)
    score = 0.3 + 0.7 * rng.random(count)
    return metrics.Calibration(rng.random(count) < score - bias, score, rng.integers(0, scenes, count))


def test_the_interval_of_a_calibration_error_holds_the_true_one():
    inside = [low <= 0.2 <= high for low, high in (metrics.calibration_interval(claims(0.2, s)) for s in range(40))]
    assert sum(inside) >= 34, "95 % of the intervals should hold the error that the objects were made with"


def test_a_sound_model_is_not_called_miscalibrated_by_its_interval():
    lows = [metrics.calibration_interval(claims(0.0, seed))[0] for seed in range(20)]
    assert sum(low > 0.02 for low in lows) <= 2, "resamples lie above the error; the interval takes that off"


def test_the_difference_of_two_models_is_drawn_on_the_same_scenes():
    better, worse = claims(0.0), claims(0.25)
    low, high = metrics.calibration_interval(worse, less=better)
    assert 0 < low < worse.error - better.error < high
    assert metrics.calibration_interval(better, less=better) == (0, 0), "no model differs from itself"
    one_scene = metrics.Calibration(worse.right, worse.score, np.zeros(600, int))
    assert metrics.calibration_interval(one_scene) == pytest.approx((worse.error, worse.error))


def test_a_model_that_names_nothing_has_no_calibration():
    nothing = metrics.Calibration(np.zeros(0, bool), np.zeros(0), np.zeros(0, int))
    assert np.isnan(nothing.error)
    assert np.isnan(metrics.calibration_interval(nothing)).all()
    assert np.isnan(metrics.calibration_interval(claims(0.1), less=nothing)).all()


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


def test_wilson_s_interval_holds_the_share_and_narrows_with_objects():
    low, high = metrics.wilson(9, 10)  # 0.596 to 0.982, as tables have it
    assert (low, high) == pytest.approx((0.596, 0.982), abs=1e-3)
    assert metrics.wilson(0, 5)[0] == 0
    assert metrics.wilson(5, 5)[1] == pytest.approx(1)
    wide, narrow = (np.subtract(*metrics.wilson(9 * k, 10 * k)[::-1]) for k in (1, 10))
    assert narrow < wide
    with pytest.raises(ValueError, match="no objects"):
        metrics.wilson(0, 0)
