"""Familiarity: the share that a constant "none of these" leaves to the listed classes."""

import math

import pytest
import torch

from clipoint3d_ros.recognition.familiarity import familiarity, known


def test_it_is_one_minus_the_softmax_share_of_none_of_these():
    logits = torch.tensor([[2.0, 1.0, -3.0], [0.0, 0.0, 0.0]])
    with_none = torch.cat([logits, torch.full((2, 1), 1.5)], 1).softmax(-1)
    assert torch.allclose(familiarity(logits, 1.5), 1 - with_none[:, -1])
    assert familiarity(logits, 1.5)[1].item() == pytest.approx(3 / (3 + math.exp(1.5)))


def test_a_backbone_without_it_finds_everything_familiar():
    assert torch.equal(familiarity(torch.randn(4, 3), None), torch.ones(4))


def test_extreme_logits_stay_finite():
    extreme = familiarity(torch.tensor([[1e4, 0.0], [-1e4, -1e4]]), 0.0)
    assert extreme.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("familiarity", "share", "wanted"),
    [(0.3, 0.5, 0.3), (0.5, 0.9, 0.9), (0.2, 0.8, 0.5), (1.0, 0.1, 1.0), (0.0, 0.9, 0.0), (1.0, 0.0, 1.0)],
)
def test_another_share_of_known_objects_multiplies_the_odds(familiarity, share, wanted):
    assert known(familiarity, share) == pytest.approx(wanted)


def test_a_share_of_one_half_changes_no_bit():
    assert known(0.1 + 0.2, 0.5) == 0.1 + 0.2
