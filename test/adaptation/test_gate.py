"""The gate: only what is certain, agreed on, large enough and of the classes is learned from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipoint3d_ros.adaptation.gate import REFUSALS, GateConfig, refusal
from clipoint3d_ros.adaptation.sighting import Sighting

GATE = GateConfig(max_entropy=0.4, min_agreement=0.5, min_points=64, min_familiarity=0.5)


def sighting(classes=8, **change):
    told = {
        "stamp_s": 1.0, "track": 1, "id": "a", "label": 0, "feature": np.ones(16), "logits": np.zeros(classes),
        "entropy": 0.1, "agreement": 0.9, "familiarity": 0.9, "points": 500, "cloud": np.zeros((4, 3)),
    }  # fmt: skip
    return Sighting(**{**told, **change})


def test_a_reliable_sighting_passes():
    assert refusal(sighting(), GATE) == ""
    assert refusal(sighting(cloud=None), GATE) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entropy": 0.41 * math.log(8)}, "entropy"),
        ({"agreement": 0.4}, "agreement"),
        ({"points": 63}, "points"),
        ({"familiarity": 0.49}, "unknown"),
        ({"entropy": math.nan}, "not finite"),
        ({"agreement": math.nan}, "not finite"),
        ({"familiarity": math.nan}, "not finite"),
        ({"stamp_s": math.inf}, "not finite"),
        ({"distance": math.nan}, "not finite"),
        ({"feature": np.array([1.0, math.nan])}, "not finite"),
        ({"logits": np.array([1.0, math.inf])}, "not finite"),
        ({"cloud": np.array([[0.0, 0.0, math.nan]])}, "not finite"),
        ({"feature": np.array([1e300])}, "not finite"),
    ],
)
def test_each_weakness_is_refused_by_its_name(change, reason):
    assert refusal(sighting(**change), GATE) == reason
    assert reason in REFUSALS


def test_a_sighting_at_the_limits_passes():
    at_limits = sighting(entropy=0.4 * math.log(8), agreement=0.5, points=64, familiarity=0.5)
    assert refusal(at_limits, GATE) == ""


def test_entropy_is_held_against_the_number_of_classes():
    assert refusal(sighting(classes=2, entropy=0.5), GATE) == "entropy"
    assert refusal(sighting(classes=100, entropy=0.5), GATE) == ""
    assert refusal(sighting(classes=1, entropy=0.0), GATE) == ""


def test_the_gate_opens_wider_with_wider_limits_only():
    rng = np.random.default_rng(0)
    strict, wide = GATE, GateConfig(0.8, 0.2, 10, 0.1)
    for _ in range(200):
        entropy, agreement, familiarity = rng.uniform(0, [math.log(8), 1, 1])
        one = sighting(entropy=entropy, agreement=agreement, familiarity=familiarity, points=int(rng.integers(200)))
        assert refusal(one, strict) or not refusal(one, wide), "what passes the strict gate fails the wide one"


@pytest.mark.parametrize(
    "change",
    [{"max_entropy": 1.1}, {"min_agreement": -0.1}, {"min_familiarity": math.nan}, {"min_points": 0}],
)
def test_limits_outside_their_range_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        GateConfig(**change)
