"""Losses over views and predictions: by hand, by finite differences, and where they might break."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from clipoint3d_ros.adaptation.losses import (
    certainty,
    confidence,
    consistency,
    cross_entropy,
    orthogonality,
    selected_logits,
)
from clipoint3d_ros.recognition.selection import keep_certain


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def uniform(objects, views):
    return torch.full((objects, views), 1 / views, dtype=torch.float64)


def test_certainty_is_one_for_one_class_and_zero_for_all():
    rows = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    assert certainty(rows).tolist() == pytest.approx([1, 0, 0.5], abs=1e-6)
    assert certainty(rows[None]).shape == (1, 3)


def test_certainty_lies_between_zero_and_one():
    values = certainty((20 * drawn(200, 7)).softmax(-1))
    assert (values >= 0).all()
    assert (values <= 1).all()


def test_certainty_of_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        certainty(torch.ones(3, 1))


def test_selected_logits_are_the_weighted_mean_over_views():
    logits = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    assert selected_logits(logits, torch.tensor([[0.75, 0.25, 0.0]])).tolist() == [[1.5, 3.0]]


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(3), 0.0]])
    assert cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    smoothed = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert cross_entropy(logits, torch.tensor([0]), smoothing=0.2).item() == pytest.approx(smoothed)


def test_orthogonality_by_hand():
    scaled = torch.eye(64)[None] * 2  # AAᵀ − I = 3I, of norm 3·√64
    assert orthogonality(torch.cat([scaled, torch.eye(64)[None]])).item() == pytest.approx(12)


def test_an_orthogonal_alignment_costs_nothing_and_has_a_finite_gradient():
    turned, _ = torch.linalg.qr(drawn(64, 64).detach())
    for alignment, limit in ((torch.eye(64)[None], 0), (turned[None], 1e-12)):
        alignment.requires_grad_()
        loss = orthogonality(alignment)
        loss.backward()
        assert loss.item() <= limit
        assert torch.isfinite(alignment.grad).all()


def test_confidence_is_the_entropy_of_the_mean_probability():
    sure, other = torch.tensor([50.0, 0]), torch.tensor([0.0, 50])
    views = torch.stack([sure, other])[None]
    assert confidence(views, torch.tensor([[0.5, 0.5]])).item() == pytest.approx(math.log(2)), "views that disagree"
    assert confidence(views, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0, abs=1e-6), "one view kept"


def test_confidence_of_an_object_does_not_depend_on_its_batch():
    one, other = drawn(1, 5, 4), drawn(1, 5, 4, seed=1)
    together = confidence(torch.cat([one, other]), uniform(2, 5))
    apart = (confidence(one, uniform(1, 5)) + confidence(other, uniform(1, 5))) / 2
    assert together.item() == pytest.approx(apart.item())


def test_confidence_leaves_a_batch_of_one_class_at_its_class():
    logits = torch.zeros(6, 3, 4)
    logits[..., 2] = 1
    logits.requires_grad_()
    confidence(logits, torch.full((6, 3), 1 / 3)).backward()
    assert (logits.grad[..., 2] < 0).all(), "descent must raise the class that leads"
    assert (logits.grad[..., [0, 1, 3]] > 0).all()


def test_consistency_by_hand():
    teacher = torch.tensor([[math.log(3), 0.0]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = (1 - entropy / math.log(2)) * divergence
    assert consistency(torch.zeros(1, 2), teacher).item() == pytest.approx(expected, rel=1e-5)


def test_consistency_is_zero_in_agreement_and_never_negative():
    student, teacher = drawn(50, 5), drawn(50, 5, seed=1)
    assert consistency(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert consistency(student, teacher).item() > 0


def test_the_teacher_gets_no_gradient_and_an_unsure_one_teaches_nothing():
    student, teacher = drawn(3, 5), drawn(3, 5, seed=1)
    consistency(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert consistency(student, torch.zeros(3, 5)).item() == pytest.approx(0, abs=1e-6)


def test_gradients_are_those_of_finite_differences():
    views, labels = drawn(3, 4, 5), torch.tensor([0, 2, 4])
    weights = keep_certain(views.detach(), uniform(3, 4))
    teacher = drawn(3, 5, seed=1).detach()
    assert gradcheck(lambda x: certainty(x.softmax(-1)), views)
    assert gradcheck(lambda x: cross_entropy(selected_logits(x, weights), labels, 0.1), views)
    assert gradcheck(lambda x: confidence(x, weights), views)
    assert gradcheck(lambda x: consistency(x, teacher), drawn(3, 5))
    assert gradcheck(orthogonality, drawn(2, 6, 6))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(precision):
    views = (30 * drawn(2, 4, 5)).detach().to(precision).requires_grad_()
    weights = uniform(2, 4).to(precision)
    mean = selected_logits(views, weights)
    losses = [
        certainty(views.softmax(-1)).mean(),
        confidence(views, weights),
        consistency(mean, views[:, 0]),
        cross_entropy(mean, torch.tensor([0, 1])),
        orthogonality(views[:, :, :4]),
    ]
    assert all(loss.dtype == torch.float32 for loss in losses)
    sum(losses).backward()
    assert torch.isfinite(views.grad).all()


def test_autocast_does_not_reach_the_losses():
    alignment = drawn(2, 64, 64).detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = orthogonality(alignment)
    assert torch.equal(inside, orthogonality(alignment))


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_one_object_of_one_view_is_finite_however_sure(scale):
    views = (scale * drawn(1, 1, 3).detach()).float().requires_grad_()
    loss = confidence(views, torch.ones(1, 1)) + consistency(views[:, 0], views[:, 0].flip(1))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(views.grad).all()
