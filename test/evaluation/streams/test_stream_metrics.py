"""Figures of a stream, against cases worked out by hand."""

import numpy as np
import pytest

from clipoint3d_ros.evaluation.streams import metrics


def flags(word):
    return np.array([letter == "1" for letter in word])


def test_gain_is_the_mean_over_classes_and_over_objects():
    truth = np.array([0, 0, 0, 1])
    right, base = flags("1110"), flags("1001")
    found = metrics.gains([truth], [right], [base], [np.arange(4)])
    assert found.macro == pytest.approx((2 / 3 - 1) / 2)
    assert found.micro == pytest.approx(1 / 4)
    assert found.micro_ci95[0] <= found.micro <= found.micro_ci95[1]


def test_a_method_that_answers_like_frozen_gains_exactly_nothing():
    rng = np.random.default_rng(0)
    truth, right = rng.integers(3, size=200), rng.random(200) < 0.7
    found = metrics.gains([truth], [right], [right], [metrics.blocks(200, 0)])
    assert found == (0.0, (0.0, 0.0), 0.0, (0.0, 0.0))


def test_a_gain_on_every_object_alike_is_certain_and_one_on_a_single_block_is_not():
    truth = np.zeros(400, int)
    base, everywhere, once = np.zeros(400, bool), np.arange(400) % 4 == 0, np.arange(400) < 50
    low = [
        metrics.gains([truth], [right], [base], [metrics.blocks(400, 0, 50)]).micro_ci95[0]
        for right in (everywhere, once)
    ]
    assert low[0] > 0.2
    assert low[1] == 0.0


def test_blocks_are_consecutive_and_no_two_seeds_share_one():
    found = metrics.blocks(120, 0, size=50)
    assert np.unique(found, return_counts=True)[1].tolist() == [50, 70]
    assert not set(found) & set(metrics.blocks(120, 1))
    assert len(np.unique(metrics.blocks(309, 0))) == 31, "a short stream has shorter blocks"
    assert len(np.unique(metrics.blocks(10_000, 0))) == 200


def test_regret_is_that_of_the_worst_window_in_points():
    base, right = flags("1111111111"), flags("1111001111")
    assert metrics.regret(right, base, window=4) == pytest.approx(50.0)
    assert metrics.regret(right, base, window=100) == pytest.approx(20.0), "a short stream is one window"
    assert metrics.regret(base, right, window=100) == pytest.approx(-20.0)
    assert np.isnan(metrics.regret(base[:0], base[:0]))


def test_every_stream_has_at_least_two_windows():
    assert [metrics.fitting(count) for count in (10_000, 1111, 1000, 999, 309, 2)] == [500, 500, 500, 333, 103, 1]


def test_macro_regret_weighs_the_classes_of_a_window_alike():
    truth = np.array([0, 0, 0, 1])
    assert metrics.macro_regret(truth, flags("1110"), flags("1111")) == pytest.approx(50.0)
    assert metrics.macro_regret(truth, flags("1110"), flags("1111"), window=2) == pytest.approx(50.0)
    assert metrics.macro_regret(truth, flags("1110"), flags("1111"), window=1) == pytest.approx(100.0)


def test_only_windows_that_lose_far_more_than_they_win_are_significantly_worse():
    base = np.ones(1500, bool)
    right = base.copy()
    right[500:520] = False
    assert metrics.worse_windows(right, base) == 1
    assert metrics.worse_windows(base, right) == 0, "better is not worse"
    few = base.copy()
    few[500:505] = False  # p = 2 · 2⁻⁵ = 1/16
    assert metrics.worse_windows(few, base) == 0


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm([0.9]) == [0.9]
    assert metrics.holm([]) == []


def test_half_the_gain_is_reached_where_the_method_begins_to_win():
    base = np.zeros(400, bool)
    late = np.arange(400) >= 200
    assert metrics.half_gain(late, base) == 250, "half of the trailing hundred"
    assert metrics.half_gain(np.ones(400, bool), base) == 50, "from the first window on"
    assert metrics.half_gain(base, base) is None


def test_false_accepts_are_of_unknown_objects_above_the_known_ones_threshold():
    known = np.arange(1, 101) / 100
    assert metrics.false_accepts(known, np.array([0.01, 0.02, 0.5, 0.9])) == pytest.approx(0.5)
    assert metrics.false_accepts(known, np.zeros(0)) is None


def test_running_accuracy_forgets_what_is_older_than_the_window():
    assert metrics.running_accuracy(flags("1100"), window=2).tolist() == [1, 1, 0.5, 0]
