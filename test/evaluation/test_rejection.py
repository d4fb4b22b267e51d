"""Scores that tell known from unknown objects."""

import numpy as np
import pytest

from clipoint3d_ros.evaluation.rejection import HEADLINE, logit_scores, probability_scores, rejection


def test_a_sure_answer_scores_higher_than_an_even_one_by_every_score():
    sure, even = np.array([[0.9, 0.05, 0.05]]), np.full((1, 3), 1 / 3)
    for score, value in probability_scores(sure).items():
        assert value[0] > probability_scores(even)[score][0], score
    assert probability_scores(even)["entropy"][0] == pytest.approx(-np.log(3))
    assert probability_scores(np.array([[1.0, 0.0]]))["entropy"][0] == 0, "0 log 0 is 0"


def test_energy_is_log_sum_exp_and_does_not_overflow():
    logits = np.array([[1.0, 0.5, -1.5]])
    scores = logit_scores(logits)
    assert scores["energy"][0] == pytest.approx(np.log(np.exp(logits).sum()))
    assert scores["max_probability"][0] == pytest.approx(np.exp(1) / np.exp(logits).sum())
    assert logit_scores(logits * 1e4)["energy"][0] == pytest.approx(1e4)


def test_rejection_says_how_many_objects_it_rests_on():
    known, unknown = {HEADLINE: np.array([0.9, 0.6]), "other": np.zeros(2)}, {HEADLINE: np.array([0.5])}
    unknown["other"] = np.zeros(1)
    found = rejection(known, unknown)
    assert (found["n"], found["known"], found["auroc"]) == (1, 2, 1.0)
    assert found["auroc_by"] == {HEADLINE: 1.0, "other": 0.5}
    with pytest.raises(ValueError, match="there are 2 and 0"):
        rejection(known, {score: np.empty(0) for score in known})
