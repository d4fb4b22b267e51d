"""The guard: every check tripped by evidence built to trip it, in words and numbers; and nothing else tripped by it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipoint3d_ros.adaptation.guard import Evidence, GuardConfig, judge, macro, mean_entropy, variety_of

CLASSES, EACH = 4, 8
CHECKS = ["not_finite", "held_out", "classes", "probe", "drift", "variety", "entropy"]


def answers(labels, sure=0.85):
    """(H, C) probabilities that speak for the labels, all equally sure."""
    rest = (1 - sure) / (CLASSES - 1)
    return (rest + (sure - rest) * np.eye(CLASSES)[np.asarray(labels)]).astype(np.float32)


def logits(labels):
    return 5.0 * F.one_hot(torch.as_tensor(labels), CLASSES).float()


LABELS = torch.arange(CLASSES).repeat(EACH)
SOUND = Evidence(
    frozen=answers([0, 1, 2, 3] * 2, 0.7),
    candidate=answers([0, 1, 2, 3] * 2),
    remembered=np.array([3, 2, 4, 1]),
    anchor=logits(LABELS),
    probe=logits(LABELS),
    labels=LABELS,
)


def wrong_on(count, labels=LABELS):
    """Probe labels with the first `count` answered by the next class."""
    said = labels.clone()
    said[:count] = (said[:count] + 1) % CLASSES
    return said


def judged(config=None, **change):
    return judge(replace(SOUND, **change), config or GuardConfig())


def tripped(verdict):
    """The checks whose number is beyond its limit, told from the numbers alone."""
    at_most = {"not_finite", "drift", "entropy"}
    return [
        name
        for name, (value, limit) in verdict.numbers.items()
        if (value > limit if name in at_most else value < limit)
    ]


def test_a_sound_candidate_passes_and_every_check_gives_its_number():
    verdict = judged()
    assert verdict.accepted
    assert verdict.reasons == ()
    assert list(verdict.numbers) == CHECKS
    assert tripped(verdict) == []
    assert str(verdict).startswith("accepted [not_finite 0 (limit 0), held_out 8 (limit 4), classes 4 (limit 2)")


@pytest.mark.parametrize(
    ("check", "change", "said"),
    [
        ("probe", {"probe": logits(wrong_on(2))}, "the probe set falls from 100.0% to 93.8%"),
        # All of it is answered otherwise, and none of it worse: it was wrong before.
        (
            "drift",
            {"anchor": logits((LABELS + 1) % CLASSES), "probe": logits((LABELS + 2) % CLASSES)},
            "100% of the probe set is answered otherwise than at first",
        ),
        ("variety", {"candidate": answers([2] * 8, 0.97)}, "answers shrink to 1.0 classes"),
        ("entropy", {"candidate": answers([0, 1, 2, 3] * 2, 0.4)}, "held-out entropy is 1.33 nats, above 1.15"),
    ],
)
def test_each_check_is_tripped_by_evidence_built_for_it_and_by_that_alone(check, change, said):
    verdict = judged(**change)
    assert not verdict.accepted
    assert verdict.reasons == (said,)
    assert tripped(verdict) == [check]
    assert list(verdict.numbers) == CHECKS, "the other checks are told, too"
    assert f"rejected: {said} [" in str(verdict)


@pytest.mark.parametrize("sure", [0.9, 0.97, 0.999])
def test_of_two_classes_in_sight_none_may_be_lost(sure):
    both = answers([0, 1] * 8, 0.9)
    assert judged(frozen=both, candidate=answers([0, 1] * 8, sure)).accepted
    assert tripped(judged(frozen=both, candidate=answers([0] * 16, sure))) == ["variety"]


def test_one_class_in_sight_is_no_collapse():
    assert judged(frozen=answers([0] * 16, 0.9), candidate=answers([0] * 16, 0.97)).accepted


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["frozen", "candidate", "anchor", "probe"])
def test_one_number_that_is_not_finite_is_enough(part, value):
    told = getattr(SOUND, part)
    broken = told.copy() if isinstance(told, np.ndarray) else told.clone()
    broken[1, 2] = value
    verdict = judged(**{part: broken})
    assert verdict.reasons == ("1 of its answers are not finite",)
    assert verdict.numbers["not_finite"] == (1, 0)
    assert list(verdict.numbers) == CHECKS[:3], "nothing is computed from numbers that are none"


def test_too_few_held_out_objects_judge_nothing():
    few = {"frozen": SOUND.frozen[:3], "candidate": SOUND.candidate[:3]}
    verdict = judged(**few)
    assert verdict.reasons == ("only 3 held-out objects to judge by",)
    assert verdict.numbers["held_out"] == (3, 4)
    assert judged(GuardConfig(least_held=3), **few).accepted


@pytest.mark.parametrize(("remembered", "kinds"), [([0, 9, 0, 0], 1), ([0, 0, 0, 0], 0)])
def test_a_memory_of_one_class_or_none_teaches_nothing(remembered, kinds):
    verdict = judged(remembered=np.array(remembered))
    assert verdict.reasons == (f"the memory holds {kinds} class(es) only",)
    assert verdict.numbers["classes"] == (kinds, 2)


def test_an_empty_memory_without_held_out_objects_is_told_of_both():
    nothing = np.zeros((0, CLASSES), np.float32)
    verdict = judged(frozen=nothing, candidate=nothing, remembered=np.zeros(CLASSES, int))
    assert len(verdict.reasons) == 2
    assert str(verdict).startswith(
        "rejected: only 0 held-out objects to judge by; the memory holds 0 class(es) only [not_finite 0 (limit 0)"
    )


@pytest.mark.parametrize("missing", ["anchor", "probe", "labels"])
def test_without_a_probe_set_nothing_goes_live_and_the_other_checks_are_told(missing):
    verdict = judged(**{missing: None})
    assert verdict.reasons == ("there is no probe set, so no labelled object vouches for it",)
    assert tripped(verdict) == ["probe"]
    assert list(verdict.numbers) == CHECKS
    assert tripped(judged(**{missing: None, "candidate": answers([2] * 8, 0.97)})) == ["probe", "drift", "variety"]


def test_without_a_probe_set_drift_is_that_of_held_out_objects():
    lenient = GuardConfig(least_probe=0)
    assert judged(lenient, labels=None).accepted, "asked for by no robot"
    moved = judged(lenient, labels=None, candidate=answers([1, 1, 2, 3, 0, 1, 3, 3]))
    assert moved.numbers["drift"] == (0.25, 0.2)
    assert moved.reasons == ("25% of the held-out objects are answered otherwise than by the frozen model",)


def test_several_failures_are_all_told():
    verdict = judged(probe=logits(torch.zeros_like(LABELS)), candidate=answers([2] * 8, 0.97))
    assert tripped(verdict) == ["probe", "drift", "variety"]
    assert len(verdict.reasons) == 3


def test_what_is_exactly_at_a_limit_still_passes():
    change = {"probe": logits(wrong_on(4))}  # one of eight in each class
    assert judged(GuardConfig(probe_loss=0.125, most_drift=0.125), **change).accepted
    assert tripped(judged(GuardConfig(probe_loss=0.125, most_drift=0.12), **change)) == ["drift"]
    assert tripped(judged(GuardConfig(probe_loss=0.12, most_drift=0.125), **change)) == ["probe"]
    same = {"candidate": SOUND.frozen}
    assert judged(GuardConfig(least_variety=1, entropy_rise=0, probe_loss=0, most_drift=0), **same).accepted


def test_a_candidate_that_gains_on_the_probe_set_is_not_held_against_the_anchor():
    assert judged(anchor=logits(wrong_on(4)), probe=logits(LABELS)).accepted


@pytest.mark.parametrize("name", ["probe_loss", "least_variety", "entropy_rise", "most_drift"])
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_limits_are_shares(name, value):
    with pytest.raises(ValueError, match=rf"guard limit {name} must lie in \[0, 1\], but is {value}"):
        GuardConfig(**{name: value})


@pytest.mark.parametrize("name", ["least_held", "least_classes", "rejections"])
def test_counts_are_at_least_one(name):
    with pytest.raises(ValueError, match="must be at least 1"):
        GuardConfig(**{name: 0})


def test_no_fewer_labelled_objects_than_none_can_be_asked_for():
    with pytest.raises(ValueError, match="least_probe of the guard must be at least 0, but is -1"):
        GuardConfig(least_probe=-1)


def test_macro_accuracy_counts_every_class_the_same():
    labels = torch.tensor([0] * 9 + [3])
    assert macro(logits([0] * 10), labels) == pytest.approx(0.5)


def test_variety_is_the_number_of_classes_in_use():
    assert variety_of(answers([1, 1, 1], 1.0)) == pytest.approx(1)
    assert variety_of(answers([0, 1, 2, 3], 1.0)) == pytest.approx(4)
    assert variety_of(answers([0, 1, 2, 3], 0.4)) == pytest.approx(4)
    assert variety_of(answers([1, 1, 1], 0.4)) == pytest.approx(1), "unsure is not the same as various"


def test_entropy_is_that_of_each_answer():
    assert mean_entropy(answers([0, 2], 1.0)) == pytest.approx(0)
    assert mean_entropy(np.full((3, CLASSES), 1 / CLASSES)) == pytest.approx(math.log(CLASSES))
