"""The companion on toy features: what it gains, what it refuses, and how it comes back to the words alone.

Objects of four classes are Gaussian around means in ten channels; the robot's lie somewhat off the source's, along a
direction the source's words know nothing of.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipoint3d_ros.adaptation.companion import HELD, Companion, CompanionConfig
from clipoint3d_ros.adaptation.guard import GuardConfig
from clipoint3d_ros.adaptation.memory import MemoryConfig
from clipoint3d_ros.adaptation.online import FollowConfig
from clipoint3d_ros.adaptation.probing import Probe, gain
from clipoint3d_ros.adaptation.reference import Reference, words_alone
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.adaptation.statistics import fused, gather, weighed
from clipoint3d_ros.recognition.statistics import fused_head

CLASSES, WIDTH, SCALE = 4, 10, 12.0
SPREAD = 0.09
MEANS = 0.5 * torch.eye(CLASSES, WIDTH)
# The words lean towards a neighbour: by them alone one object in four or five is wrong.
TEXT = F.normalize(torch.eye(CLASSES, WIDTH) + 0.75 * torch.eye(CLASSES).roll(1, 1) @ torch.eye(CLASSES, WIDTH), dim=1)
# The robot's objects lean towards the other neighbour, and all of them where the source has nothing.
SHIFT = torch.zeros(CLASSES, WIDTH)
SHIFT[:, :CLASSES] = 0.2 * torch.eye(CLASSES).roll(1, 0)
SHIFT[:, 6:8] = 0.2


def features(labels, seed, shift=0.0):
    noise = SPREAD * torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(seed))
    return (MEANS + shift * SHIFT)[labels] + noise


def source(helpful=True):
    """The frozen model's view of 40 objects a class, 16 further ones its probe set."""
    learned, held = (torch.arange(CLASSES).repeat(each) for each in (40, 16))
    seen, probed = features(learned, 1), features(held, 2)
    logits = SCALE * probed @ TEXT.T
    statistics = weighed(gather(seen, learned, CLASSES), logits, probed, held)
    return Reference(statistics, helpful, Probe(logits, probed, held), 1.0)


REFERENCE = source()
CONFIG = CompanionConfig(follow=FollowConfig(anchor=10.0), every=16)
# Means go where they are told to, so that the guard has something to refuse.
LEASHLESS = replace(CONFIG, follow=FollowConfig(anchor=0.1, spread_anchor=1e6))


def companion(reference=REFERENCE, config=CONFIG, **guard):
    return Companion(reference, TEXT, SCALE, replace(config, guard=replace(config.guard, **guard)))


def sighting(row, track, label=None, stamp_s=None, **change):
    """Of a robot whose answers are the source's words and statistics together, quite sure of themselves."""
    weight, bias = fused_head(TEXT, SCALE, REFERENCE.statistics)
    said = int((row @ weight.T + bias).argmax()) if label is None else label
    told = {
        "stamp_s": float(track) if stamp_s is None else stamp_s, "track": track, "id": str(track), "label": said,
        "feature": row.numpy(), "logits": (SCALE * row @ TEXT.T).numpy(), "entropy": 0.2, "agreement": 0.9,
        "familiarity": 0.95, "points": 300,
    }  # fmt: skip
    return Sighting(**{**told, **change})


def stream(labels, seed=7, shift=1.0, first=1):
    """Sightings of tracks `first`, `first` + 1, …, in the order of the labels."""
    rows = features(torch.as_tensor(labels), seed, shift)
    return [sighting(row, track) for track, row in enumerate(rows, first)]


def mixed(count, seed=5):
    return torch.randint(0, CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


def fed(learner, sightings):
    """Observe all, with a candidate whenever one is due; the candidates."""
    candidates = []
    for each in sightings:
        learner.observe(each)
        if learner.due:
            candidates.append(learner.propose())
    return candidates


def accuracy(statistics, shift=1.0, seed=99):
    """Macro accuracy on 400 fresh objects of the robot's world; of the words alone without statistics."""
    labels = torch.arange(CLASSES).repeat(100)
    rows = features(labels, seed, shift)
    weight, bias = (SCALE * TEXT, torch.zeros(CLASSES)) if statistics is None else fused_head(TEXT, SCALE, statistics)
    return float(((rows @ weight.T + bias).argmax(1) == labels).float().mean())


def is_anchor(candidate):
    return candidate.statistics.mean is REFERENCE.statistics.mean


def state(learner):
    return learner.live, len(learner.learned), len(learner.held), learner.rejections, learner.due


# What it gains


def test_the_toy_source_s_statistics_help_for_certain():
    rise, error = gain(REFERENCE.probe, fused(REFERENCE.probe, REFERENCE.statistics))
    assert rise > 3 * error


@pytest.mark.parametrize("order", ["random", "by class"])
def test_on_a_shifted_target_it_gains_over_the_words_and_over_the_source(order):
    labels = mixed(300) if order == "random" else mixed(300).sort().values
    learner = companion()
    candidates = fed(learner, stream(labels))
    assert learner.live is not None
    assert sum(c.verdict.accepted for c in candidates) >= 5
    frozen, anchored, adapted = accuracy(None), accuracy(REFERENCE.statistics), accuracy(learner.live)
    assert adapted > frozen + 0.05
    assert adapted > anchored + 0.01, "it never followed the robot's objects"


def test_where_nothing_shifted_nothing_is_lost():
    learner = companion()
    fed(learner, stream(mixed(300), shift=0.0))
    assert accuracy(learner.live, shift=0.0) >= accuracy(REFERENCE.statistics, shift=0.0) - 0.01


def due_after(learner, sightings):
    """After how many sightings candidates were due."""
    numbers = []
    for number, each in enumerate(sightings, 1):
        learner.observe(each)
        if learner.due:
            numbers.append(number)
            learner.propose()
    return numbers


def test_the_anchor_comes_after_the_first_few_objects_and_what_follows_them_every_so_many():
    learner = companion()
    # Of four tracks three are learned from, so 16 of them take 21.
    assert due_after(learner, stream(mixed(64))) == [4, 25, 46]
    assert learner.live is not None


def test_the_anchor_itself_is_what_answers_first():
    learner = companion()
    (first,) = fed(learner, stream(mixed(4)))
    assert is_anchor(first)
    assert learner.live is first.statistics


@pytest.mark.parametrize("track_step", [1, HELD], ids=["any tracks", "held-out ones alone"])
def test_an_anchor_that_was_turned_down_is_tried_again_on_twice_as_many_objects(track_step):
    learner = companion(least_variety=1.0, entropy_rise=0.0, probe_loss=0.0, most_drift=0.0, rejections=100)
    learner._base = replace(learner._base, logits=-learner._base.logits)  # nothing passes for its drift
    rows = features(mixed(64), 7, 1.0)
    tracks = [sighting(row, track_step * number) for number, row in enumerate(rows, 1)]
    assert due_after(learner, tracks) == [4, 12, 28, 44, 60]
    assert learner.rejections == 5


def test_the_same_stream_gives_the_same_statistics():
    one, other = (companion() for _ in range(2))
    for learner in (one, other):
        fed(learner, stream(mixed(80)))
    assert all(torch.equal(part, getattr(other.live, name)) for name, part in vars(one.live).items())


# What it learns from


def test_held_out_tracks_are_never_learned_from():
    learner = companion()
    for each in stream(mixed(60)):
        assert learner.observe(each) == ""
    assert {s.track % HELD for s in learner.held.sightings()} == {0}
    assert {s.track % HELD for s in learner.learned.sightings()} == {1, 2, 3}
    before = learner.propose()
    wild = companion()
    for each in stream(mixed(60)):  # the held-out ones are elsewhere altogether
        wild.observe(replace(each, feature=-each.feature) if each.track % HELD == 0 else each)
    after = wild.propose()
    assert torch.equal(after.statistics.mean, before.statistics.mean)
    assert torch.equal(after.statistics.covariance, before.statistics.covariance)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entropy": 1.0}, "entropy"),
        ({"agreement": 0.4}, "agreement"),
        ({"points": 10}, "points"),
        ({"familiarity": 0.2}, "unknown"),
        ({"entropy": math.nan}, "not finite"),
        ({"feature": np.full(WIDTH, np.inf)}, "not finite"),
        ({"logits": np.full(CLASSES, np.nan)}, "not finite"),
    ],
)
@pytest.mark.parametrize("track", [1, HELD])
def test_what_the_gate_refuses_is_counted_and_reaches_no_memory(change, reason, track):
    learner = companion()
    assert learner.observe(sighting(MEANS[0], track, **change)) == reason
    assert learner.refused == {reason: 1}
    assert (len(learner.learned), len(learner.held)) == (0, 0)


def test_a_worse_look_at_the_same_object_is_counted_by_the_memory_s_reason():
    learner = companion()
    learner.observe(sighting(MEANS[0], 1))
    assert learner.observe(sighting(MEANS[0], 1, stamp_s=2.0, entropy=0.4)) == "track"
    assert learner.refused == {"track": 1}


def test_a_stream_of_unknowns_teaches_nothing():
    learner = companion()
    sightings = stream(mixed(80))
    unknown = [replace(each, familiarity=0.1, feature=-each.feature, track=1000 + each.track) for each in sightings]
    both = [each for pair in zip(sightings, unknown, strict=True) for each in pair]
    fed(learner, both)
    alone = companion()
    fed(alone, sightings)
    assert torch.equal(learner.live.mean, alone.live.mean)
    assert learner.refused["unknown"] == 80


@pytest.mark.parametrize("strange", [0, 80, 240])
def test_the_share_of_unknowns_goes_live_with_the_statistics(strange):
    learner = companion()
    met = stream(mixed(80)) + [
        replace(each, familiarity=0.05, track=1000 + each.track) for each in stream(mixed(strange, seed=6), seed=8)
    ]
    order = np.random.default_rng(0).permutation(len(met))
    fed(learner, [replace(met[i], stamp_s=float(stamp)) for stamp, i in enumerate(order)])
    candidate = learner.propose()
    assert learner.live is candidate.statistics
    assert float(learner.live.known) == pytest.approx(80 / (80 + strange), abs=0.12)


def test_an_object_seen_again_and_again_is_one_of_the_share():
    learner = companion()
    again = [sighting(MEANS[0], 7777, stamp_s=100.0 + n, familiarity=0.05) for n in range(300)]
    fed(learner, [*stream(mixed(80)), *again])
    assert float(learner.propose().statistics.known) > 0.8


def test_memory_is_bounded_and_held_out_objects_have_a_fourth_of_it():
    learner = companion(config=replace(CONFIG, memory=MemoryConfig(objects=40, per_class=12)))
    fed(learner, stream(mixed(400)))
    assert len(learner.learned) <= 40
    assert max(learner.learned.counts(CLASSES)) <= 12
    assert len(learner.held) <= 10
    assert max(learner.held.counts(CLASSES)) <= 3


def test_a_jump_back_in_time_forgets_what_was_seen_before():
    learner = companion()
    fed(learner, stream(mixed(60)))
    again = [replace(each, track=each.track + 200, stamp_s=0.1 * each.track) for each in stream(mixed(8))]
    for each in again:
        learner.observe(each)
    assert (len(learner.learned), len(learner.held)) == (6, 2)


# What the guard refuses, by a stream built for it


def test_an_empty_memory_is_refused_in_words():
    verdict = companion().propose().verdict
    assert verdict.reasons == ("only 0 held-out objects to judge by",)


def test_a_buffer_of_one_class_is_never_followed_and_refused_in_words_where_it_is_asked_for():
    learner = companion()
    assert [is_anchor(c) for c in fed(learner, stream([2] * 60, shift=0.0))] == [True]
    assert learner.propose().verdict.reasons == ("the memory holds 1 class(es) only",)
    assert learner.live.mean is REFERENCE.statistics.mean


def test_a_stream_without_held_out_objects_is_never_followed_and_refused_in_words_where_it_is_asked_for():
    learner = companion()
    tracks = [track for track in range(1, 80) if track % HELD]
    rows = features(mixed(len(tracks)), 3)
    made = fed(learner, [sighting(row, track) for row, track in zip(rows, tracks, strict=True)])
    assert [is_anchor(c) for c in made] == [True]
    assert learner.propose().verdict.reasons == ("only 0 held-out objects to judge by",)
    assert learner.live.mean is REFERENCE.statistics.mean


def test_features_that_are_not_finite_change_nothing():
    learner = companion()
    fed(learner, stream(mixed(40)))
    before = learner.live
    broken = [replace(each, feature=np.full(WIDTH, np.nan)) for each in stream(mixed(40), first=41)]
    assert fed(learner, broken) == []
    assert learner.live is before
    assert learner.refused == {"not finite": 40}


def test_statistics_that_are_not_finite_are_refused():
    broken = replace(REFERENCE, statistics=replace(REFERENCE.statistics, weights=torch.tensor([1.0, math.inf])))
    learner = companion(replace(broken, helpful=True))
    for each in stream(mixed(40)):
        learner.observe(each)
    candidate = learner.propose()
    assert not candidate.verdict.accepted
    assert "answers are not finite" in candidate.verdict.reasons[0]
    assert learner.live is None


def test_a_collapse_of_the_held_out_answers_is_refused():
    # Beyond every class of the source, all objects fall to the one that reaches farthest.
    learner = companion(config=LEASHLESS)
    for each in stream(mixed(80)):
        far = torch.ones(WIDTH) + 0.1 * torch.from_numpy(each.feature)
        learner.observe(replace(each, feature=far.numpy()) if each.track % HELD == 0 else each)
    verdict = learner.propose().verdict
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("answers shrink to 1.")
    assert learner.live is None


def confusing(learner):
    """Its memory full of objects that lie between all classes and were named by lot."""
    between = torch.full((WIDTH,), 0.3)
    for track in range(1, 61):
        row = features(torch.tensor([track // HELD % CLASSES]), track)[0]
        learned = track % HELD
        learner.observe(sighting(between + 0.01 * row, track, track % CLASSES) if learned else sighting(row, track))
    return learner.propose().verdict


def test_what_forgets_the_source_is_refused():
    learner = companion(config=LEASHLESS, most_drift=1.0, entropy_rise=1.0)
    verdict = confusing(learner)
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("the probe set falls from 100.0% to")
    value, limit = verdict.numbers["probe"]
    assert value < limit
    assert learner.live is None


def test_what_answers_the_source_otherwise_is_refused_for_its_drift():
    verdict = confusing(companion(config=LEASHLESS, probe_loss=1.0, entropy_rise=1.0, most_drift=0.05))
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].endswith("of the probe set is answered otherwise than at first")


def test_what_makes_held_out_answers_less_certain_is_refused():
    # Objects of all classes far apart, in every direction, blow the covariance up.
    learner = companion(config=replace(CONFIG, follow=FollowConfig(anchor=1e6, spread_anchor=0.01)), probe_loss=1.0,
                        most_drift=1.0, least_variety=0.0, entropy_rise=0.0)  # fmt: skip
    for each in stream(mixed(80), shift=0.0):
        wide = each.feature + 3 * np.random.default_rng(each.track).normal(size=WIDTH).astype(np.float32)
        sure = 4 * each.logits if each.track % HELD == 0 else each.logits  # the words are certain of what is held out
        learner.observe(replace(each, feature=wide if each.track % HELD else each.feature, logits=sure))
    verdict = learner.propose().verdict
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("held-out entropy is")


def test_an_unhelpful_reference_never_hands_over():
    learner = companion(replace(REFERENCE, helpful=False))
    candidates = fed(learner, stream(mixed(200)))
    assert len(candidates) >= 8
    assert learner.live is None
    told = {c.verdict.reasons for c in candidates}
    assert told == {("class statistics of the source gain nothing certain on the probe set; words alone answer",)}


# Back to frozen


def one_class_again(learner, times):
    """Candidates of a memory that a jump in time has left with one class alone."""
    start = [sighting(row, 10_000 + n, stamp_s=-1e6 + n) for n, row in enumerate(features(torch.full((40,), 2), 8))]
    for each in start:
        learner.observe(each)
    return [learner.propose() for _ in range(times)]


def test_repeated_rejection_gives_the_frozen_model_back():
    learner = companion(rejections=3)
    fed(learner, stream(mixed(60)))
    assert learner.live is not None
    live = learner.live
    assert not any(c.verdict.accepted for c in one_class_again(learner, 2))
    assert learner.live is live, "one rejection is no reason to give up what was accepted"
    assert learner.rejections == 2
    learner.propose()
    assert learner.live is None
    assert learner.rejections == 0


def test_an_accepted_candidate_ends_the_row_of_rejections():
    learner = companion(rejections=2)
    for _ in range(3):
        learner.propose()  # of nothing: 1, 2 = given up, 1
        assert learner.live is None
    fed(learner, stream(mixed(60)))
    assert learner.rejections == 0
    assert learner.live is not None


def test_forget_is_the_beginning_again():
    learner, fresh = companion(), companion()
    fed(learner, stream(mixed(100)))
    learner.propose()
    learner.forget()
    assert state(learner) == state(fresh)
    assert learner.reference is REFERENCE
    for each in (learner, fresh):
        fed(each, stream(mixed(80), seed=11))
    assert torch.equal(learner.live.mean, fresh.live.mean)
    assert torch.equal(learner.live.covariance, fresh.live.covariance)


# Another network's candidate (tier 2)


def other_network(good=True, seed=21):
    """A reference through a network whose words fit (or do not), and its text."""
    text = F.normalize(torch.eye(CLASSES, WIDTH) if good else torch.ones(CLASSES, WIDTH), dim=1)
    labels = torch.arange(CLASSES).repeat(16)
    probed = features(labels, 2)
    logits = SCALE * probed @ text.T
    learned = torch.arange(CLASSES).repeat(40)
    statistics = weighed(gather(features(learned, 1), learned, CLASSES), logits, probed, labels)
    return Reference(statistics, True, Probe(logits, probed, labels), 1.0), text


def remembered(memory):
    return torch.from_numpy(np.stack([s.feature for s in memory.sightings()]))


def test_a_better_network_is_taken_and_its_features_replace_those_remembered():
    learner = companion(replace(REFERENCE, helpful=False), most_drift=0.5)  # held against the words alone
    for each in stream(mixed(60), shift=0.0):
        learner.observe(each)
    reference, text = other_network()
    learned, held = remembered(learner.learned) + 0.001, remembered(learner.held) + 0.001
    candidate = learner.consider(reference, text, learned, held)
    assert candidate.verdict.accepted, str(candidate.verdict)
    assert learner.live is candidate.statistics
    assert learner.reference is reference
    assert torch.equal(remembered(learner.learned), learned)
    assert torch.equal(remembered(learner.held), held)


def test_a_network_without_a_certain_gain_is_refused_with_the_figure():
    learner = companion(config=replace(CONFIG, certain=1e3))
    for each in stream(mixed(60), shift=0.0):
        learner.observe(each)
    reference, text = other_network()
    verdict = learner.consider(reference, text, remembered(learner.learned), remembered(learner.held)).verdict
    assert not verdict.accepted
    assert verdict.reasons[0].startswith("no certain gain on the probe set:")
    value, limit = verdict.numbers["gain"]
    assert value <= limit
    assert learner.reference is REFERENCE
    assert learner.live is None


def test_forget_takes_back_the_first_network_too():
    learner = companion(replace(REFERENCE, helpful=False), most_drift=0.5)
    for each in stream(mixed(60), shift=0.0):
        learner.observe(each)
    reference, text = other_network()
    assert learner.consider(reference, text, remembered(learner.learned), remembered(learner.held)).verdict.accepted
    learner.forget()
    assert not learner.reference.helpful
    assert torch.equal(learner.text, TEXT)


# Beside what the frozen model says: a guard that minds the variety of answers alone, and takes no network's word


LENIENT = {"probe_loss": 1.0, "most_drift": 1.0, "entropy_rise": 1.0, "least_variety": 0.3}


def swallowed(labels, seed, kinds):
    """Features by a network to which only the first `kinds` of the classes are left."""
    return features(torch.as_tensor(labels) % kinds, seed)


def shown(learner, count, first, kinds, asked=True):
    """The learner after `count` objects that the live network sees, and the frozen model too if it is asked."""
    labels = mixed(count, seed=first)
    for track, (seen, own) in enumerate(zip(swallowed(labels, 3, kinds), features(labels, 4), strict=True), first):
        said = {"logits": (SCALE * learner.text @ seen).numpy(), "frozen": not learner.trained}
        learner.observe(sighting(seen, track, int(labels[track - first]), **said))
        if asked and learner.unasked:
            learner.answered(learner.unasked, SCALE * own[None] @ TEXT.T)


def considered(learner, kinds, temperature=1.0):
    """The learner's word on a network to which only so many classes are left, by the objects it has seen."""
    reference, text = other_network()
    learned, held = (
        torch.stack([swallowed([s.label], s.track, kinds)[0] for s in memory.sightings()])
        for memory in (learner.learned, learner.held)
    )
    return learner.consider(replace(reference, temperature=temperature), text, learned, held)


def with_first_network(kinds, **guard):
    """A companion that has accepted a network to which `kinds` classes are left."""
    learner = companion(config=replace(CONFIG, certain=-1e3), **(LENIENT | guard))
    shown(learner, 80, 1, kinds=CLASSES)
    assert considered(learner, kinds).verdict.accepted
    return learner


def test_networks_after_the_first_are_held_against_the_frozen_model_so_that_classes_do_not_vanish_by_halves():
    learner = with_first_network(kinds=2)
    learner.forget_objects()  # as after a jump in time: what comes is seen by the first network alone
    shown(learner, 80, 101, kinds=2)
    verdict = considered(learner, kinds=1).verdict
    assert not verdict.accepted, "two classes of the first network's two were enough"
    assert verdict.reasons[0].startswith("answers shrink to 1.")


def test_statistics_of_a_trained_network_s_features_are_held_against_the_frozen_model_too():
    learner = with_first_network(kinds=2)
    learner.forget_objects()
    shown(learner, 80, 101, kinds=2)
    value, limit = learner.propose().verdict.numbers["variety"]
    assert limit == pytest.approx(1 + 0.3 * (CLASSES - 1), abs=0.1)
    assert value < 2.5, "the live network has lost no class"


def test_what_the_frozen_model_says_is_calibrated_as_it_is_whatever_network_is_live():
    learner = companion(config=replace(CONFIG, certain=-1e3), **LENIENT)
    shown(learner, 80, 1, kinds=CLASSES)
    first, again = (considered(learner, CLASSES, temperature=9.0).verdict for _ in range(2))
    assert first.accepted
    for check in ("variety", "entropy"):
        assert again.numbers[check][1] == first.numbers[check][1], f"the limit of {check} has moved"


def test_nobody_is_judged_by_objects_of_which_the_frozen_model_has_not_been_asked():
    learner = with_first_network(kinds=CLASSES)
    learner.forget_objects()
    shown(learner, 80, 101, kinds=CLASSES, asked=False)
    unasked = learner.unasked
    assert unasked == learner.held.sightings()
    assert learner.waits_for == "4 held-out objects; there are 0"
    assert not learner.due
    learner.answered(unasked[:5], SCALE * features(torch.tensor([s.label for s in unasked[:5]]), 4) @ TEXT.T)
    assert (learner.waits_for, learner.due, len(learner.unasked)) == ("", True, len(unasked) - 5)
    verdict = considered(learner, CLASSES).verdict
    assert verdict.numbers["held_out"][0] == 5
    assert len(learner.unasked) == len(unasked) - 5, "another network's word is not the frozen model's"


def test_objects_that_have_left_are_not_brought_back_by_an_answer():
    learner = with_first_network(kinds=CLASSES)
    shown(learner, 8, 101, kinds=CLASSES, asked=False)
    unasked = learner.unasked
    assert len(unasked) == 2
    learner.forget_objects()
    learner.answered(unasked, torch.zeros(2, CLASSES))
    assert len(learner.held) == 0


def test_remembered_objects_tell_calibrated_logits_of_the_network_that_is_learned_from():
    learner = companion(replace(REFERENCE, temperature=4.0), config=replace(CONFIG, certain=-1e3), **LENIENT)
    shown(learner, 20, 1, kinds=CLASSES)
    seen = learner.learned.sightings()
    torch.testing.assert_close(learner.calibrated(seen), SCALE * remembered(learner.learned) @ TEXT.T / 4)
    _, text = other_network()
    assert considered(learner, CLASSES, temperature=2.0).verdict.accepted
    seen = learner.learned.sightings()
    torch.testing.assert_close(learner.calibrated(seen), SCALE * remembered(learner.learned) @ text.T / 2)


def refused(learner, times):
    """What is said of networks that gain nothing for certain."""
    learner.config = replace(learner.config, certain=1e3)
    return [considered(learner, CLASSES).verdict for _ in range(times)]


def test_rejected_networks_leave_the_class_statistics_alone_and_training_begins_anew():
    learner = companion(rejections=3)
    fed(learner, stream(mixed(60), shift=0.0))
    live, remembers = learner.live, len(learner.learned)
    assert live is not None
    verdicts = refused(learner, 3)
    assert not any(verdict.accepted for verdict in verdicts)
    assert learner.live is live
    assert (learner.rejections, learner.rejected_networks, len(learner.learned)) == (0, 0, remembers)
    told = "3 networks were rejected in a row: training begins anew from the frozen weights"
    assert [told in verdict.reasons for verdict in verdicts] == [False, False, True]


def test_rejected_networks_do_not_put_the_anchor_off():
    learner, other = companion(), companion()
    for each in (learner, other):
        for seen in stream([2, 2, 2], shift=0.0):
            each.observe(seen)
    learner.rejected_networks = 4
    for each in (learner, other):
        each.observe(stream([2], shift=0.0, first=4)[0])
    assert learner.due
    assert other.due


def test_rejected_networks_beside_a_live_one_give_the_frozen_model_back():
    learner = with_first_network(kinds=CLASSES, rejections=3)
    refused(learner, 2)
    assert learner.live is not None
    (verdict,) = refused(learner, 1)
    assert learner.live is None
    assert not any("anew" in reason for reason in verdict.reasons)


def test_rejections_of_one_tier_are_none_of_the_other_s():
    learner = with_first_network(kinds=CLASSES, rejections=3)
    refused(learner, 2)
    for _ in range(2):  # of a memory without held-out objects
        learner.held.clear()
        assert not learner.propose().verdict.accepted
    assert learner.live is not None
    assert (learner.rejections, learner.rejected_networks) == (2, 2)


# Without a probe set


def unvouched(**guard):
    return companion(words_alone(TEXT, SCALE, 1.0, "no procedural shape for cereal box"), **guard)


def test_without_a_probe_set_it_remembers_and_proposes_and_nothing_goes_live():
    learner = unvouched()
    candidates = fed(learner, stream(mixed(200)))
    assert len(candidates) > 5
    assert learner.live is None
    assert len(learner.learned) > 100
    last = candidates[-1].verdict
    assert last.reasons == ("there is no probe set, so no labelled object vouches for it",)
    assert {"probe", "drift", "variety", "entropy", "held_out"} <= set(last.numbers)


def test_what_it_proposes_then_begins_as_the_words_and_follows_the_robot():
    learner = unvouched(least_probe=0)
    first, *_, last = fed(learner, stream(mixed(200)))
    weight, bias = fused_head(TEXT, SCALE, first.statistics)
    assert torch.allclose(weight, SCALE * TEXT, atol=1e-4)
    assert float(bias.max() - bias.min()) < 1e-4
    assert learner.live is last.statistics
    assert (last.statistics.mean - TEXT).norm(dim=1).min() > 0.05


def test_without_a_probe_set_no_trained_network_is_judged():
    learner = unvouched()
    nothing = torch.zeros(0, WIDTH)
    with pytest.raises(ValueError, match="cannot be judged without a probe set"):
        learner.consider(REFERENCE, TEXT, nothing, nothing)
    assert learner.rejected_networks == 0


def test_a_guard_of_other_limits_decides_otherwise():
    strict, lenient = companion(least_held=1000), companion(least_held=1)
    for learner in (strict, lenient):
        fed(learner, stream(mixed(40)))
    assert strict.live is None
    assert lenient.live is not None
    assert GuardConfig().least_held == 4


def test_forgotten_objects_leave_what_is_live_and_nothing_due():
    learner = companion()
    fed(learner, stream(mixed(60)))
    live = learner.live
    learner.forget_objects()
    assert (len(learner.learned), len(learner.held), learner.due) == (0, 0, False)
    assert learner.live is live is not None
    seen = stream(mixed(22), first=101)
    assert due_after(learner, seen) == [21]
