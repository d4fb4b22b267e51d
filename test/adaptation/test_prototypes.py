"""Prototypes: weighted by certainty, and pulling what is sure towards what is near."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize

from clipoint3d_ros.adaptation.losses import certainty
from clipoint3d_ros.adaptation.prototypes import prototype_alignment, prototypes


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_prototype_is_the_mean_weighted_by_certainty():
    features = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    logits = torch.tensor([[2.0, 0], [1.0, 0], [0, 3]])
    made, present = prototypes(features, logits, torch.tensor([0, 0, 1]), 2)
    w = certainty(logits.softmax(-1))
    assert torch.allclose(made[0], normalize(torch.tensor([w[0], w[1], 0]), dim=0))
    assert torch.allclose(made[1], features[2])
    assert present.tolist() == [True, True]


def test_an_unsure_object_hardly_moves_a_prototype():
    features = torch.eye(2)
    made, _ = prototypes(features, torch.tensor([[50.0, 0], [0, 0]]), torch.tensor([0, 0]), 2)
    assert torch.allclose(made[0], features[0], atol=1e-3)


def test_a_class_of_unsure_objects_has_its_plain_mean():
    made, present = prototypes(torch.eye(3), torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), 2)
    assert torch.allclose(made[0], torch.full((3,), 3**-0.5))
    assert present.tolist() == [True, False]


def test_a_class_nobody_has_is_absent_and_so_is_one_whose_objects_cancel():
    features = torch.tensor([[1.0, 0], [0, 1], [0, -1]], requires_grad=True)
    made, present = prototypes(features, torch.zeros(3, 3), torch.tensor([0, 2, 2]), 3)
    assert present.tolist() == [True, False, False]
    assert torch.equal(made[1:], torch.zeros(2, 2))
    made.square().sum().backward()
    assert torch.isfinite(features.grad).all()


def test_alignment_by_hand():
    features = torch.tensor([[1.0, 0]])
    logits = torch.tensor([[math.log(3), 0.0]])
    loss = prototype_alignment(features, logits, torch.eye(2), torch.tensor([True, True]), temperature=0.5)
    expected = certainty(logits.softmax(-1)).item() * math.log(1 + math.exp(-2))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_weight_counts_even_for_one_object():
    features, present = torch.tensor([[1.0, 0]]), torch.tensor([True, True])
    sure = prototype_alignment(features, torch.tensor([[9.0, 0]]), torch.eye(2), present, 0.5)
    unsure = prototype_alignment(features, torch.tensor([[0.1, 0]]), torch.eye(2), present, 0.5)
    assert unsure < 0.1 * sure, "a weight divided by itself cancels"


def test_descent_turns_a_target_towards_its_nearest_prototype():
    target = normalize(torch.tensor([[1.0, 0.4, 0.2]]), dim=1).requires_grad_()
    anchors = torch.eye(3)[:2]
    prototype_alignment(target, torch.tensor([[5.0, 0]]), anchors, torch.tensor([True, True]), 0.1).backward()
    after = normalize((target - 0.1 * target.grad).detach(), dim=1)
    assert after[0, 0] > target[0, 0]
    assert after[0, 1] < target[0, 1]


def test_an_absent_class_is_never_a_pseudo_label():
    target = torch.tensor([[1.0, 0]], requires_grad=True)
    present = torch.tensor([False, True])
    loss = prototype_alignment(target, torch.tensor([[9.0, 0]]), torch.eye(2), present, 0.1)
    loss.backward()
    assert loss.item() == 0, "with one class present nothing is left to decide"
    assert torch.equal(target.grad, torch.zeros_like(target))


def test_gradients_are_those_of_finite_differences_and_reach_both_sides():
    source, target = normalize(drawn(6, 4), dim=1).requires_grad_(), normalize(drawn(5, 4, seed=1), dim=1)
    target.requires_grad_()
    labels, logits, target_logits = torch.tensor([0, 0, 1, 1, 3, 3]), drawn(6, 4, seed=2), drawn(5, 4, seed=3)

    def loss(source, target):
        made, present = prototypes(source, logits, labels, 4)
        return prototype_alignment(target, target_logits, made, present, 0.3)

    assert gradcheck(loss, (source, target))


def test_certainty_gets_no_gradient():
    source_logits, target_logits = drawn(4, 3).requires_grad_(), drawn(5, 3, seed=1).requires_grad_()
    target = normalize(drawn(5, 6), dim=1).requires_grad_()
    made, present = prototypes(normalize(drawn(4, 6), dim=1), source_logits, torch.tensor([0, 1, 2, 2]), 3)
    prototype_alignment(target, target_logits, made, present, 0.1).backward()
    assert source_logits.grad is None
    assert target_logits.grad is None


def test_what_says_nothing_is_refused():
    features, present = torch.eye(2), torch.tensor([True, True])
    with pytest.raises(ValueError, match="at least 2"):
        prototypes(features, torch.zeros(2, 1), torch.tensor([0, 0]), 1)
    with pytest.raises(ValueError, match="of 3 classes"):
        prototypes(features, torch.zeros(2, 3), torch.tensor([0, 0]), 2)
    with pytest.raises(ValueError, match="temperature"):
        prototype_alignment(features, torch.zeros(2, 2), torch.eye(2), present, 0.0)
    with pytest.raises(ValueError, match="no class"):
        prototype_alignment(features, torch.zeros(2, 2), torch.eye(2), ~present, 0.1)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(precision):
    features = normalize(drawn(6, 8), dim=1).to(precision).requires_grad_()
    logits = (100 * drawn(6, 3)).to(precision)
    made, present = prototypes(features, logits, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    loss = prototype_alignment(features, logits, made, present, 0.01)
    loss.backward()
    assert made.dtype == loss.dtype == torch.float32
    assert torch.isfinite(features.grad).all()
