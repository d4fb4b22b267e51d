"""Class statistics gathered from labelled objects, and what they count beside the words."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.adaptation.statistics import fused, gather, of_words, weighed
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.calibration import fit_temperature
from clipoint3d_ros.recognition.statistics import gaussian_head

CLASSES, WIDTH = 3, 4


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def objects(each, seed=0):
    """Features (N, D) of unit spread around means (C, D) of which the first classes' are near, and their labels."""
    labels = torch.arange(CLASSES).repeat(each)
    means = 1.5 * torch.eye(CLASSES, WIDTH)
    return means[labels] + drawn(len(labels), WIDTH, seed=seed), labels


def words(labels, sure=3.0, seed=5):
    """Logits (N, C) that speak for the label, more or less loudly, with noise."""
    return sure * (F.one_hot(labels, CLASSES) + 0.7 * drawn(len(labels), CLASSES, seed=seed))


def summed(statistics, logits, features, weights=None):
    """Words and densities as served, by the statistics' own weights or others."""
    weight, bias = gaussian_head(statistics)
    first, second = statistics.weights if weights is None else weights
    return first * logits + second * (features @ weight.T + bias)


def counts(statistics, logits, features):
    """How much either part moves the sum: the spread of its logits about their mean, weighed."""
    weight, bias = gaussian_head(statistics)
    parts = torch.stack([logits, features @ weight.T + bias])
    spread = (parts - parts.mean(2, keepdim=True)).std(dim=(1, 2))
    return (statistics.weights * spread).tolist()


# Of the words


@pytest.mark.parametrize("temperature", [0.8, 2.0])
def test_statistics_of_the_words_say_what_the_words_say_calibrated(temperature):
    text, features = F.normalize(drawn(CLASSES, WIDTH), dim=1), drawn(9, WIDTH, seed=2)
    logits = 20.0 * features @ text.T
    told = of_words(text, 20.0, temperature)
    said = summed(told, logits, features)
    torch.testing.assert_close(said.softmax(-1), (logits / temperature).softmax(-1), rtol=1e-4, atol=1e-6)
    by_words, by_densities = counts(told, logits, features)
    assert by_words == pytest.approx(by_densities, rel=1e-4), "half for each"
    assert told.count.tolist() == [0] * CLASSES


# Gathered


def test_means_and_the_covariance_around_them_by_hand():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 5.0], [0.0, 3.0]])
    told = gather(features, torch.tensor([0, 0, 1, 1, 1]), 2)
    assert told.mean.tolist() == [[1, 0], [0, 3]]
    # The first class varies by 1 in the first channel, the second by 8/3 in the second; both count the same.
    torch.testing.assert_close(told.covariance, torch.tensor([[0.5, 0.0], [0.0, 4 / 3]]))
    assert told.count.tolist() == [2, 3]
    assert told.weights.tolist() == [1, 1]


def test_channels_that_vary_together_do_so_in_the_covariance():
    features, labels = objects(20)
    told = gather(features, labels, CLASSES)
    each = [torch.cov(features[labels == c].T, correction=0) for c in range(CLASSES)]
    torch.testing.assert_close(told.covariance, torch.stack(each).mean(0))
    assert torch.equal(told.covariance, told.covariance.T)
    assert torch.linalg.eigvalsh(told.covariance).min() > 0


def test_more_objects_of_one_class_do_not_make_it_count_more():
    features, labels = objects(6)
    one = gather(features, labels, CLASSES)
    often = torch.nonzero(labels == 1)[:, 0]
    rows = torch.cat([torch.arange(len(labels)), often, often])
    other = gather(features[rows], labels[rows], CLASSES)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.covariance, other.covariance)
    assert other.count.tolist() == [6, 18, 6]


def test_the_order_of_the_objects_does_not_matter_and_a_common_shift_moves_the_means_alone():
    features, labels = objects(6)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    one, other = gather(features, labels, CLASSES), gather(features[order] + 2, labels[order], CLASSES)
    torch.testing.assert_close(one.mean + 2, other.mean)
    torch.testing.assert_close(one.covariance, other.covariance, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("absent", range(3))
def test_a_class_without_objects_is_named(absent):
    features, labels = objects(4)
    there = labels != absent
    with pytest.raises(ValueError, match=f"class {absent} of 3 has no object to take statistics of"):
        gather(features[there], labels[there], CLASSES)


# Weighed


def test_words_and_statistics_together_are_their_weighed_sum_of_the_same_objects():
    features, labels = objects(10)
    told = replace(gather(features, labels, CLASSES), weights=torch.tensor([0.5, 2.0]))
    probe = Probe(words(labels), features, labels)
    both = fused(probe, told)
    torch.testing.assert_close(both.logits, summed(told, probe.logits, features))
    assert both.features is features
    assert both.labels is labels


@pytest.mark.parametrize("sure", [0.3, 3.0, 30.0])
def test_no_weights_of_a_grid_have_a_smaller_cross_entropy(sure):
    features, labels = objects(40)
    told, logits = gather(*objects(20, seed=1), CLASSES), words(labels, sure)
    both = weighed(told, logits, features, labels)
    found = F.cross_entropy(summed(both, logits, features), labels)
    grid = torch.logspace(-2, 2, 41)
    losses = [F.cross_entropy(summed(told, logits, features, (a / sure, b)), labels) for a in grid for b in grid]
    assert found <= min(losses) + 2e-3, f"weights {both.weights.tolist()} leave {found:.4f}, a grid {min(losses):.4f}"
    assert found < F.cross_entropy(summed(told, logits, features, (0.0, 0.0)), labels)


def test_the_sum_is_better_than_either_part_at_its_own_best_temperature():
    features, labels = objects(40)
    told, logits = gather(*objects(20, seed=1), CLASSES), words(labels)
    found = F.cross_entropy(summed(weighed(told, logits, features, labels), logits, features), labels)
    for part in ((1.0, 0.0), (0.0, 1.0)):
        alone = summed(told, logits, features, part)
        assert found < F.cross_entropy(alone / fit_temperature(alone, labels), labels) - 0.01, f"{part} is as good"


def test_densities_that_know_nothing_count_next_to_nothing_beside_words_that_do():
    _, labels = objects(200)
    features, logits = drawn(len(labels), WIDTH, seed=8), words(labels)
    told = gather(*objects(20, seed=1), CLASSES)
    of_words, of_densities = counts(weighed(told, logits, features, labels), logits, features)
    assert of_densities < 0.1 * of_words


def test_words_that_know_nothing_count_next_to_nothing_beside_densities_that_do():
    features, labels = objects(200)
    logits, told = drawn(len(labels), CLASSES, seed=8), gather(*objects(20, seed=1), CLASSES)
    of_words, of_densities = counts(weighed(told, logits, features, labels), logits, features)
    assert of_words < 0.1 * of_densities


@pytest.mark.parametrize("sure", [0.3, 3.0, 30.0])
def test_the_sum_is_calibrated(sure):
    features, labels = objects(60)
    told, logits = gather(*objects(20, seed=1), CLASSES), words(labels, sure)
    both = weighed(told, logits, features, labels)
    assert fit_temperature(summed(both, logits, features), labels) == pytest.approx(1, abs=0.05)


def test_densities_of_what_is_truly_gaussian_count_as_they_are_where_words_say_nothing():
    features, labels = objects(400)
    told = gather(*objects(400, seed=1), CLASSES)
    both = weighed(told, torch.zeros(len(labels), CLASSES), features, labels)
    assert float(both.weights[1]) == pytest.approx(1, abs=0.1)


def test_words_twice_as_loud_get_half_the_weight():
    features, labels = objects(40)
    told, logits = gather(*objects(20, seed=1), CLASSES), words(labels)
    once, twice = (weighed(told, loud * logits, features, labels).weights for loud in (1, 2))
    torch.testing.assert_close(2 * twice[0], once[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(twice[1], once[1], rtol=1e-3, atol=0)


def test_weighing_changes_the_weights_alone_and_they_are_above_zero():
    features, labels = objects(10)
    told = gather(features, labels, CLASSES)
    both = weighed(told, -words(labels), features, labels)  # words that speak against every label
    assert isinstance(both, ClassStatistics)
    for name in ("mean", "covariance", "count"):
        assert torch.equal(getattr(both, name), getattr(told, name))
    assert told.weights.tolist() == [1, 1], "what was given has changed"
    assert both.weights.shape == (2,)
    assert (both.weights > 0).all()
    assert not both.weights.requires_grad


def test_a_probe_set_that_is_not_finite_is_told():
    features, labels = objects(4)
    told = gather(features, labels, CLASSES)
    with pytest.raises(FloatingPointError, match="weights of words and statistics are not finite; the probe set"):
        weighed(told, words(labels), torch.full_like(features, torch.nan), labels)
