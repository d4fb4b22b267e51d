"""Optimal-transport alignment of target with source embeddings (METHOD 5, L_OT).

Entropic transport between weighted clouds, debiased so that equal clouds are at distance 0; optionally with the
target's predictions in the cost (DeepJDOT), optionally unbalanced, so that the domains' different class shares and
objects of no known class need not be matched. Every value is the dual at fixed potentials, so that automatic
differentiation gives the envelope theorem's gradient, plan · ∂cost, and an unconverged solve errs only to second order.

References:
    Feydy et al., Interpolating between Optimal Transport and MMD using Sinkhorn Divergences, AISTATS 2019.
    Séjourné et al., Sinkhorn Divergences for Unbalanced Optimal Transport, arXiv 1910.12958, 2019.
    Séjourné, Vialard, Peyré, Faster Unbalanced Optimal Transport, AISTATS 2022 (the shift between potentials).
    Damodaran et al., DeepJDOT, ECCV 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.adaptation.losses import full_precision

MIN_SCALE = 1e-6  # squared distance below which unit float32 features are the same


@dataclass(frozen=True)
class TransportConfig:
    """How embeddings are transported; the cost's scale is its mean, as a constant.

    Raises:
        ValueError: a value outside its range.
    """

    epsilon: float = 0.05  # entropic blur, share of the cost's scale
    unbalanced: float | None = None  # price of creating or destroying mass, share of the cost's scale; None forbids it
    prediction_weight: float = 0.0  # what a target's disagreement with a label, in nats, adds to the cost
    iterations: int = 100  # of Sinkhorn, at most

    def __post_init__(self) -> None:
        positive = {"epsilon": self.epsilon, "iterations": self.iterations}
        if self.unbalanced is not None:
            positive["unbalanced"] = self.unbalanced
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"transport's {name} is {value}; it must be finite and above 0")
        if not (math.isfinite(self.prediction_weight) and self.prediction_weight >= 0):
            raise ValueError(f"transport's prediction_weight is {self.prediction_weight}; it must be finite and ≥ 0")


@full_precision
def cost(
    source_features: Tensor,
    target_features: Tensor,
    source_labels: Tensor | None = None,
    target_logits: Tensor | None = None,
    prediction_weight: float = 0.0,
) -> Tensor:
    """‖x_i − y_j‖² + λ·(−log softmax(ℓ_j)[label_i]): what moving source i to target j costs (DeepJDOT).

    Args:
        source_features: (N, D), unit.
        target_features: (M, D), unit.
        source_labels: (N,) class indices, needed if λ > 0.
        target_logits: (M, C), needed if λ > 0.
        prediction_weight: λ.

    Returns:
        (N, M), ≥ 0.

    Raises:
        ValueError: a cloud is empty, widths differ, or λ > 0 without labels or logits.
    """
    if 0 in source_features.shape or 0 in target_features.shape:
        shapes = f"{tuple(source_features.shape)} and {tuple(target_features.shape)}"
        raise ValueError(f"transport between features of shapes {shapes}: each needs at least one object")
    if source_features.shape[1] != target_features.shape[1]:
        raise ValueError(f"source features are {source_features.shape[1]} wide, target's {target_features.shape[1]}")
    squares = source_features.square().sum(1)[:, None] + target_features.square().sum(1)
    distances = (squares - 2 * source_features @ target_features.mT).clamp_min(0)
    if prediction_weight == 0:
        return distances
    if source_labels is None or target_logits is None:
        raise ValueError(f"prediction_weight is {prediction_weight}: give source labels and target logits, or set it 0")
    return distances - prediction_weight * target_logits.log_softmax(-1).mT[source_labels]


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    config: TransportConfig,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
) -> Tensor:
    """S(x, y) = OT(x, y) − ½OT(x, x) − ½OT(y, y) [+ ½ε(m_x − m_y)² if unbalanced] under ‖·‖².

    ≥ 0, and 0 for equal measures (Feydy et al. 2019; Séjourné et al. 2019), as far as the iterations converge. The
    gradient takes the cost's scale, hence ε, as a constant.

    Args:
        x: (N, D).
        y: (M, D).
        config: ε, relaxation and iterations; `prediction_weight` plays no part.
        x_weights: (N,) ≥ 0, uniform with sum 1 if None. Balanced transport divides weights by their sum.
        y_weights: (M,) likewise.

    Returns:
        () in the cost's units; differentiable in x and y, not in the weights.

    Raises:
        ValueError: an empty cloud, or weights of a wrong shape, negative or all 0.
    """
    return debiased(cost(x, y), cost(x, x), cost(y, y), config, x_weights, y_weights)


def alignment(
    source_features: Tensor,
    source_labels: Tensor | None,
    target_features: Tensor,
    target_logits: Tensor | None,
    config: TransportConfig,
    source_weights: Tensor | None = None,
) -> Tensor:
    """L_OT = S(source, target): the target's embeddings move to the source's, which stand still (METHOD 5).

    With `prediction_weight` the cross term has the joint cost, the self terms the features' only; it stays ≥ 0, as
    the joint cost is nowhere the smaller.

    Args:
        source_features: (N, D), unit; gets no gradient.
        source_labels: (N,) class indices, needed with `prediction_weight`.
        target_features: (M, D), unit.
        target_logits: (M, C), needed with `prediction_weight`, and then gets a gradient.
        config: how to transport.
        source_weights: (N,) summing to 1, for instance the target's estimated class prior shared out among each
            class's objects; uniform if None.

    Returns:
        () loss.

    Raises:
        ValueError: as `cost` and `sinkhorn_divergence`.
    """
    source = source_features.detach()
    cross = cost(source, target_features, source_labels, target_logits, config.prediction_weight)
    return debiased(cross, cost(source, source), cost(target_features, target_features), config, source_weights)


@torch.no_grad()
@full_precision
def transported_labels(
    source_features: Tensor,
    source_labels: Tensor,
    target_features: Tensor,
    target_logits: Tensor,
    config: TransportConfig,
    source_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft labels Pᵀ·onehot(labels) / Pᵀ1 and the mass Pᵀ1 that reaches each target object.

    Args:
        source_features: (N, D), unit.
        source_labels: (N,) class indices below C.
        target_features: (M, D), unit.
        target_logits: (M, C); their values count only with `prediction_weight`.
        config: how to transport.
        source_weights: (N,), as in `alignment`.

    Returns:
        labels (M, C), rows summing to 1 even where no mass arrives, and mass (M,): 1/M each if balanced and converged;
        if unbalanced, far less for an object that nothing in the source resembles, which is then better left out.

    Raises:
        ValueError: as `cost` and `sinkhorn_divergence`.
    """
    moving = cost(source_features, target_features, source_labels, target_logits, config.prediction_weight)
    a, b = _weights(source_weights, moving, 0, config), _weights(None, moving, 1, config)
    scale = _scale(moving)
    log_plan = _log_plan(moving, a, b, *_potentials(moving, a, b, config, scale), config.epsilon * scale)
    onehot = F.one_hot(source_labels, target_logits.shape[1]).to(log_plan.dtype)
    return log_plan.softmax(0).mT @ onehot, log_plan.exp().sum(0)


@full_precision
def debiased(
    cross: Tensor,
    within_x: Tensor,
    within_y: Tensor,
    config: TransportConfig,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """The Sinkhorn divergence (see there) of given costs.

    Args:
        cross: (N, M) cost between the clouds.
        within_x: (N, N) cost within x, symmetric.
        within_y: (M, M) cost within y, symmetric.
        config: ε, relaxation and iterations.
        x_weights: (N,) or None.
        y_weights: (M,) or None.
        scale: () the cost's unit; the mean of `cross`, as a constant, if None.

    Returns:
        (); differentiable in the costs.

    Raises:
        ValueError: weights of a wrong shape, negative or all 0.
    """
    scale = _scale(cross) if scale is None else scale
    a, b = _weights(x_weights, cross, 0, config), _weights(y_weights, cross, 1, config)
    mass_bias = 0.5 * config.epsilon * scale * (a.sum() - b.sum()).square()
    self_terms = _transport(within_x, a, a, config, scale) + _transport(within_y, b, b, config, scale)
    return _transport(cross, a, b, config, scale) - 0.5 * self_terms + mass_bias


def _transport(cost: Tensor, a: Tensor, b: Tensor, config: TransportConfig, scale: Tensor) -> Tensor:
    """min_P ⟨P, C⟩ + ε·KL(P ‖ abᵀ) [+ ρ·KL(P1 ‖ a) + ρ·KL(Pᵀ1 ‖ b)], as its dual: ∂/∂C is the plan."""
    f, g = _potentials(cost.detach(), a, b, config, scale)
    epsilon = config.epsilon * scale
    plan = _log_plan(cost, a, b, f, g, epsilon).exp()
    if config.unbalanced is None:
        marginals = a @ f + b @ g
    else:
        reach = config.unbalanced * scale
        marginals = -reach * (a @ torch.expm1(-f / reach) + b @ torch.expm1(-g / reach))
    return marginals - epsilon * (plan.sum() - a.sum() * b.sum())


def _log_plan(cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: Tensor) -> Tensor:
    """(N, M) log P = (f ⊕ g − C)/ε + log abᵀ."""
    return (f[:, None] + g - cost) / epsilon + _log(a)[:, None] + _log(b)


@torch.no_grad()
def _potentials(cost: Tensor, a: Tensor, b: Tensor, config: TransportConfig, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The dual potentials f (N,), g (M,) in the cost's units, by Sinkhorn's iteration in the log domain.

    Balanced: POT's `sinkhorn_log`. Unbalanced: POT 0.9.7 has no solver in the log domain. All of its scale exp(−C/ε),
    which for an outlier is 0 in float32, the very case that unbalanced transport is for: they stop at the first
    iteration, and their total cost leaves the masses out. So the iteration is here, with the translation between the
    potentials solved exactly (Séjourné et al. 2022): without it, large relaxations converge slowly.
    """
    epsilon = config.epsilon * scale
    log_a, log_b = _log(a), _log(b)
    if config.unbalanced is None:
        import ot  # here, for it takes more than half a second, and learning on the robot is unbalanced

        tolerance = torch.finfo(cost.dtype).eps
        _, log = ot.bregman.sinkhorn_log(
            log_a.exp(), log_b.exp(), cost, epsilon, config.iterations, tolerance, log=True, warn=False
        )
        return epsilon * (log["log_u"] - log_a), epsilon * (log["log_v"] - log_b)
    reach = config.unbalanced * scale
    damped = epsilon * reach / (reach + epsilon)
    g = torch.zeros_like(b)
    for _ in range(config.iterations):
        f = -damped * torch.logsumexp(log_b + (g - cost) / epsilon, 1)
        g = -damped * torch.logsumexp(log_a[:, None] + (f[:, None] - cost) / epsilon, 0)
        shift = 0.5 * reach * (torch.logsumexp(log_a - f / reach, 0) - torch.logsumexp(log_b - g / reach, 0))
        f, g = f + shift, g - shift
    return f, g


def _scale(cost: Tensor) -> Tensor:
    return cost.detach().mean().clamp_min(MIN_SCALE)


def _log(weights: Tensor) -> Tensor:
    """The logarithm, with 0 taken as the least number there is: potentials stay finite."""
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()


def _weights(weights: Tensor | None, cost: Tensor, side: int, config: TransportConfig) -> Tensor:
    """The measure on one side of the cost: uniform if none is given, of sum 1 if balanced."""
    size = cost.shape[side]
    if weights is None:
        return cost.new_full((size,), 1 / size)
    if weights.shape != (size,):
        raise ValueError(f"{('x', 'y')[side]} weights have shape {tuple(weights.shape)} for {size} objects")
    if not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
        raise ValueError("weights must be finite and ≥ 0, and some above 0")
    weights = weights.detach().to(cost)
    return weights / weights.sum() if config.unbalanced is None else weights
