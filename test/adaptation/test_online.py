"""Statistics that follow the robot's objects: by hand, at the ends, and what holds of any memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipoint3d_ros.adaptation.online import FollowConfig, followed, known_share
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import fused_head

WIDTH, CLASSES, SCALE = 6, 3, 10.0
TEXT = F.normalize(torch.eye(CLASSES, WIDTH) + 0.1, dim=1)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def anchor(weights=(1.0, 1.0)):
    """Of the source: means near the words, a covariance that is not round."""
    root = 0.05 * (torch.eye(WIDTH) + 0.3 * drawn(WIDTH, WIDTH, seed=9))
    return ClassStatistics(0.8 * torch.eye(CLASSES, WIDTH), root @ root.T, torch.tensor([5.0, 6.0, 7.0]),
                           torch.tensor(weights))  # fmt: skip


def objects(each, shift=0.0, spread=0.05, seed=0, of=range(CLASSES)):
    """(M, D) features around the anchor's means moved along the last channel."""
    rows = torch.tensor(list(of)).repeat(each)
    moved = anchor().mean[rows] + spread * drawn(len(rows), WIDTH, seed=seed)
    moved[:, -1] += shift
    return moved


def follow(features, given=None, text=TEXT, **config):
    return followed(given or anchor(), text, SCALE, features, FollowConfig(**config))


def test_one_class_moves_by_n_over_n_plus_the_anchor():
    one = ClassStatistics(torch.tensor([[1.0, 0.0]]), 0.5 * torch.eye(2), torch.tensor([4.0]), torch.ones(2))
    features = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    told = follow(features, one, torch.tensor([[1.0, 0.0]]), anchor=6.0, spread_anchor=2.0, rounds=3)
    # With one class every object is its own: n = 2, β = 2 / (2 + 6), and the objects' mean is (0, 2).
    torch.testing.assert_close(told.mean, torch.tensor([[0.75, 0.5]]))
    # Around (0.75, 0.5): (−0.75, 0.5) and (−0.75, 2.5), half of their mean square and half of the anchor's.
    around = torch.tensor([[0.5625, -1.125], [-1.125, (0.25 + 6.25) / 2]])
    torch.testing.assert_close(told.covariance, 0.5 * (0.5 * torch.eye(2)) + 0.5 * around)
    assert told.count.tolist() == [6]


def test_an_empty_memory_gives_the_anchor_itself():
    given = anchor()
    assert follow(torch.zeros(0, WIDTH), given) is given


def test_means_move_towards_the_objects_and_less_with_a_heavier_anchor():
    features = objects(20, shift=0.1)
    goal = features.reshape(20, CLASSES, WIDTH).mean(0)
    before = (anchor().mean - goal).norm(dim=1)
    left = [(follow(features, anchor=weight).mean - goal).norm(dim=1) for weight in (1.0, 20.0, 1e6)]
    assert (left[0] < 0.2 * before).all()
    assert (left[0] < left[1]).all()
    assert (left[1] < before).all()
    torch.testing.assert_close(left[2], before, rtol=1e-3, atol=0)


def test_a_class_nobody_saw_keeps_its_mean():
    told = follow(objects(30, of=[0, 1]), anchor=1.0)
    torch.testing.assert_close(told.mean[2], anchor().mean[2], rtol=0, atol=1e-6)
    assert float((told.mean[:2] - anchor().mean[:2]).norm(dim=1).min()) > 1e-3
    assert told.count[2] == pytest.approx(7, abs=1e-4)


def test_the_objects_are_shared_out_among_the_classes():
    features = objects(7)
    told = follow(features)
    assert float((told.count - anchor().count).sum()) == pytest.approx(len(features), rel=1e-5)
    assert torch.equal(told.weights, anchor().weights)


@pytest.mark.parametrize(
    "features",
    [
        objects(1),
        objects(50, spread=1.0, seed=3),
        objects(4, shift=100.0),
        torch.zeros(5, WIDTH),
        objects(40, spread=0),
    ],
    ids=["few", "scattered", "far away", "nothing", "all alike"],
)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_whatever_was_seen_statistics_are_finite_and_the_covariance_is_one(features, weights):
    told = follow(features, anchor(weights), anchor=0.5, spread_anchor=1.0)
    assert all(bool(torch.isfinite(part).all()) for part in vars(told).values())
    assert torch.equal(told.covariance, told.covariance.T) or torch.allclose(
        told.covariance, told.covariance.T, rtol=1e-6, atol=1e-9
    )
    eigenvalues = torch.linalg.eigvalsh(told.covariance.double())
    assert float(eigenvalues.min()) > -1e-6 * float(eigenvalues.max())
    weight, bias = fused_head(TEXT, SCALE, told)
    assert bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()), "what follows them cannot be served"


def test_the_order_of_a_memory_does_not_matter():
    features = objects(15, shift=0.05)
    shuffled = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(1))]
    one, other = follow(features), follow(shuffled)
    for name, part in vars(one).items():
        torch.testing.assert_close(part, getattr(other, name), msg=f"{name} depends on the order")


def test_what_was_given_is_left_as_it_was():
    given, features = anchor(), objects(10, shift=0.1)
    copies = {name: part.clone() for name, part in vars(given).items()}, features.clone()
    follow(features, given, anchor=1.0)
    assert all(torch.equal(getattr(given, name), part) for name, part in copies[0].items())
    assert torch.equal(features, copies[1])


def test_a_second_round_assigns_by_what_the_first_has_moved():
    features = objects(25, shift=0.1, spread=0.3)  # between the classes, where a moved mean takes objects over
    once, twice, thrice = (follow(features, anchor=1.0, rounds=rounds) for rounds in (1, 2, 3))
    first, second = ((b.mean - a.mean).abs().max() for a, b in ((once, twice), (twice, thrice)))
    assert float(first) > 1e-4
    assert float(second) < float(first), "the rounds do not settle"


@pytest.mark.parametrize("config", [{"anchor": 0}, {"anchor": math.nan}, {"spread_anchor": -1.0}, {"rounds": 0}])
def test_what_follows_nothing_is_refused(config):
    with pytest.raises(ValueError, match="anchors must be above 0 and rounds at least 1"):
        FollowConfig(**config)


def familiarities(count, share, seed=0):
    """Of objects whose log odds are Gaussian around ±2 with variance 4: calibrated where half of them are known."""
    rng = np.random.default_rng(seed)
    inside = rng.random(count) < share
    return 1 / (1 + np.exp(-(np.where(inside, 2.0, -2.0) + 2.0 * rng.normal(size=count))))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_known_objects_is_found_again(share):
    assert known_share(familiarities(2000, share)) == pytest.approx(share, abs=0.04)


def test_few_objects_say_little_of_the_share_and_none_nothing():
    assert known_share([]) == 0.5
    assert known_share([1.0]) == pytest.approx((1 + 8) / 17, abs=1e-3)
    assert 0 < known_share([0.0] * 1000) < 0.01 < 0.99 < known_share([1.0] * 1000) < 1
