"""Tier 2's training and its looks: remembered clouds as they were seen, the frozen model beside the trained one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from domains_made import CLASSES, changed, looks, solids

from clipoint3d_ros.adaptation.clouds import levelled
from clipoint3d_ros.adaptation.gradient import Gradient, as_clouds
from clipoint3d_ros.adaptation.priors import class_prior
from clipoint3d_ros.adaptation.probing import look_over
from clipoint3d_ros.adaptation.reference import ReferenceConfig, gather_reference
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.clip.backbone import load_backbone

pytestmark = pytest.mark.usefixtures("quick_probes")
RECIPE = changed(network={"context": 0}, objects=2, views=1)


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture
def gradient(backbone):
    return Gradient(backbone, CLASSES, solids(), RECIPE, ReferenceConfig(shots=3, probe=2, looks=2, points=64))


def sightings(known=lambda row: True):
    """What a sensor sees, remembered; `known` says by the row whether it is known where that stood."""
    clouds = levelled(looks(each=2), 64)
    return [
        Sighting(
            stamp_s=float(row), track=row, id=str(row), label=0, feature=np.ones(8), logits=np.zeros(3), entropy=0.1,
            agreement=1.0, familiarity=1.0, points=64, cloud=clouds.points[row].numpy(),
            elevation=float(clouds.elevation[row]) if known(row) else 0.0,
            distance=float(clouds.distance[row]) if known(row) else 0.0,
        )
        for row in range(len(clouds))
    ]  # fmt: skip


def weights(gradient):
    return {name: value.clone() for name, value in gradient._run.network.adapter().items()}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_candidates_are_judged_by_the_very_looks_that_the_reference_was(gradient, backbone):
    reference = gather_reference(backbone, CLASSES, solids(), gradient._config)
    frozen = look_over(None, backbone, CLASSES, gradient._probe)
    assert torch.equal(frozen.logits, reference.probe.logits)
    assert torch.equal(frozen.labels, reference.probe.labels)
    assert torch.equal(gradient.candidate().reference.probe.labels, reference.probe.labels)


def test_where_the_sensor_stood_is_not_invented():
    clouds = as_clouds(sightings(lambda row: row % 2 == 0))
    assert clouds.seen.tolist() == [True, False] * 3
    assert clouds.seen.dtype == torch.bool


@pytest.mark.parametrize("known", [0, 1])
def test_objects_of_known_and_of_unknown_viewpoint_do_not_change_each_other_s_looks(gradient, known):
    mixed = sightings(lambda row: row % 2 == known)
    together = gradient.frozen(mixed)
    for part in (mixed[::2], mixed[1::2]):
        torch.testing.assert_close(together[[s.track for s in part]], gradient.frozen(part), atol=1e-4, rtol=1e-4)


def test_an_unknown_viewpoint_is_looked_at_from_all_sides(gradient, backbone):
    unknown = sightings(lambda row: False)
    blind = replace(as_clouds(unknown), seen=torch.zeros(6, dtype=torch.bool))
    torch.testing.assert_close(gradient.frozen(unknown), look_over(None, backbone, CLASSES, blind).logits)
    assert not torch.allclose(gradient.frozen(unknown), gradient.frozen(sightings()), atol=1e-3)


def test_the_frozen_model_says_the_same_whatever_was_trained(gradient, backbone):
    seen = sightings()
    before = gradient.frozen(seen)
    torch.testing.assert_close(before, look_over(None, backbone, CLASSES, as_clouds(seen)).logits)
    for _ in range(3):
        gradient.learn(seen, before)
    assert torch.equal(gradient.frozen(seen), before)
    trained = gradient.candidate()
    untrained = look_over(None, backbone, CLASSES, as_clouds(seen)).features
    assert not torch.allclose(gradient.features(trained.served, seen), untrained, atol=1e-5)


def test_classes_shares_are_those_of_the_logits_that_are_given(gradient):
    seen = sightings()
    logits = 0.2 * torch.eye(3)[[0, 0, 0, 0, 1, 2]]
    gradient.learn(seen, logits)
    torch.testing.assert_close(gradient._run.prior, class_prior(logits, strength=3.0))
    humble = gradient._run.prior
    gradient.learn(seen, 100 * logits)
    assert gradient._run.prior[0] > humble[0] + 0.1, "the logits of the sightings were taken instead"


@pytest.mark.parametrize("back", ["fall_back", "restart"])
def test_while_no_network_was_accepted_what_is_fallen_back_to_are_the_frozen_weights(gradient, back):
    first, seen = weights(gradient), sightings()
    for _ in range(2):
        gradient.learn(seen, torch.zeros(6, 3))
    assert not equal(weights(gradient), first)
    getattr(gradient, back)()
    assert equal(weights(gradient), first)
    assert equal(gradient._run.average, first)
    assert gradient.steps == 2


def test_an_accepted_network_is_fallen_back_to(gradient):
    seen = sightings()
    gradient.learn(seen, torch.zeros(6, 3))
    kept = {name: value.clone() for name, value in gradient._run.average.items()}
    gradient.keep()
    gradient.learn(seen, torch.zeros(6, 3))
    gradient.fall_back()
    assert equal(weights(gradient), kept)
    gradient.restart()
    assert not equal(weights(gradient), kept)
