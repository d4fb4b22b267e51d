"""Class statistics as a linear head: log densities, their sum with the words, and other classes than the known ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import SHRINK, for_classes, fused_head, gaussian_head

KNOWN = ("mug", "box", "tin")
WIDTH = 4


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics(seed=0, weights=(0.5, 2.0)):
    """Of three classes in four channels that vary together."""
    spread = drawn(WIDTH, WIDTH, seed=seed)
    return ClassStatistics(
        drawn(len(KNOWN), WIDTH, seed=seed + 1), spread @ spread.T, torch.tensor([4.0, 9.0, 1.0]), torch.tensor(weights)
    )


def logits(head, features):
    weight, bias = head
    return features @ weight.T + bias


def between(rows):
    """What remains where all that the classes share is taken away."""
    return rows - rows.mean(-1, keepdims=True)


# Densities


@pytest.mark.parametrize("seed", range(3))
def test_the_head_tells_classes_apart_as_the_shrunk_gaussians_densities_do(seed):
    told, features = statistics(seed), drawn(20, WIDTH, seed=7)
    covariance = told.covariance.double().numpy()
    shrunk = (1 - SHRINK) * covariance + SHRINK * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    densities = [multivariate_normal(mean, shrunk).logpdf(features) for mean in told.mean.double().numpy()]
    said = logits(gaussian_head(told), features).numpy()
    np.testing.assert_allclose(between(said), between(np.stack(densities, 1)), rtol=1e-3, atol=1e-3)


def test_the_head_of_two_channels_by_hand():
    told = ClassStatistics(torch.eye(2), torch.diag(torch.tensor([4.0, 0.0])), torch.ones(2), torch.ones(2))
    weight, bias = gaussian_head(told)
    # 3 % of the mean spread 2 in each channel, 97 % of its own.
    wide, narrow = 0.97 * 4 + 0.03 * 2, 0.03 * 2
    torch.testing.assert_close(weight, torch.tensor([[1 / wide, 0], [0, 1 / narrow]]))
    torch.testing.assert_close(bias, torch.tensor([-0.5 / wide, -0.5 / narrow]))


def test_a_feature_in_the_middle_of_two_means_is_of_either_class():
    told = statistics()
    middle = (told.mean[:1] + told.mean[1:2]) / 2
    one, other, _ = logits(gaussian_head(told), middle)[0]
    assert float(one) == pytest.approx(float(other), abs=1e-3)


def test_a_class_is_likeliest_at_its_own_mean():
    told = statistics()
    assert logits(gaussian_head(told), told.mean).argmax(1).tolist() == [0, 1, 2]


def test_turning_all_features_turns_the_head():
    told = statistics()
    turn, _ = torch.linalg.qr(drawn(WIDTH, WIDTH, seed=5))
    turned = replace(told, mean=told.mean @ turn.T, covariance=turn @ told.covariance @ turn.T)
    weight, bias = gaussian_head(told)
    turned_weight, turned_bias = gaussian_head(turned)
    torch.testing.assert_close(turned_weight, weight @ turn.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(turned_bias, bias, rtol=1e-3, atol=1e-3)


def test_how_many_objects_of_a_class_were_seen_does_not_make_it_likelier():
    told = statistics()
    for ours, theirs in zip(gaussian_head(told), gaussian_head(replace(told, count=10 * told.count)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("directions", [0, 1, 2])
def test_a_covariance_of_few_directions_gives_a_finite_head(directions):
    told = statistics()
    spread = drawn(WIDTH, directions, seed=4)
    weight, bias = gaussian_head(replace(told, covariance=spread @ spread.T))
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()
    assert logits((weight, bias), told.mean).argmax(1).tolist() == [0, 1, 2]


# With the words


@pytest.mark.parametrize("weights", [(0.5, 2.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_the_fused_head_is_the_weighted_sum_of_words_and_densities(weights):
    told, text, features = statistics(weights=weights), drawn(3, WIDTH, seed=2), drawn(20, WIDTH, seed=7)
    words, densities = 30.0 * features @ text.T, logits(gaussian_head(told), features)
    said = logits(fused_head(text, 30.0, told), features)
    torch.testing.assert_close(said, weights[0] * words + weights[1] * densities, rtol=1e-4, atol=1e-3)


# Other classes


def test_the_same_classes_keep_their_statistics():
    told, text = statistics(), drawn(3, WIDTH, seed=2)
    same = for_classes(told, KNOWN, text, KNOWN, text)
    for name, value in vars(told).items():
        assert torch.equal(getattr(same, name), value), name


def test_classes_in_another_order_keep_their_own_statistics():
    told, text, order = statistics(), drawn(3, WIDTH, seed=2), [2, 0, 1]
    names = tuple(KNOWN[i] for i in order)
    turned = for_classes(told, KNOWN, text, names, text[order])
    assert torch.equal(turned.mean, told.mean[order])
    assert torch.equal(turned.count, told.count[order])
    back = for_classes(turned, names, text[order], KNOWN, text)
    assert torch.equal(back.mean, told.mean)


def test_a_new_class_starts_from_its_words_moved_as_the_known_ones_are():
    told, text = statistics(), drawn(3, WIDTH, seed=2)
    lamp = drawn(1, WIDTH, seed=3)
    served = for_classes(told, KNOWN, text, ("tin", "lamp", "mug"), torch.cat([text[2:], lamp, text[:1]]))
    torch.testing.assert_close(served.mean[1] - lamp[0], told.mean.mean(0) - text.mean(0))
    assert torch.equal(served.mean[[0, 2]], told.mean[[2, 0]]), "a known class is moved by a new one"
    assert served.count.tolist() == [1, 0, 4]
    assert torch.equal(served.covariance, told.covariance)
    assert torch.equal(served.weights, told.weights)


def test_classes_none_of_which_is_known_differ_by_their_words_alone():
    told, text, other = statistics(), drawn(3, WIDTH, seed=2), drawn(5, WIDTH, seed=3)
    served = for_classes(told, KNOWN, text, ("a", "b", "c", "d", "e"), other)
    torch.testing.assert_close(served.mean - served.mean.mean(0), other - other.mean(0))
    assert served.count.tolist() == [0] * 5


def test_a_known_classes_logits_do_not_depend_on_the_classes_beside_it():
    told, text, features = statistics(), drawn(3, WIDTH, seed=2), drawn(20, WIDTH, seed=7)
    both = torch.cat([drawn(2, WIDTH, seed=3), text[1:2]])
    served = for_classes(told, KNOWN, text, ("lamp", "hat", "box"), both)
    alone = logits(fused_head(text, 30.0, told), features)[:, 1]
    torch.testing.assert_close(logits(fused_head(both, 30.0, served), features)[:, 2], alone)


def test_asking_for_other_classes_leaves_statistics_and_words_as_they_were():
    told, text = statistics(), drawn(3, WIDTH, seed=2)
    before, words = {name: value.clone() for name, value in vars(told).items()}, text.clone()
    for_classes(told, KNOWN, text, ("box", "lamp", "tin"), text)
    assert torch.equal(text, words)
    assert all(torch.equal(getattr(told, name), value) for name, value in before.items())
