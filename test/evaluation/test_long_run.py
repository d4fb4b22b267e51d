"""The figures of a long run, and what they call growth."""

import json
import math

import numpy as np
import pytest

from clipoint3d_ros.evaluation.long_run import LongRun, Sample, figures, growth, slope, summary


def samples(hours, rss, missed=0, answered=None, gpu=None):
    """One sample each; 100 clouds an hour, all answered but `missed` at the end."""
    return tuple(
        Sample(
            h,
            int(100 * h),
            int(100 * h) if answered is None else answered,
            missed if h == hours[-1] else 0,
            10.0,
            20.0,
            int(h > 0.5),
            {"perception": mb},
            {"perception": gpu[i]} if gpu else {},
        )
        for i, (h, mb) in enumerate(zip(hours, rss, strict=True))
    )


def run_of(rss, hours=1.0, **keys):
    moments = np.linspace(0, hours, len(rss))
    latency = np.stack([moments, np.linspace(10, 20, len(rss))], 1)
    more = {name: keys.pop(name) for name in ("missed", "answered", "gpu") if name in keys}
    return LongRun(1.0, samples(moments, rss, **more), latency, loops=3, **keys)


def test_the_slope_is_the_line_s_whatever_a_spike_says():
    hours = np.linspace(0, 2, 1001)
    memory = 100 + 7 * hours
    memory[500:520] += 900
    assert slope(hours, memory) == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize(
    ("per_hour", "hours", "verdict"),
    [
        (0.0, 1.0, "flat"),
        (9.0, 1.0, "flat"),
        (12.0, 1.0, "grows"),
        (0.0, 0.1, "too short to tell"),  # a leak of the limit would not show in six minutes
        (20.0, 0.1, "too short to tell"),  # nor is two megabytes a leak
        (300.0, 0.1, "too short to tell"),  # heaps fill at first
        (5000.0, 0.1, "grows"),
    ],
)
def test_growth_is_a_slope_above_the_limit_over_time_enough_to_see_it(per_hour, hours, verdict):
    moments = np.linspace(0, hours, 200)
    noise = np.random.default_rng(0).normal(0, 0.5, len(moments))
    found = growth(moments, 500 + per_hour * moments + noise, 0.2 * hours, limit=10.0)
    assert found.verdict == verdict, found
    assert found.slope_mb_h == pytest.approx(per_hour, abs=max(2.0, 0.01 * per_hour, 2 / hours))


def breathing(count, seed=0):
    """What allocators do anyway, MB."""
    return np.random.default_rng(seed).normal(0, 0.5, count)


def test_half_an_hour_is_enough_to_call_memory_flat():
    """Samples come every few seconds, the first of them a little after the warm-up; the loop ends a little late."""
    hours = np.arange(0, 1801, 7) / 3600
    hours[-1] = 0.5
    found = growth(hours, 500 + breathing(len(hours)), 0.2 * hours[-1], limit=10.0)
    assert found.verdict == "flat", found
    assert growth(hours[:200], 500 + breathing(200), 0.2 * hours[199], 10.0).verdict == "too short to tell"


@pytest.mark.parametrize("start", [4.5, 6.0, 6.5])
def test_a_leak_that_begins_late_grows(start):
    hours = np.linspace(0, 8, 961)
    memory = 500 + 500 * np.maximum(0, hours - start) + breathing(len(hours))
    found = growth(hours, memory, 0.25, limit=10.0)
    assert found.verdict == "grows", found
    assert found.late_slope_mb_h > 10


def test_the_sentence_names_the_slope_of_the_half_that_grows():
    late = 500 + 300 * np.maximum(0, np.linspace(0, 4, 400) - 3)
    found = figures(run_of(list(late), hours=4.0))
    assert not found["good"]
    assert "MB/h in the last half, above the limit of 10" in found["verdict"]
    assert found["memory"]["perception"]["slope_mb_h"] < 10
    assert "in the last half" not in figures(run_of(list(np.linspace(100, 500, 400)), hours=4.0))["verdict"]


@pytest.mark.parametrize("steps", [[(0.4, 60)], [(0.3, 40), (0.5, 40), (0.8, 40)]])
def test_a_heap_that_takes_early_steps_and_then_stays_is_flat(steps):
    hours = np.linspace(0, 8, 961)
    memory = 500 + sum(mb * (hours > at) for at, mb in steps) + breathing(len(hours))
    found = growth(hours, memory, 0.25, limit=10.0)
    assert found.verdict == "flat", found
    assert found.late_slope_mb_h == pytest.approx(0, abs=1)


@pytest.mark.parametrize("hours", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("seed", range(5))
def test_breathing_alone_is_flat(hours, seed):
    moments = np.linspace(0, hours, 240)
    swing = 2 * np.sin(2 * np.pi * moments / hours * 3 + seed)
    found = growth(moments, 500 + swing + breathing(240, seed), min(0.2 * hours, 0.25), limit=10.0)
    assert found.verdict == "flat", found


def test_a_last_half_that_is_over_before_heaps_have_settled_is_no_evidence_by_itself():
    hours = np.linspace(0, 0.5, 250)
    memory = 500 + 40 * np.maximum(0, hours - 0.35)
    assert growth(hours, memory, 0.1, limit=10.0).verdict == "flat"
    assert growth(4 * hours, 500 + 40 * np.maximum(0, 4 * hours - 1.4), 0.25, limit=10.0).verdict == "grows"


def test_what_fills_in_the_warm_up_is_no_growth():
    run = run_of([*np.linspace(100, 900, 40), *[900.0] * 160])
    found = figures(run)
    assert found["memory"]["perception"]["verdict"] == "flat"
    assert found["good"]
    assert found["memory"]["perception"]["start_mb"] == 900


def test_memory_of_a_process_that_has_ended_is_left_out():
    found = growth([0, 0.5, 1, 1.5, 2], [10, 10, 10, 10, math.nan], 0.1, 10)
    assert found.verdict == "flat"
    assert found.end_mb == 10


def test_growth_of_the_gpu_s_memory_counts_as_well():
    found = figures(run_of([500.0] * 50, gpu=list(np.linspace(100, 200, 50))))
    assert not found["good"]
    assert found["gpu_memory"]["perception"]["slope_mb_h"] == pytest.approx(100, rel=0.1)
    assert "GPU memory" in found["verdict"]


def test_a_node_that_died_or_fell_silent_is_not_good():
    assert "ended with exit code 3" in figures(run_of([5.0] * 50, died="the node ended with exit code 3"))["verdict"]
    silent = figures(run_of([5.0] * 50, answered=40, missed=60))
    assert silent["verdict"] == "nothing was answered in the last tenth"
    assert figures(run_of([5.0] * 50, missed=2))["good"], "two missed clouds are told, and no failure"


def test_latency_of_the_ends_is_told_apart():
    latency = figures(run_of([5.0] * 101))["latency_ms"]
    assert latency["first_tenth"]["p50"] == pytest.approx(10.5)
    assert latency["last_tenth"]["p50"] == pytest.approx(19.5)
    assert latency["max"] == 20


def test_figures_are_strict_json_even_of_a_run_that_hardly_began():
    empty = LongRun(1.0, (), np.zeros((0, 2)), died="it ended")
    one = LongRun(
        1.0,
        (Sample(0.0, 0, 0, 0, math.nan, math.nan, 0, {"perception": math.nan}, {}),),
        np.zeros((0, 2)),
        stopped=True,
    )
    for run in (empty, one, run_of([5.0] * 5)):
        found = figures(run)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert summary(found)


def test_the_text_says_it_plainly():
    told = summary(
        figures(run_of(list(np.linspace(100, 200, 99)), warnings={"perception: no clouds": 4}, jumps_back=1))
    )
    assert "NOT GOOD: perception's memory grows by 100" in told
    assert "diagnostics warned 4 times: perception: no clouds" in told
    assert "jumped back 1 times" in told
    assert "good: memory is flat" in summary(figures(run_of([100.0] * 99)))
