"""The target's class prior, from calibrated posteriors that know nothing of it."""

import pytest
import torch

from clipoint3d_ros.adaptation.priors import class_prior

SKEWED = torch.tensor([0.58, 0.2, 0.12, 0.07, 0.03])


def observed(prior, objects=3000, spread=0.5, seed=0):
    """Logits of objects drawn from the prior, exact for equally frequent classes: Gaussians about the unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(prior, objects, replacement=True, generator=generator)
    centres = torch.eye(len(prior))
    seen = centres[labels] + spread * torch.randn(objects, len(prior), generator=generator)
    return -torch.cdist(seen, centres).square() / (2 * spread**2)


@pytest.mark.parametrize("prior", [SKEWED, SKEWED.flip(0), torch.full((5,), 0.2), torch.tensor([0.96] + [0.01] * 4)])
def test_the_prior_of_the_target_is_found(prior):
    found = class_prior(observed(prior), iterations=100)
    assert torch.allclose(found, prior, atol=0.05), found
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_fifty_iterations_are_closer_than_the_mean_prediction():
    logits = observed(SKEWED, spread=0.8)
    naive = (logits.softmax(-1).mean(0) - SKEWED).abs().max()
    assert (class_prior(logits) - SKEWED).abs().max() < 0.5 * naive


def test_no_iterations_or_no_objects_give_the_uniform_prior():
    uniform = torch.full((5,), 0.2)
    assert torch.allclose(class_prior(observed(SKEWED), iterations=0), uniform)
    assert torch.allclose(class_prior(torch.zeros(0, 5)), uniform)


def test_more_strength_is_nearer_to_uniform():
    logits = observed(SKEWED, objects=50)
    distance = [(class_prior(logits, strength=s) - 0.2).abs().max().item() for s in (0.1, 1, 10, 100, 1e6)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-3


def test_one_certain_object_rules_no_class_out():
    found = class_prior(torch.tensor([[1e4, 0, 0, 0]]))
    assert torch.allclose(found, torch.tensor([0.625, 0.125, 0.125, 0.125])), "one object and one pseudo-count"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("logits", [[[0.0]], [[3e4, 0.0]], [[1.0, 2.0, 3.0]], [[3e4, -3e4], [-3e4, 3e4]]])
def test_the_prior_is_finite_and_sums_to_one(logits, dtype):
    found = class_prior(torch.tensor(logits, dtype=dtype, requires_grad=True), iterations=200)
    assert (found > 0).all()
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert not found.requires_grad


def test_no_strength_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        class_prior(torch.zeros(2, 3), strength=0)
