"""Transport: against exact solvers and finite differences, its marginals, and clouds with nothing to transport."""

import dataclasses

import ot
import pytest
import torch
from torch.nn.functional import normalize

from clipoint3d_ros.adaptation.transport import (
    TransportConfig,
    alignment,
    cost,
    debiased,
    sinkhorn_divergence,
    transported_labels,
)

BALANCED = TransportConfig()
UNBALANCED = TransportConfig(unbalanced=0.5)
BOTH = pytest.mark.parametrize("config", [BALANCED, UNBALANCED], ids=["balanced", "unbalanced"])


def drawn(objects, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(objects, width, generator=generator, dtype=dtype), dim=1)


def logits_drawn(objects, classes, seed=0):
    return torch.randn(objects, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters(centres, labels, seed=0, spread=0.1):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), centres.shape[1], generator=generator, dtype=centres.dtype)
    return normalize(centres[labels] + spread * noise, dim=1)


def central_differences(value, at, step=1e-5):
    """∂value/∂at for every number of `at`."""
    gradient = torch.zeros_like(at)
    for index in range(at.numel()):
        shift = torch.zeros_like(at)
        shift.view(-1)[index] = step
        gradient.view(-1)[index] = (value(at + shift) - value(at - shift)) / (2 * step)
    return gradient


def identity_plan(x, y, config, x_weights=None):
    """The plan itself: every source object a class of its own."""
    own = torch.arange(len(x))
    labels, mass = transported_labels(x, own, y, torch.zeros(len(y), len(x), dtype=x.dtype), config, x_weights)
    return (labels * mass[:, None]).T


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0),
        ("epsilon", float("nan")),
        ("unbalanced", -1.0),
        ("unbalanced", float("inf")),
        ("prediction_weight", -0.1),
        ("iterations", 0),
    ],
)
def test_a_value_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        TransportConfig(**{name: value})


def test_cost_by_hand():
    x, y = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [-1, 0], [0.6, 0.8]])
    assert torch.allclose(cost(x, y), torch.tensor([[0, 4, 0.8], [2, 2, 0.4]]))
    predictions = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 4.0]]).log()
    joint = cost(x, y, torch.tensor([0, 1]), predictions, prediction_weight=2.0)
    disagreement = -torch.tensor([[0.75, 0.5, 0.2], [0.25, 0.5, 0.8]]).log()
    assert torch.allclose(joint, cost(x, y) + 2 * disagreement)


def test_a_cost_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="at least one object"):
        cost(drawn(0), drawn(3))
    with pytest.raises(ValueError, match="6 wide"):
        cost(drawn(2), drawn(3, width=5))
    with pytest.raises(ValueError, match="give source labels"):
        cost(drawn(2), drawn(3), prediction_weight=1.0)


@pytest.mark.parametrize("weights", [torch.ones(3), -torch.ones(4), torch.zeros(4), torch.full((4,), torch.nan)])
def test_weights_that_are_no_measure_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        sinkhorn_divergence(drawn(4), drawn(3), BALANCED, x_weights=weights)


def test_small_epsilon_gives_the_exact_transport_cost():
    x, y = drawn(7), drawn(5, seed=1)
    a = torch.linspace(1, 2, 7, dtype=torch.float64)
    a, b = a / a.sum(), torch.full((5,), 0.2, dtype=torch.float64)
    exact = ot.emd2(a, b, cost(x, y)).item()
    sharp = TransportConfig(epsilon=1e-3, iterations=5_000)
    assert sinkhorn_divergence(x, y, sharp, a).item() == pytest.approx(exact, rel=5e-3)


def test_the_balanced_plan_has_the_given_marginals():
    a = torch.linspace(1, 2, 30, dtype=torch.float64)
    a = a / a.sum()
    plan = identity_plan(drawn(30), drawn(20, seed=1), BALANCED, a)
    assert torch.allclose(plan.sum(1), a, atol=1e-6)
    assert torch.allclose(plan.sum(0), torch.full((20,), 0.05, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("reach", [0.1, 1.0, 10.0])
def test_the_unbalanced_plan_is_that_of_pot_where_its_kernel_does_not_vanish(reach):
    x, y = drawn(12), drawn(9, seed=1)
    moving = cost(x, y)
    config = TransportConfig(epsilon=0.2, unbalanced=reach, iterations=300)
    a, b = (torch.full((n,), 1 / n, dtype=torch.float64) for n in (12, 9))
    scale = moving.mean().item()
    expected = ot.unbalanced.sinkhorn_unbalanced(
        a, b, moving, 0.2 * scale, reach * scale, numItermax=50_000, stopThr=1e-14
    )
    assert torch.allclose(identity_plan(x, y, config), expected, atol=1e-8)


@pytest.mark.parametrize("reach", [0.1, 1.0, 10.0])
def test_the_unbalanced_value_is_that_of_its_primal(reach):
    x, y = drawn(12), drawn(9, seed=1)
    a, b = (torch.full((n,), m / n, dtype=torch.float64) for n, m in ((12, 1.0), (9, 0.7)))
    config = TransportConfig(epsilon=0.2, unbalanced=reach, iterations=300)
    scale = cost(x, y).mean()
    epsilon, rho = 0.2 * scale.item(), reach * scale.item()

    def divergence(p, q):
        return (p * (p / q).log() - p + q).sum().item()

    def primal(moving, a, b):  # POT's own total leaves the masses out of its divergences, and so is always 0
        plan = ot.unbalanced.sinkhorn_unbalanced(a, b, moving, epsilon, rho, numItermax=50_000, stopThr=1e-14)
        relaxed = divergence(plan.sum(1), a) + divergence(plan.sum(0), b)
        return (plan * moving).sum().item() + epsilon * divergence(plan, a[:, None] * b) + rho * relaxed

    expected = primal(cost(x, y), a, b) - 0.5 * (primal(cost(x, x), a, a) + primal(cost(y, y), b, b))
    expected += 0.5 * epsilon * (a.sum() - b.sum()).item() ** 2
    assert sinkhorn_divergence(x, y, config, a, b).item() == pytest.approx(expected, abs=1e-8)


def test_much_relaxation_is_balanced_transport():
    x, y = drawn(12), drawn(9, seed=1)
    loose = sinkhorn_divergence(x, y, TransportConfig(unbalanced=1e4))
    assert loose.item() == pytest.approx(sinkhorn_divergence(x, y, BALANCED).item(), rel=1e-3)


@BOTH
def test_equal_clouds_in_any_order_are_at_distance_zero(config):
    x = drawn(20)
    turned = x[torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    assert sinkhorn_divergence(x, x, config).item() == pytest.approx(0, abs=1e-12)
    assert sinkhorn_divergence(x, turned, config).item() == pytest.approx(0, abs=1e-9)


@BOTH
def test_a_point_twice_is_the_point_with_twice_the_weight(config):
    x, y = drawn(6), drawn(5, seed=1)
    doubled = torch.cat([x, x[:1]])
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1], dtype=torch.float64) / 7
    assert sinkhorn_divergence(x, doubled, config, weights).item() == pytest.approx(0, abs=1e-9)
    given = cost(x, y).mean()  # one scale for both: the mean of the cost counts points, not weights
    merged = debiased(cost(x, y), cost(x, x), cost(y, y), config, weights, scale=given)
    apart = debiased(cost(doubled, y), cost(doubled, doubled), cost(y, y), config, scale=given)
    assert apart.item() == pytest.approx(merged.item(), abs=1e-6)


@BOTH
@pytest.mark.parametrize("step", [1e-3, 0.03, 1.0])
def test_the_divergence_is_never_negative_and_symmetric(config, step):
    for seed in range(5):
        x = drawn(12, seed=seed)
        y = normalize(x + step * drawn(12, seed=seed + 100), dim=1)[: 12 - seed]
        there, back = sinkhorn_divergence(x, y, config).item(), sinkhorn_divergence(y, x, config).item()
        assert there >= -1e-9
        assert there == pytest.approx(back, rel=0.02, abs=1e-9)


def test_an_unbalanced_divergence_counts_a_difference_in_mass():
    x = drawn(8)
    whole, half = torch.full((8,), 1 / 8, dtype=torch.float64), torch.full((8,), 1 / 16, dtype=torch.float64)
    assert sinkhorn_divergence(x, x, UNBALANCED, whole, half).item() > 1e-3
    assert sinkhorn_divergence(x, x, BALANCED, whole, half).item() == pytest.approx(0, abs=1e-12), "shapes only"


@pytest.mark.parametrize(("unbalanced", "iterations"), [(None, 300), (0.5, 60)], ids=["balanced", "unbalanced"])
def test_the_gradient_is_that_of_finite_differences(unbalanced, iterations):
    config = TransportConfig(epsilon=0.2, unbalanced=unbalanced, iterations=iterations)  # until converged
    x, y, labels, logits = drawn(5, 3), drawn(4, 3, seed=1), torch.tensor([0, 1, 2, 0, 1]), logits_drawn(4, 3)
    a = torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2], dtype=torch.float64)
    scale = cost(x, y, labels, logits, 0.5).mean()

    def value(x, y, logits):
        return debiased(cost(x, y, labels, logits, 0.5), cost(x, x), cost(y, y), config, a, scale=scale)

    leaves = [x.clone().requires_grad_(), y.clone().requires_grad_(), logits.clone().requires_grad_()]
    value(*leaves).backward()
    differences = [
        central_differences(lambda at: value(at, y, logits), x),
        central_differences(lambda at: value(x, at, logits), y),
        central_differences(lambda at: value(x, y, at), logits),
    ]
    for leaf, expected in zip(leaves, differences, strict=True):
        assert torch.allclose(leaf.grad, expected, atol=1e-7), "the envelope theorem's gradient is not the value's"


@BOTH
def test_following_the_gradient_brings_the_target_to_the_source(config):
    source, free = drawn(16), drawn(16, seed=1).requires_grad_()
    distances = []
    for _ in range(30):
        loss = alignment(source, None, normalize(free, dim=1), None, config)
        (gradient,) = torch.autograd.grad(loss, free)
        free = (free - 4 * gradient).detach().requires_grad_()
        distances.append(loss.item())
    assert distances[-1] < 0.3 * distances[0], distances


def test_alignment_moves_the_target_only():
    config = TransportConfig(prediction_weight=0.5)
    source, target, logits = drawn(6).requires_grad_(), drawn(5, seed=1).requires_grad_(), logits_drawn(5, 3)
    logits.requires_grad_()
    alignment(source, torch.tensor([0, 0, 1, 1, 2, 2]), target, logits, config).backward()
    assert source.grad is None
    assert target.grad.abs().sum() > 0
    assert logits.grad.abs().sum() > 0


def test_predictions_in_the_cost_never_lower_the_loss_at_equal_scale():
    x, y, labels, logits = drawn(8), drawn(6, seed=1), torch.arange(8) % 3, logits_drawn(6, 3)
    scale = cost(x, y).mean()
    plain = debiased(cost(x, y), cost(x, x), cost(y, y), BALANCED, scale=scale)
    joint = debiased(cost(x, y, labels, logits, 0.3), cost(x, x), cost(y, y), BALANCED, scale=scale)
    assert joint.item() > plain.item() >= 0


def test_source_weights_in_the_targets_shares_align_what_uniform_ones_cannot():
    centres = torch.eye(3, 8, dtype=torch.float64)
    labels, skewed = torch.arange(12) % 3, torch.tensor([0] * 10 + [1, 2])
    source, target = clusters(centres, labels), clusters(centres, skewed, seed=1)
    prior = torch.tensor([10, 1, 1], dtype=torch.float64) / 12
    informed = alignment(source, labels, target, None, BALANCED, (prior / 4)[labels])
    assert informed.item() < 0.3 * alignment(source, labels, target, None, BALANCED).item()


def test_transported_labels_are_those_of_the_nearest_cluster():
    centres = torch.eye(3, 8, dtype=torch.float64)
    labels, truth = torch.arange(12) % 3, torch.tensor([2, 0, 1, 1, 0, 2])
    soft, mass = transported_labels(
        clusters(centres, labels), labels, clusters(centres, truth, seed=1), torch.zeros(6, 4), BALANCED
    )
    assert soft.shape == (6, 4)
    assert torch.equal(soft.argmax(1), truth)
    assert torch.allclose(soft.sum(1), torch.ones(6, dtype=torch.float64))
    assert torch.allclose(mass, torch.full((6,), 1 / 6, dtype=torch.float64), atol=1e-4)


def test_predictions_in_the_cost_decide_between_equally_near_classes():
    source, labels = torch.eye(2, 3, dtype=torch.float64), torch.tensor([0, 1])
    target = normalize(torch.tensor([[1.0, 1, 0], [1, 1, 0]], dtype=torch.float64), dim=1)
    logits = torch.tensor([[4.0, 0], [0, 4]], dtype=torch.float64)
    soft, _ = transported_labels(source, labels, target, logits, TransportConfig(prediction_weight=1.0))
    assert torch.equal(soft.argmax(1), labels)
    undecided, _ = transported_labels(source, labels, target, logits, BALANCED)
    assert torch.allclose(undecided, torch.full((2, 2), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unbalanced_transport_leaves_an_outlier_out(dtype):
    centres = torch.eye(2, 8, dtype=dtype)
    labels = torch.arange(10) % 2
    source, target = clusters(centres, labels), clusters(centres, labels, seed=1)
    outlier = 20 * torch.eye(8, dtype=dtype)[7:]  # far off: exp(−C/ε) is 0
    config = TransportConfig(unbalanced=0.1)
    soft, mass = transported_labels(source, labels, torch.cat([target, outlier]), torch.zeros(11, 2), config)
    assert mass[-1] < 1e-3 * mass[:-1].min(), "the outlier must get next to no mass"
    assert torch.allclose(mass[:-1], torch.full((10,), 1 / 11, dtype=dtype), rtol=0.2), "the others must keep theirs"
    assert torch.isfinite(soft).all()
    assert torch.allclose(soft.sum(1), torch.ones(11, dtype=dtype))


@BOTH
@pytest.mark.parametrize(("sources", "targets"), [(1, 1), (1, 7), (7, 1)])
def test_one_object_on_a_side_is_enough(config, sources, targets):
    x, y = drawn(sources).requires_grad_(), drawn(targets, seed=1).requires_grad_()
    loss = sinkhorn_divergence(x, y, config)
    loss.backward()
    assert loss.item() > 0
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()
    soft, mass = transported_labels(x, torch.zeros(sources, dtype=torch.long), y, torch.zeros(targets, 1), config)
    assert torch.equal(soft, torch.ones_like(soft)), "one class: every target object is of it"
    assert torch.isfinite(mass).all()


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_points_give_zero_and_no_pull(config, dtype):
    x = drawn(1, dtype=dtype).expand(5, -1)
    y = x[:3].clone().requires_grad_()
    loss = alignment(x, None, y, None, config)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(y.grad, torch.zeros_like(y), atol=1e-5)


@BOTH
def test_a_class_of_prior_zero_takes_no_part(config):
    x, y, weights = drawn(6), drawn(5, seed=1).requires_grad_(), torch.tensor([0.0, 0.25, 0.25, 0.25, 0.25, 0])
    loss = sinkhorn_divergence(x, y, config, weights)
    loss.backward()
    assert torch.isfinite(y.grad).all()
    scale = cost(x, y.detach()).mean()
    inner = x[1:5]
    without = debiased(cost(inner, y), cost(inner, inner), cost(y, y), config, scale=scale)
    assert loss.item() == pytest.approx(without.item(), abs=1e-6)


@BOTH
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(config, precision):
    config = dataclasses.replace(config, prediction_weight=0.5)
    x, y, labels = drawn(8).to(precision), drawn(6, seed=1).to(precision).requires_grad_(), torch.arange(8) % 3
    logits = (30 * logits_drawn(6, 3)).to(precision)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = alignment(x, labels, y, logits, config)
        soft, mass = transported_labels(x, labels, y, logits, config)
    loss.backward()
    single = alignment(x.float(), labels, y.float(), logits.float(), config)
    assert loss.dtype == soft.dtype == mass.dtype == torch.float32
    assert loss.item() == pytest.approx(single.item(), rel=1e-6)
    assert torch.isfinite(y.grad).all()
