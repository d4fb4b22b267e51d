"""Which views first: what the learner makes of views that are made to be good or bad."""

import torch

from clipoint3d_ros.evaluation.serving.learning import on_demand, threshold, view_order


def made(objects=60, sharp=(3, 1)):
    """Logits (M, 5, 4): view 3 names every object rightly, view 1 most of them, the others hardly say a thing."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(objects) % 4
    logits = torch.randn(objects, 5, 4, generator=rng) * 0.05
    logits[torch.arange(objects), sharp[0], truth] += 8
    right = torch.arange(objects) % 10 != 0
    logits[right, sharp[1], truth[right]] += 5
    return logits, torch.full((objects, 5), 0.2)


def test_the_view_that_tells_most_comes_first():
    order = view_order(made()[0])
    assert order[0] == 3
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_doubting_everything_agrees_with_all_views_and_costs_them_all():
    logits, weights = made()
    first = torch.tensor([False, True, False, True, False]).expand(60, -1)
    found = on_demand(logits, weights, first, 0.0, True)
    assert (found.agreement, found.doubt, found.views) == (1.0, 1.0, 5.0)
    quick = on_demand(logits, weights, first, 0.3, False)
    assert quick.agreement == 1.0
    assert 2.0 < quick.views < 3.0, "one object in ten has a view that says nothing, which leaves a doubt"


def test_the_threshold_falls_where_views_mislead():
    logits, weights = made()
    first = torch.tensor([False, False, False, True, False]).expand(60, -1)
    assert threshold(logits, weights, first, True) == 1.0
    poor = torch.tensor([True, False, False, False, False]).expand(60, -1)
    assert threshold(logits, weights, poor, True) < 1.0
