"""Thresholds of single classes from labelled answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from replays import CLASSES, replay_by_hand

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import FrameKey, Replayed
from clipoint3d_ros.evaluation.thresholds import (
    Named,
    Wanted,
    as_array,
    figures,
    held_out,
    named,
    parameter_file,
    propose,
    summary,
    together,
)
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

BOX, CAN, MUG = range(3)


def answers(called, score, truth):
    """In the order of one recording."""
    late = np.arange(len(called)) >= len(called) / 2
    return Named(np.array(called), np.array(score, float), np.array(truth), late)


def drawn(count=3000, seed=0):
    """Answers that are right as often as their score says; a tenth of the objects are of no class."""
    rng = np.random.default_rng(seed)
    called, score = rng.integers(0, 3, count), rng.random(count)
    right = rng.random(count) < score
    wrong = np.where(rng.random(count) < 0.1, metrics.NONE, (called + 1) % 3)
    return answers(called, score, np.where(right, called, wrong))


def test_it_is_the_lowest_threshold_that_reaches_the_precision():
    found = drawn()
    for index, one in enumerate(propose(found, CLASSES, Wanted(0.8))):
        mine = found.named == index

        def precision(threshold, mine=mine, index=index):
            return (found.truth[mine & (found.score >= threshold)] == index).mean()

        assert precision(one.threshold) >= 0.8
        assert one.precision[1] == pytest.approx(precision(one.threshold))
        lower = [score for score in found.score[mine] if score < one.threshold]
        assert all(precision(score) < 0.8 for score in lower), "a lower one reaches it too"
        assert one.kept == (mine & (found.score >= one.threshold)).sum()
        assert one.interval[0] < one.precision[1] < one.interval[1]


def test_a_higher_precision_never_asks_a_lower_threshold():
    rows = [as_array(propose(drawn(), CLASSES, Wanted(precision))) for precision in (0.6, 0.7, 0.8, 0.9)]
    assert (np.diff(rows, axis=0) >= 0).all()


def test_the_interval_s_lower_end_asks_for_more_than_the_share():
    share, surely = (propose(drawn(), CLASSES, Wanted(0.8, surely=sure)) for sure in (False, True))
    assert (as_array(surely) > as_array(share)).all()
    assert all(one.interval[0] >= 0.8 for one in surely)


def test_where_every_answer_is_right_nothing_is_cut_off():
    one = propose(answers([BOX] * 30, np.linspace(0.1, 1, 30), [BOX] * 30), CLASSES, Wanted(0.95))[BOX]
    assert one.threshold == 0
    assert (one.precision, one.recall, one.kept) == ((1, 1), (1, 1), 30)


def test_too_few_answers_and_a_precision_out_of_reach_are_said():
    found = answers([BOX] * 5 + [CAN] * 40, [0.9] * 45, [BOX] * 5 + [CAN, MUG] * 20)
    box, can, mug = propose(found, CLASSES, Wanted(0.95))
    assert box.threshold is None
    assert "5 answers are too few to say, 20 are asked for" in box.why
    assert can.threshold is None
    assert "50.0 % at best" in can.why
    assert mug.why.startswith("0 answers")
    assert mug.recall == (0, 0), "its twenty objects were all called cans"
    assert mug.precision == (None, None)


def test_answers_of_one_score_are_kept_or_left_together():
    found = answers([BOX] * 40, [0.9] * 20 + [0.5] * 20, [BOX] * 20 + [BOX, CAN] * 10)
    one = propose(found, CLASSES, Wanted(0.9))[BOX]
    assert 0.5 < one.threshold <= 0.9
    assert (one.kept, one.precision[1], one.recall[1]) == (20, 1, 20 / 30)


def test_scores_a_hair_apart_are_still_told_apart():
    score = [0.7 + 1e-9] * 20 + [0.7] * 20
    one = propose(answers([BOX] * 40, score, [BOX] * 20 + [CAN] * 20), CLASSES, Wanted(0.9))[BOX]
    assert 0.7 < one.threshold <= 0.7 + 1e-9
    assert float(f"{one.threshold}") == one.threshold


def test_objects_of_other_classes_count_as_wrong_and_nameless_ones_do_not(tmp_path):
    truth = [{"2": "box", "3": "bottle", "4": ""}, {"2": "can"}]
    said = [{"2": ("box", 0.9), "3": ("box", 0.6), "4": ("box", 0.5)}, None]
    _, frames, replayed = replay_by_hand(tmp_path / "bag", truth, said)
    found = named(frames, replayed)
    assert found.named.tolist() == [BOX, BOX, metrics.NONE]
    assert found.truth.tolist() == [BOX, metrics.NONE, CAN]
    assert together(found, np.zeros(3)) == (0.5, 0.5)
    assert together(found, np.array([0.7, 0, 0])) == (1.0, 0.5)


def test_held_out_halves_are_judged_by_the_others_thresholds():
    precision, _ = held_out(drawn(), CLASSES, Wanted(0.8))
    assert precision == pytest.approx(0.8, abs=0.04), "the answers are honest, so the promise holds"
    high = answers([BOX] * 80, [0.9] * 40 + [0.1] * 40, [BOX] * 40 + [CAN] * 40)  # right at first, wrong later
    assert held_out(high, CLASSES, Wanted(0.9))[0] == 0.5


def test_neighbouring_frames_of_a_recording_are_in_the_same_half(tmp_path):
    """The next frame of a robot that stands still is the same again: no other scene to judge a threshold by."""
    counts = (5, 4)  # frames of two recordings
    frames, answered = [], {}
    for number, count in enumerate(counts):
        truth = [{"2": "box"} for _ in range(count)]
        _, own, replayed = replay_by_hand(tmp_path / f"bag{number}", truth, [{"2": ("box", 0.9)}] * count)
        moved = {frame.key: FrameKey(number, frame.key.stamp) for frame in own}
        frames += [replace(frame, key=moved[frame.key]) for frame in own]
        answered |= {moved[key]: answer for key, answer in replayed.frozen.items()}
    found = named(frames, Replayed(CLASSES, answered))
    assert found.late.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 2


def test_the_file_is_what_perception_loads(tmp_path):
    result = figures(drawn(), CLASSES, Wanted(0.8))
    text = parameter_file(result, "0.8 from a bag")
    parameters = yaml.safe_load(text)["/**"]["ros__parameters"]
    config = build(PerceptionConfig, parameters)
    config.check()
    pairs = dict(config.classifier.unknown_below_class)
    assert pairs == {one["name"]: pytest.approx(one["threshold"]) for one in result["classes"]}
    assert json.loads(json.dumps(result, allow_nan=False))
    assert "judged by thresholds from the other half" in summary(result)


def test_a_file_without_any_threshold_loads_too():
    result = figures(answers([BOX], [0.9], [BOX]), CLASSES, Wanted(0.8))
    text = parameter_file(result, "0.8 from a bag")
    assert "# box: no threshold, 1 answer is too few" in text
    build(PerceptionConfig, yaml.safe_load(text)["/**"]["ros__parameters"]).check()


@pytest.mark.parametrize("words", [{"precision": 1.0}, {"precision": 0.0}, {"least": 0}])
def test_what_cannot_be_wanted_is_refused(words):
    with pytest.raises(ValueError, match="but is"):
        Wanted(**words)
