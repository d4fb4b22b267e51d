"""The memory: bounded, balanced, one entry an object, and no older than it may be."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from memories_made import CLASSES, WIDTH, check, filled, sighting, tracks

from clipoint3d_ros.adaptation.memory import REFUSALS, Memory, MemoryConfig

# Bounds and balance


def test_what_is_admitted_is_held_oldest_first():
    memory = Memory()
    for track in (3, 1, 2):
        assert memory.admit(sighting(track, stamp_s=10 + track / 10)) == ""
    assert tracks(memory) == [1, 2, 3]
    assert memory.counts(CLASSES).tolist() == [3, 0, 0, 0]
    memory.clear()
    assert (len(memory), memory.nbytes, memory.sightings()) == (0, 0, [])


def test_a_class_over_its_share_gives_way_first():
    memory = filled([0, 1, 1, 1, 1, 1, 1], per_class=3)
    assert memory.counts(2).tolist() == [1, 3]
    assert 1 in tracks(memory), "another class gave way"
    assert 7 in tracks(memory)


def test_over_all_classes_the_largest_gives_way():
    memory = filled([0] * 6 + [1, 2], objects=8, per_class=6)
    assert memory.counts(3).tolist() == [6, 1, 1]
    for track, label in ((9, 1), (10, 2), (11, 1), (12, 2)):
        assert memory.admit(sighting(track, label)) == ""
        check(memory)
    assert memory.counts(3).tolist() == [2, 3, 3]


def test_a_class_ordered_stream_leaves_every_class_its_share():
    memory = filled([label for label in range(8) for _ in range(100)], objects=64, per_class=64)
    assert memory.counts(8).tolist() == [8] * 8


def test_more_classes_than_places_keep_the_newest():
    memory = Memory(MemoryConfig(objects=3))
    for track in range(1, 7):
        assert memory.admit(sighting(track, track - 1, classes=6)) == ""
    assert tracks(memory) == [4, 5, 6]


def test_bytes_are_bounded_by_the_class_that_takes_most():
    small, large = np.zeros((10, 3)), np.zeros((20_000, 3))
    memory = Memory(MemoryConfig(megabytes=1.0))
    for track in range(1, 21):
        memory.admit(sighting(track, 0, cloud=small))
    for track in range(21, 31):
        assert memory.admit(sighting(track, 1, cloud=large)) == ""
        check(memory)
    assert memory.counts(2)[0] == 20, "small entries gave way to large ones"
    assert memory.admit(sighting(40, 2, cloud=np.zeros((100_000, 3)))) == "bytes"
    assert len(memory) == 20 + memory.counts(2)[1]


def test_any_stream_keeps_the_bounds():
    rng = np.random.default_rng(5)
    memory = Memory(MemoryConfig(objects=20, per_class=6, megabytes=0.02, max_age_s=30))
    stamp = 0.0
    for _ in range(600):
        stamp += float(rng.exponential(0.3)) if rng.random() > 0.01 else -5.0
        cloud = None if rng.random() < 0.5 else rng.normal(size=(int(rng.integers(1, 300)), 3))
        one = sighting(
            int(rng.integers(1, 60)), int(rng.integers(4)), stamp - float(rng.random()) * 0.9,
            rng.normal(size=WIDTH), entropy=float(rng.random()), cloud=cloud,
        )  # fmt: skip
        reason = memory.admit(one)
        assert reason in ("", *REFUSALS)
        assert (one in memory.sightings()) == (reason == "")
        check(memory)


# Diversity within a class


def test_of_the_two_most_alike_the_older_leaves():
    east, north, up = np.eye(3)
    memory = Memory(MemoryConfig(per_class=3))
    for track, feature in enumerate((east, north, east + 0.01 * up), 1):
        memory.admit(sighting(track, feature=feature))
    assert memory.admit(sighting(4, feature=up)) == ""
    assert tracks(memory) == [2, 3, 4]


def test_a_newcomer_displaces_the_one_it_resembles():
    memory = Memory(MemoryConfig(per_class=3))
    for track, feature in enumerate(np.eye(3), 1):
        memory.admit(sighting(track, feature=feature))
    assert memory.admit(sighting(4, feature=5 * np.eye(3)[1] + 0.1)) == ""
    assert tracks(memory) == [1, 3, 4]


def test_one_object_seen_by_many_tracks_does_not_crowd_out_the_others():
    rng = np.random.default_rng(0)
    memory = Memory(MemoryConfig(per_class=8))
    for track, feature in enumerate(np.eye(WIDTH)[:6], 1):
        memory.admit(sighting(track, feature=feature))
    for track in range(7, 200):
        memory.admit(sighting(track, feature=np.eye(WIDTH)[10] + 0.02 * rng.normal(size=WIDTH)))
    assert set(range(1, 7)) <= set(tracks(memory)), "a rare look was lost to repetitions of a common one"


def test_one_that_comes_late_and_resembles_a_newer_one_is_refused_and_nothing_leaves():
    memory = Memory(MemoryConfig(per_class=2))
    memory.admit(sighting(1, stamp_s=9.5, feature=np.eye(3)[0]))
    memory.admit(sighting(2, stamp_s=10.0, feature=np.eye(3)[1]))
    assert memory.admit(sighting(3, stamp_s=9.2, feature=np.eye(3)[1])) == "similar"
    assert tracks(memory) == [1, 2]
    full = Memory(MemoryConfig(objects=2))
    full.admit(sighting(1, 0, stamp_s=9.5))
    full.admit(sighting(2, 1, stamp_s=10.0))
    assert full.admit(sighting(3, 2, stamp_s=9.2)) == "full"
    assert tracks(full) == [1, 2]


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-30, 1e30, 3e38])
def test_features_of_any_length_are_compared_by_direction(scale):
    memory = Memory(MemoryConfig(per_class=3))
    with np.errstate(all="raise", under="ignore"):
        for track, feature in enumerate(np.eye(3), 1):
            memory.admit(sighting(track, feature=feature))
        assert memory.admit(sighting(4, feature=scale * np.array([0, 0, 1.0]))) == ""
    assert tracks(memory) == ([2, 3, 4] if scale == 0 else [1, 2, 4])


# One entry per track


def test_of_one_track_the_more_certain_sighting_stays():
    memory = filled([0, 0])
    assert memory.admit(sighting(1, stamp_s=3.0, entropy=0.6)) == "track"
    assert memory.admit(sighting(1, stamp_s=4.0, entropy=0.5)) == "track"
    assert memory.admit(sighting(1, stamp_s=5.0, entropy=0.4)) == ""
    assert [(one.track, one.entropy) for one in memory.sightings()] == [(2, 0.5), (1, 0.4)]


def test_a_track_with_a_new_label_moves_to_its_class_even_if_less_certain():
    memory = filled([0, 0])
    assert memory.admit(sighting(1, 3, stamp_s=3.0, entropy=1.2)) == ""
    assert memory.counts(CLASSES).tolist() == [1, 0, 0, 1]
    assert memory.admit(sighting(1, 2, stamp_s=2.5, entropy=0.1)) == "track", "a late sighting replaced a newer one"


def test_a_track_that_replaces_itself_in_a_full_class_displaces_nobody():
    memory = filled([0, 0, 0], per_class=3, objects=3)
    assert memory.admit(sighting(2, stamp_s=5.0, entropy=0.1)) == ""
    assert sorted(tracks(memory)) == [1, 2, 3]


def test_a_track_that_moves_into_a_full_class_displaces_one_of_that():
    memory = filled([0, 1, 1], per_class=2)
    assert memory.admit(sighting(1, 1, stamp_s=4.0)) == ""
    assert memory.counts(2).tolist() == [0, 2]
    assert 1 in tracks(memory)


# Time


def test_old_sightings_leave_with_the_newest_stamp_even_one_that_is_refused():
    memory = Memory(MemoryConfig(max_age_s=10))
    memory.admit(sighting(1, stamp_s=0.0))
    memory.admit(sighting(2, stamp_s=5.0))
    assert memory.admit(sighting(3, stamp_s=10.0)) == ""
    assert tracks(memory) == [1, 2, 3]
    assert memory.admit(sighting(2, stamp_s=10.5)) == "track"
    assert tracks(memory) == [2, 3]
    assert memory.admit(sighting(4, stamp_s=100.0)) == ""
    assert tracks(memory) == [4]


def test_a_sighting_older_than_the_memory_reaches_is_refused():
    memory = Memory(MemoryConfig(max_age_s=0.5))
    memory.admit(sighting(1, stamp_s=10.0))
    assert memory.admit(sighting(2, stamp_s=9.4)) == "age"


def test_a_jump_back_in_time_clears_everything_first_and_a_late_cloud_does_not():
    memory = Memory()
    memory.admit(sighting(1, stamp_s=100.0))
    assert memory.admit(sighting(2, stamp_s=99.0)) == ""
    assert len(memory) == 2
    assert memory.admit(sighting(3, stamp_s=98.9)) == ""
    assert tracks(memory) == [3]
    assert memory.admit(sighting(4, stamp_s=98.0)) == ""
    assert tracks(memory) == [4, 3]


# Degenerate sightings


@pytest.mark.parametrize(
    "change", [{"stamp_s": math.nan}, {"entropy": math.inf}, {"feature": [math.nan]}, {"logits": [0.0, -math.inf]}]
)
def test_what_is_not_finite_is_refused_and_moves_no_clock(change):
    memory = filled([0])
    assert memory.admit(sighting(2, **change)) == "not finite"
    assert tracks(memory) == [1]
    assert memory.admit(sighting(3, stamp_s=1.5)) == ""
    assert tracks(memory) == [1, 3]


@pytest.mark.parametrize("change", [{"feature": np.ones(5)}, {"classes": 7}], ids=["features", "classes"])
def test_other_widths_clear_the_memory_first_since_labels_mean_something_else(change):
    memory = filled([0, 1])
    assert memory.admit(sighting(3, **change)) == ""
    assert tracks(memory) == [3]


@pytest.mark.parametrize("change", [{"objects": 0}, {"per_class": -1}, {"megabytes": math.nan}, {"max_age_s": 0.0}])
def test_bounds_that_make_no_sense_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        MemoryConfig(**change)


def test_counts_of_too_few_classes_are_refused():
    assert Memory().counts(3).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="holds class 2, but is asked for 2"):
        filled([2]).counts(2)


def test_admitting_to_a_full_memory_takes_less_than_a_millisecond():
    rng = np.random.default_rng(0)
    memory = Memory(MemoryConfig(objects=200))
    stream = [sighting(t, t % 8, feature=rng.normal(size=512), classes=8) for t in range(1, 700)]
    for one in stream[:400]:
        memory.admit(one)
    times = []
    for one in stream[400:]:
        start = time.perf_counter()
        memory.admit(one)
        times.append(time.perf_counter() - start)
    assert len(memory) == 200
    assert np.median(times) < 1e-3, f"admit took {np.median(times) * 1e3:.2f} ms"


def test_changed_sightings_take_the_places_of_those_that_are_still_there():
    memory = filled([0, 1, 2])
    first, second, third = memory.sightings()
    for track in (1, 4):  # the first one is seen better meanwhile
        memory.admit(sighting(track, stamp_s=10.0 + track, entropy=0.1))
    with_cloud = replace(third, frozen=False, cloud=np.ones((5, 3)))
    memory.change({first: replace(first, frozen=False), third: with_cloud, sighting(9): sighting(9)})
    check(memory)
    assert {one.track: one.frozen for one in memory.sightings()} == {1: True, 2: True, 3: False, 4: True}
    assert memory.sightings()[1] is with_cloud
    assert second in memory.sightings()
