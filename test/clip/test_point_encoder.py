"""PointNet: a set of points has no order, and a target's batch does not move what normalises every later cloud."""

import pytest
import torch
from torch import nn

from clipoint3d_ros.clip.point_encoder import Alignment, PointNet, kept_statistics


def clouds(count=4, points=40, seed=0):
    return torch.rand(count, points, 3, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6


def moved(module, step=0.05, seed=1):
    """The module with every parameter off where it began, so that no zero of the start hides a fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += step * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return module


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return moved(PointNet(24))


def statistics(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def test_the_order_of_points_means_nothing(encoder):
    encoder = encoder.double().eval()
    points = clouds().double()
    features, alignment = encoder(points)
    for seed in range(3):
        order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(seed))
        again, turned = encoder(points[:, order])
        assert (again - features).abs().max() < 1e-10, f"order {seed} of the points changes a cloud's features"
        assert (turned - alignment).abs().max() < 1e-10, f"order {seed} of the points changes a cloud's alignment"
    other, _ = encoder(clouds(seed=9).double())
    assert (other - features).abs().max() > 1e-4, "all clouds have the same features, so order cannot matter"


def test_a_cloud_in_use_does_not_depend_on_its_neighbours(encoder):
    encoder = encoder.double().eval()
    points = clouds().double()
    together, _ = encoder(points)
    for i in range(len(points)):
        alone, _ = encoder(points[i : i + 1])
        assert (alone[0] - together[i]).abs().max() < 1e-10, f"cloud {i} has other features alone than in a batch"


@pytest.mark.parametrize("training", [True, False])
def test_alignments_are_the_identity_before_training(training):
    torch.manual_seed(0)
    encoder = PointNet(24).train(training)
    points = clouds()
    features, alignment = encoder(points)
    assert features.shape == (4, 24), f"features are {tuple(features.shape)}, not one vector of 24 a cloud"
    assert alignment.shape == (4, 64, 64), f"the feature alignment is {tuple(alignment.shape)}"
    assert torch.equal(alignment, torch.eye(64).expand(4, 64, 64)), "the feature alignment starts off the identity"
    turned = encoder.align_points(points.transpose(1, 2))
    assert torch.equal(turned, torch.eye(3).expand(4, 3, 3)), "the alignment of points starts off the identity"


@pytest.mark.parametrize("channels", [3, 7])
def test_an_alignment_is_a_square_matrix_of_its_channels_for_each_cloud(channels):
    torch.manual_seed(0)
    matrices = moved(Alignment(channels)).eval()(torch.randn(5, channels, 12))
    assert matrices.shape == (5, channels, channels), f"alignments are {tuple(matrices.shape)}"
    assert (matrices[0] - matrices[1]).abs().max() > 0, "two clouds have the same alignment although it is trained"


def test_kept_statistics_are_bit_identical_and_a_plain_pass_moves_them(encoder):
    encoder.train()
    encoder(clouds(seed=1))  # running statistics that are no longer their initial values
    before = statistics(encoder)
    with kept_statistics(encoder):
        features, _ = encoder(clouds(seed=2) * 3)
    for name, buffer in statistics(encoder).items():
        assert torch.equal(buffer, before[name]), f"{name} moved within kept_statistics"
    assert all(m.training for m in encoder.modules()), "the encoder is not back in training mode"
    in_use, _ = encoder.eval()(clouds(seed=2) * 3)
    assert torch.equal(features, in_use), "within kept_statistics something else than running statistics normalises"
    by_batch, _ = encoder.train()(clouds(seed=2) * 3)
    assert (by_batch - features).abs().max() > 1e-3, "a training pass is normalised as if it were in use"
    unmoved = [name for name, buffer in statistics(encoder).items() if torch.equal(buffer, before[name])]
    assert not unmoved, f"a plain training pass left {unmoved} as they were"


def test_kept_statistics_let_gradients_through_and_one_cloud_pass(encoder):
    encoder.train()
    with kept_statistics(encoder):
        features, _ = encoder(clouds(count=1))
    features.sum().backward()
    assert encoder.first[0].weight.grad.abs().max() > 0, "a target's cloud trains nothing"


def test_kept_statistics_are_given_back_after_an_error_and_wake_no_sleeping_norm(encoder):
    encoder.train()
    encoder.align_points.eval()
    with pytest.raises(RuntimeError), kept_statistics(encoder):
        encoder(torch.zeros(2, 5, 4))
    norms = {name: m for name, m in encoder.named_modules() if isinstance(m, nn.BatchNorm1d)}
    for name, norm in norms.items():
        assert norm.training is not name.startswith("align_points."), f"{name} left kept_statistics in the other mode"


def test_every_parameter_gets_a_gradient(encoder):
    encoder.train()
    features, alignment = encoder(clouds())
    generator = torch.Generator().manual_seed(3)
    weights = (torch.randn(x.shape, generator=generator) for x in (features, alignment))
    sum((x * w).sum() for x, w in zip((features, alignment), weights, strict=True)).backward()
    unreached = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not unreached, f"no gradient reaches {unreached}"
