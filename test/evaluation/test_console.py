"""Figures as text."""

import pytest
from replays import replay_by_hand

from clipoint3d_ros.evaluation.console import percent, points, span, summary
from clipoint3d_ros.evaluation.scoring import score


def test_differences_carry_their_sign():
    assert (points(0.1574), points(-0.01), points(0.0)) == ("+15.7", "-1.0", "+0.0")


def test_an_interval_of_nothing_is_not_written():
    assert span([0.25, 0.5], percent) == "25.0 % to 50.0 %"
    assert span([None, None], percent) == span(None, percent) == ""


@pytest.mark.parametrize(("frames", "interval"), [(2, " (+100.0 to +100.0)"), (1, "")])
def test_the_summary_tells_what_the_adapter_gained(tmp_path, frames, interval):
    _, stream, replayed = replay_by_hand(
        tmp_path / "bag", [{"2": "box"}] * frames, [{"2": "can"}] * frames, [{"2": "box"}] * frames, [1] * frames
    )
    said = summary(score(stream, replayed))
    assert f"accuracy +100.0 points{interval}, macro" in said
    assert f"{frames} objects mended, 0 broken" in said


def test_without_an_adapter_nothing_is_gained(tmp_path):
    _, stream, replayed = replay_by_hand(tmp_path / "bag", [{"2": "box"}], [{"2": "can"}])
    assert "gained" not in summary(score(stream, replayed))
