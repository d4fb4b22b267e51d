"""The whole loss of a step: which terms there are, their sum, and whom their gradients reach."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from domains_made import RECIPE, changed

from clipoint3d_ros.adaptation.batches import Batch
from clipoint3d_ros.adaptation.losses import confidence, cross_entropy, orthogonality
from clipoint3d_ros.adaptation.objective import objective, see

NAMES = ("ce", "ortho", "conf", "transport", "proto", "agree")
OF_TARGET = ("conf", "transport", "proto", "agree")
OBJECTS, VIEWS, WIDTH, CLASSES = 6, 3, 8, 4
EVEN = torch.full((CLASSES,), 1 / CLASSES)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def weighed(**weights):
    """The recipe with all losses off but those given."""
    return changed(losses={**dict.fromkeys(NAMES, 0.0), **weights})


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def domain(seed, grad=True):
    """A domain's view features as leaves of the graph, and what is seen by them."""
    features = F.normalize(numbers(OBJECTS, VIEWS, WIDTH, seed=seed), dim=-1).requires_grad_(grad)
    turned = (torch.eye(64) + 0.1 * numbers(OBJECTS, 64, 64, seed=seed + 10)).requires_grad_(grad)
    text = F.normalize(numbers(CLASSES, WIDTH, seed=100), dim=-1)
    return features, see(features, text, 10.0, turned)


def batch(facing=None):
    facing = torch.full((OBJECTS, VIEWS), 1 / VIEWS) if facing is None else facing
    nothing = torch.zeros(OBJECTS)
    return Batch(nothing, nothing, facing, nothing, torch.full((OBJECTS,), -1), torch.ones(OBJECTS, dtype=torch.bool))


FRONT = torch.tensor([1.0, 0.0, 0.0]).expand(OBJECTS, -1)


def test_views_are_kept_by_entropy_and_fused_into_unit_features():
    _, seen = domain(0)
    torch.testing.assert_close(seen.weights.sum(1), torch.ones(OBJECTS))
    assert ((seen.weights == 0) | (seen.weights >= 1 / VIEWS)).all()
    assert (seen.weights == 0).any()
    assert not seen.weights.requires_grad
    torch.testing.assert_close(seen.fused.norm(dim=1), torch.ones(OBJECTS))
    torch.testing.assert_close(seen.pooled, (seen.logits * seen.weights[..., None]).sum(1))
    assert seen.logits.shape == (OBJECTS, VIEWS, CLASSES)


@pytest.mark.parametrize("left", NAMES)
def test_a_loss_of_weight_0_is_absent(left):
    weights = dict.fromkeys(NAMES, 1.0) | {left: 0.0}
    total, terms = objective(domain(0)[1], LABELS, domain(1)[1], batch(), EVEN, weighed(**weights))
    assert set(terms) == set(NAMES) - {left}
    assert torch.isfinite(total)


def test_the_total_is_the_weighted_sum():
    weights = dict(zip(NAMES, (0.5, 2.0, 0.25, 3.0, 1.5, 4.0), strict=True))
    total, terms = objective(domain(0)[1], LABELS, domain(1)[1], batch(FRONT), EVEN, weighed(**weights))
    assert set(terms) == set(NAMES)
    assert total.item() == pytest.approx(sum(weights[name] * term.item() for name, term in terms.items()), rel=1e-5)
    assert all(term.item() > 0 for term in terms.values())


def test_without_a_target_only_the_sources_losses_are_left():
    _, source = domain(0)
    _, terms = objective(source, LABELS, None, None, EVEN, RECIPE)
    assert set(terms) == {"ce", "ortho"}
    assert terms["ce"].item() == pytest.approx(cross_entropy(source.pooled, LABELS).item())
    _, terms = objective(replace(source, turned=None), LABELS, None, None, EVEN, RECIPE)
    assert set(terms) == {"ce"}, "no alignment, nothing to be orthogonal"


def test_where_no_loss_is_left_the_refusal_says_so():
    source = replace(domain(0)[1], turned=None)
    with pytest.raises(ValueError, match=r"no loss is left .* losses\.ce"):
        objective(source, LABELS, None, None, EVEN, weighed(ortho=1.0))


def test_orthogonality_and_confidence_are_of_both_domains():
    (_, source), (_, target) = domain(0), domain(1)
    _, terms = objective(source, LABELS, target, batch(), EVEN, weighed(ce=1.0, ortho=1.0, conf=1.0))
    both = orthogonality(torch.cat([source.turned, target.turned]))
    assert terms["ortho"].item() == pytest.approx(both.item(), rel=1e-5)
    sure = [confidence(seen.logits, seen.weights).item() for seen in (source, target)]
    assert terms["conf"].item() == pytest.approx(sum(sure) / 2, rel=1e-5)


@pytest.mark.parametrize("name", OF_TARGET)
def test_every_loss_of_the_target_has_a_gradient_at_its_features(name):
    features, target = domain(1)
    total, terms = objective(domain(0)[1], LABELS, target, batch(FRONT), EVEN, weighed(**{name: 1.0}))
    assert set(terms) == {name}
    total.backward()
    assert torch.isfinite(features.grad).all()
    moved = (features.grad.abs().sum((1, 2)) > 0).float().mean()
    assert moved > 0.5, f"L_{name} reaches {moved:.0%} of the target's objects"


@pytest.mark.parametrize(("name", "reached"), [("transport", False), ("agree", False), ("conf", True), ("proto", True)])
def test_transport_and_agreement_leave_the_source_where_it_stands(name, reached):
    features, source = domain(0)
    total, _ = objective(source, LABELS, domain(1)[1], batch(FRONT), EVEN, weighed(**{name: 1.0}))
    total.backward()
    assert (features.grad is not None and bool(features.grad.abs().sum() > 0)) == reached


def test_the_labelled_objects_of_a_frequent_target_class_weigh_more_in_the_transport():
    _, source = domain(0)
    features = source.fused.detach()[:, None].expand(-1, VIEWS, -1)
    recipe = replace(weighed(transport=1.0), transport=replace(RECIPE.transport, prediction_weight=0.0))
    text = F.normalize(numbers(CLASSES, WIDTH, seed=100), dim=-1)
    target = see(features[[0, 4, 0, 4, 0, 4]], text, 10.0, None)  # objects of class 0 alone
    losses = {}
    for name, prior in (("even", EVEN), ("right", torch.tensor([0.97, 0.01, 0.01, 0.01]))):
        _, terms = objective(source, LABELS, target, batch(), prior, recipe)
        losses[name] = terms["transport"].item()
    assert losses["right"] < 0.5 * losses["even"]


def test_smoothed_labels_cost_more_where_the_prediction_is_sure():
    source = domain(0)[1]
    sure = replace(source, logits=20 * F.one_hot(LABELS, CLASSES).float()[:, None].expand(-1, VIEWS, -1))
    plain, smooth = (
        objective(sure, LABELS, None, None, EVEN, weighed(ce=1.0, smoothing=s))[0].item() for s in (0.0, 0.1)
    )
    assert plain < 1e-3
    assert smooth == pytest.approx(0.1 * 0.75 * 20, rel=1e-3)


def test_views_that_agree_teach_nothing():
    _, target = domain(1)
    alike = replace(target, logits=target.logits[:, :1].expand(-1, VIEWS, -1))
    _, terms = objective(domain(0)[1], LABELS, alike, batch(FRONT), EVEN, weighed(agree=1.0))
    assert terms["agree"].item() == pytest.approx(0, abs=1e-6)
