"""View selection: entropy keeps the certain half, facing keeps what the sensor saw."""

import math

import pytest
import torch

from clipoint3d_ros.geometry.views import FRONT_VIEW, TOP_VIEW, view_directions
from clipoint3d_ros.recognition.selection import entropy, facing_weights, keep_certain

DIRECTIONS = torch.from_numpy(view_directions()).float()


def towards(elevation):
    return torch.tensor([[0.0, math.sin(elevation), math.cos(elevation)]])


def test_entropy_by_hand():
    assert entropy(torch.tensor([0.25, 0.25, 0.25, 0.25])).item() == pytest.approx(math.log(4))
    assert entropy(torch.tensor([1.0, 0, 0])).item() == 0


@pytest.mark.parametrize("degrees", [0, 20, 45, 70])
def test_facing_weights_prefer_the_front_and_never_count_the_rear(degrees):
    weights = facing_weights(towards(math.radians(degrees)), DIRECTIONS)[0]
    assert weights.sum().item() == pytest.approx(1)
    assert (weights >= 0).all()
    best = int(weights.argmax())
    assert best == (TOP_VIEW if degrees == 70 else FRONT_VIEW)
    rear = DIRECTIONS[:8, 2] < -0.3
    assert (weights[:8][rear] == 0).all()
    assert weights[8] == 0, "nobody looks from below"
    assert torch.allclose(weights[0], weights[3], atol=1e-5), "left and right diagonal count alike"


def test_facing_weights_are_defined_for_every_direction():
    every = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    weights = facing_weights(every, DIRECTIONS)
    assert torch.isfinite(weights).all()
    assert torch.allclose(weights.sum(1), torch.ones(500), atol=1e-5)


def test_the_views_at_most_as_uncertain_as_the_median_are_kept():
    sure = torch.tensor([9.0, 0, 0])
    logits = torch.stack([sure, sure * 0.1, sure * 0.5, sure * 0.2, sure * 0.7])[None]
    kept = keep_certain(logits, torch.full((1, 5), 0.2))
    assert (kept[0] > 0).tolist() == [True, False, True, False, True]
    assert kept.sum().item() == pytest.approx(1)


def test_a_view_that_is_not_there_is_not_kept_and_does_not_move_the_median():
    sure = torch.tensor([9.0, 0, 0])
    logits = torch.stack([sure, sure * 0.1, sure * 0.5, sure * 0.9])[None]
    kept = keep_certain(logits, torch.tensor([[0.0, 0.5, 0.5, 0.0]]))
    assert (kept[0] > 0).tolist() == [False, False, True, False]


def test_equal_views_are_all_kept():
    kept = keep_certain(torch.ones(2, 4, 3), torch.full((2, 4), 0.25))
    assert torch.allclose(kept, torch.full((2, 4), 0.25))
