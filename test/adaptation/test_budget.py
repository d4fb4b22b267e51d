"""The share of time that adapting may take, and the limits of power and memory, by a clock of the test's own."""

from __future__ import annotations

import math

import pytest
import torch

from clipoint3d_ros.adaptation import budget as budget_module
from clipoint3d_ros.adaptation.budget import Budget, board_watts, reserved_mb, resident_mb


class Clock:
    """Stands still until told otherwise."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spend(budget, clock, seconds):
    with budget.spending():
        clock.now += seconds


def test_at_the_start_something_may_be_spent(clock):
    budget = Budget(0.1, clock)
    assert budget.allows()
    assert budget.wait() == 0
    assert budget.spent == 0


def test_what_was_spent_must_be_waited_for(clock):
    budget = Budget(0.2, clock)
    spend(budget, clock, 2.0)
    assert not budget.allows()
    assert budget.spent == 1
    assert budget.wait() == pytest.approx(8.0), "2 s are a fifth of 10 s, of which 2 have passed"
    clock.now += 7.9
    assert not budget.allows()
    clock.now += 0.2
    assert budget.allows()
    assert budget.wait() == 0
    assert budget.spent == pytest.approx(2.0 / 10.1)


def test_a_wait_is_no_longer_than_it_is_asked_to_be(clock):
    budget = Budget(0.01, clock)
    spend(budget, clock, 5.0)
    assert budget.wait(1.0) == 1.0
    assert budget.wait() == 60.0


@pytest.mark.parametrize("share", [0.05, 0.2, 0.8])
@pytest.mark.parametrize("step", [0.1, 0.7])
def test_whoever_asks_first_keeps_the_share_over_any_length_of_time(clock, share, step):
    budget, began, spent = Budget(share, clock), clock.now, 0.0
    while clock.now < began + 600:
        if budget.allows():
            spend(budget, clock, step)
            spent += step
        else:
            clock.now += 0.05
    assert spent / 600 == pytest.approx(share, abs=0.02)


def test_a_share_of_one_never_waits(clock):
    budget = Budget(1.0, clock)
    for _ in range(500):
        spend(budget, clock, 1.0)
        assert budget.wait() == pytest.approx(0, abs=1e-6)
        clock.now += 1e-3
        assert budget.allows()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_one_long_piece_of_work_is_waited_for_like_many_short_ones(clock, share):
    budget, began, spent = Budget(share, clock), clock.now, 0.0
    while clock.now < began + 7200:
        if budget.allows():
            spend(budget, clock, 50.0)
            spent += 50
        else:
            clock.now += 1.0
    assert spent / 7200 <= share + 50 / 7200
    assert spent / 7200 == pytest.approx(share, abs=0.02)


def test_idle_time_is_not_saved_up(clock):
    budget = Budget(0.5, clock)
    clock.now += 3600  # an idle hour must not allow half an hour at a stretch
    seconds = 0
    while budget.allows():
        spend(budget, clock, 1.0)
        seconds += 1
    assert seconds <= 3


def test_what_was_long_ago_is_told_of_no_more(clock):
    budget = Budget(0.5, clock)
    spend(budget, clock, 60.0)
    assert budget.spent == 1
    clock.now += 3600
    assert budget.spent < 0.05


def test_work_on_many_cores_counts_on_each(clock):
    budget = Budget(0.5, clock)
    with budget.spending(cores=4):
        clock.now += 1.0
    assert budget.wait() == pytest.approx(7.0), "4 s are half of 8 s, of which 1 has passed"


def test_being_kept_waiting_is_no_spending_where_work_has_a_clock_of_its_own(clock):
    budget, work = Budget(0.1, clock), Clock()
    with budget.spending(work=work):
        clock.now += 50.0  # other programs had the core
        work.now += 6.0
    assert budget.wait() == pytest.approx(10.0), "6 s are a tenth of 60 s, of which 50 have passed"


def test_two_threads_that_spend_at_once_are_both_counted(clock):
    budget = Budget(0.5, clock)
    with budget.spending(), budget.spending():
        clock.now += 2.0
    assert budget.wait() == pytest.approx(6.0)


def test_what_fails_while_spending_is_counted_too(clock):
    budget = Budget(0.5, clock)

    def fail():
        with budget.spending():
            clock.now += 3.0
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert budget.wait() == pytest.approx(3.0)


def test_the_share_may_change_at_any_time(clock):
    budget = Budget(0.1, clock)
    spend(budget, clock, 2.0)
    assert budget.wait() == pytest.approx(18.0)
    budget.share = 0.9
    assert budget.wait() == pytest.approx(2.0), "what is owed is paid back at the new share"
    clock.now += 2.1
    assert budget.allows()


# Limits


def test_limits_of_zero_are_never_passed(clock, monkeypatch):
    monkeypatch.setattr(budget_module, "board_watts", lambda: math.inf)
    assert Budget(0.1, clock).over(0.0, 0.0) == ""


def test_above_a_limit_is_said_with_both_numbers(clock, monkeypatch):
    monkeypatch.setattr(budget_module, "resident_mb", lambda: 812.4)
    monkeypatch.setattr(budget_module, "board_watts", lambda: 17.25)
    budget = Budget(0.1, clock)
    assert budget.over(15.0, 0.0) == "limit: the board draws 17.2 W, above max_power_w 15"
    assert budget.over(0.0, 800.0) == "limit: 812 MB held, above max_memory_mb 800"
    assert budget.over(18.0, 900.0) == ""
    assert budget.over(17.25, 812.4) == "", "at a limit is not above it"


def test_what_torch_reserved_on_a_gpu_is_held_as_well(clock, monkeypatch):
    monkeypatch.setattr(budget_module, "resident_mb", lambda: 700.0)
    monkeypatch.setattr(budget_module, "reserved_mb", lambda: 150.0)
    assert Budget(0.1, clock).over(0.0, 800.0) == "limit: 850 MB held, above max_memory_mb 800"


def test_reserved_memory_is_that_of_all_gpus_and_asking_begins_none(monkeypatch):
    assert reserved_mb() == 0.0 or torch.cuda.is_initialized()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: (device + 1) * 2**20)
    assert reserved_mb() == 3.0


@pytest.mark.parametrize(
    ("watts", "resident", "said"),
    [
        (None, 800.0, "no power sensor is found, so max_power_w of 20 W cannot be held"),
        (5.0, 0.0, "the system does not tell what this process holds, so max_memory_mb of 900 cannot be held"),
        (5.0, 800.0, ""),
    ],
)
def test_a_limit_that_nothing_can_hold_is_told(clock, monkeypatch, watts, resident, said):
    monkeypatch.setattr(budget_module, "board_watts", lambda: watts)
    monkeypatch.setattr(budget_module, "resident_mb", lambda: resident)
    assert Budget(0.1, clock).unheld(20.0, 900.0) == said
    assert Budget(0.1, clock).unheld(0.0, 0.0) == "", "nobody asks for it"


def test_a_board_without_a_sensor_passes_no_limit_of_power(clock, monkeypatch):
    monkeypatch.setattr(budget_module, "board_watts", lambda: None)
    assert Budget(0.1, clock).over(1.0, 0.0) == ""


def test_this_process_holds_some_memory():
    assert 10 < resident_mb() < 100_000


# Power sensors


def sensor(folder, **readings):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in readings.items():
        (folder / name).write_text(f"{value}\n")


def test_without_a_sensor_nothing_is_known(tmp_path):
    assert board_watts(str(tmp_path)) is None
    assert board_watts(str(tmp_path / "nowhere")) is None


def test_power_is_read_in_microwatts_and_the_largest_rail_counts(tmp_path):
    sensor(tmp_path / "hwmon0", power1_input=4_500_000)
    sensor(tmp_path / "hwmon3", power1_input=9_250_000, power2_input=1_000_000)
    assert board_watts(str(tmp_path)) == pytest.approx(9.25)


def test_current_and_voltage_of_one_rail_make_its_power(tmp_path):
    # INA3221: milliamperes and millivolts
    sensor(tmp_path / "hwmon1", in1_input=5000, curr1_input=1200, in2_input=12000, curr2_input=300)
    assert board_watts(str(tmp_path)) == pytest.approx(6.0)


def test_a_current_without_its_voltage_and_what_is_no_number_are_left_out(tmp_path):
    sensor(tmp_path / "hwmon1", curr1_input=9000, power1_input="off")
    assert board_watts(str(tmp_path)) is None
    sensor(tmp_path / "hwmon1", power2_input=2_000_000)
    assert board_watts(str(tmp_path)) == pytest.approx(2.0)
