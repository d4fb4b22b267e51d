"""The training losses over views and predictions (METHOD 5): tensors in, one scalar out.

Optimal transport and prototypes have modules of their own. All of them compute in float32 at least, whatever the
inputs' precision and inside autocast too: entropies and transport plans do not survive half precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.recognition.selection import entropy

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function with its half-precision tensors widened to float32 and autocast off; float64 stays float64."""

    def widened(argument: Any) -> Any:
        half = isinstance(argument, Tensor) and argument.dtype in (torch.float16, torch.bfloat16)
        return argument.float() if half else argument

    @functools.wraps(function)
    def wide(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*map(widened, args), **{name: widened(value) for name, value in kwargs.items()})

    return wide


@full_precision
def certainty(probabilities: Tensor) -> Tensor:
    """How sure each prediction is: 1 − H(p) / log C (METHOD 5, the weight of L_proto).

    Args:
        probabilities: (..., C), rows summing to 1.

    Returns:
        (...) in [0, 1]; 1 for a one-hot row, 0 for a uniform one.

    Raises:
        ValueError: C < 2, where entropy says nothing.
    """
    classes = probabilities.shape[-1]
    if classes < 2:
        raise ValueError(f"certainty of {classes} class(es): entropy compares at least 2")
    return (1 - entropy(probabilities) / math.log(classes)).clamp(0, 1)


@full_precision
def selected_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """Σ_v w[b, v]·ℓ[b, v, c]: the mean over the views that speak for each object (METHOD 4).

    Args:
        logits: (B, V, C).
        weights: (B, V), rows summing to 1, as `recognition.selection` gives them.

    Returns:
        (B, C).
    """
    return (logits * weights[..., None]).sum(1)


@full_precision
def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """−Σ_c q_c log softmax(ℓ)_c, mean over objects; q = (1 − s)·onehot + s/C (METHOD 5, L_ce).

    Args:
        logits: (B, C).
        labels: (B,) class indices.
        smoothing: s, in [0, 1].

    Returns:
        () loss.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


@full_precision
def orthogonality(alignment: Tensor) -> Tensor:
    """‖AAᵀ − I‖_F, mean over objects (METHOD 5, L_ortho); its gradient at an orthogonal A is 0.

    Args:
        alignment: (B, K, K), the point encoder's feature alignment, K = 64.

    Returns:
        () loss.
    """
    identity = torch.eye(alignment.shape[-1], dtype=alignment.dtype, device=alignment.device)
    return torch.linalg.matrix_norm(alignment @ alignment.mT - identity).mean()


@full_precision
def confidence(logits: Tensor, weights: Tensor) -> Tensor:
    """H(Σ_v w[b, v]·softmax_c(ℓ[b, v])), mean over objects (METHOD 5, L_conf).

    It normalises over classes, never over the batch, unlike the released code, where a collapsed batch scores like
    a uniform one and objects of one class drive each other to wrong ones: here no object's term knows of another.

    Args:
        logits: (B, V, C).
        weights: (B, V) of the kept views, rows summing to 1 (`recognition.selection.keep_certain`).

    Returns:
        () loss in nats, in [0, log C].
    """
    mean = (logits.softmax(-1) * weights[..., None]).sum(1)
    return entropy(mean).mean()


@full_precision
def consistency(student: Tensor, teacher: Tensor) -> Tensor:
    """w·KL(softmax(teacher) ‖ softmax(student)), mean over objects; w = certainty(softmax(teacher)).

    Between an object's sensor-facing views, the teacher, and its others (METHOD 8: those are confidently wrong). The
    teacher gets no gradient. The mean is over all objects, not over Σw: a batch of unsure teachers teaches little.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits.

    Returns:
        () loss, ≥ 0.

    Raises:
        ValueError: C < 2.
    """
    believed = teacher.detach().log_softmax(-1)
    divergence = F.kl_div(student.log_softmax(-1), believed, reduction="none", log_target=True).sum(-1)
    return (certainty(believed.exp()) * divergence).mean()
