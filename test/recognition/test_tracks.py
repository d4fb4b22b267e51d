"""Tracks: one object keeps its number while it is seen, and no two objects ever share one."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest

from clipoint3d_ros.recognition.tracks import Tracker, TrackerConfig, TrackFusion

CUP = (0.08, 0.08, 0.10)


class Model:
    """Something that predicts."""


MODEL = Model()


def seen(tracker, stamp_s, *xs, ids=None, sizes=None):
    """Tracks of objects on a line, at x metres."""
    centres = np.array([(x, 0.0, 0.5) for x in xs]).reshape(-1, 3)
    return tracker.update(stamp_s, ids or [""] * len(xs), centres, sizes or [CUP] * len(xs))


# The same object


def test_objects_that_stand_still_keep_their_numbers_in_any_order():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, 0.3, 0.6) == [1, 2, 3]
    assert seen(tracker, 0.5, 0.61, 0.01, 0.3) == [3, 1, 2]


def test_a_new_object_gets_a_new_number_and_an_absent_one_keeps_its_own_for_a_while():
    tracker = Tracker(TrackerConfig(forget_s=2.0))
    assert seen(tracker, 0.0, 0.0, 0.3) == [1, 2]
    assert seen(tracker, 1.0, 0.3, 0.9) == [2, 3]
    assert seen(tracker, 2.0, 0.0, 0.9) == [1, 3], "a track was forgotten before its time"
    assert seen(tracker, 4.1, 0.0, 0.9) == [4, 5], "a track outlived its time"


def test_a_slow_object_is_followed_further_than_one_move():
    tracker = Tracker(TrackerConfig(max_move=0.1))
    assert {seen(tracker, 0.1 * step, 0.08 * step)[0] for step in range(20)} == {1}


def test_an_object_that_moved_too_far_or_changed_its_size_is_another():
    tracker = Tracker(TrackerConfig(max_move=0.1, size_ratio=1.6))
    assert seen(tracker, 0.0, 0.0) == [1]
    assert seen(tracker, 0.1, 0.11) == [2]
    assert seen(tracker, 0.2, 0.0, sizes=[(0.02, 0.02, 0.155)]) == [1]
    assert seen(tracker, 0.3, 0.0, sizes=[(0.02, 0.02, 0.26)]) == [3]


def test_what_turns_keeps_its_number_though_its_extents_change_places():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, sizes=[(0.3, 0.05, 0.2)]) == [1]
    assert seen(tracker, 0.1, 0.0, sizes=[(0.05, 0.3, 0.2)]) == [1]


def test_an_object_that_left_is_not_dragged_on_to_its_neighbour():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, 0.08) == [1, 2]
    assert seen(tracker, 0.1, 0.08, 0.16) == [2, 3], "two moves of 8 cm were taken for likelier than one new object"


def test_objects_that_all_move_alike_keep_their_numbers():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, 0.08, 0.16) == [1, 2, 3]
    assert seen(tracker, 0.1, 0.05, 0.13, 0.21) == [1, 2, 3]


def test_no_two_segments_of_a_frame_are_one_track():
    tracker = Tracker()
    seen(tracker, 0.0, 0.0)
    numbers = seen(tracker, 0.1, 0.01, 0.0, -0.01, 0.0)
    assert len(set(numbers)) == 4
    assert 1 in numbers


# Segment ids


def test_a_renumbering_segmenter_does_not_swap_tracks():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, 0.09, ids=["1", "2"]) == [1, 2]
    assert seen(tracker, 0.1, 0.0, 0.09, ids=["2", "1"]) == [1, 2]
    assert seen(tracker, 0.2, 0.5, 0.0, ids=["2", "7"]) == [3, 1], "an id drew a track across half a metre"


def test_an_equal_id_decides_between_two_that_are_as_near():
    for ids, expected in ((["a", "b"], [1, 2]), (["b", "a"], [2, 1])):
        tracker = Tracker()
        seen(tracker, 0.0, 0.0, 0.04, ids=["a", "b"])
        assert seen(tracker, 0.1, 0.02, 0.02, ids=ids) == expected


def test_empty_and_repeated_ids_say_nothing_and_break_nothing():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, 0.3, 0.6, ids=["1", "1", "1"]) == [1, 2, 3]
    assert seen(tracker, 0.1, 0.6, 0.3, 0.0, ids=["1", "1", ""]) == [3, 2, 1]


# Segment ids that last


def lasting(ids_last_s=60.0, **more):
    return Tracker(TrackerConfig(ids_last_s=ids_last_s, **more))


def test_ids_that_last_are_followed_wherever_their_object_is():
    tracker = lasting()
    for step in range(20):  # the sensor moves, and half of the time everything stands where its neighbour stood
        assert seen(tracker, 0.5 * step, 0.15 * step, 0.3 + 0.15 * step, ids=["7", "8"]) == [1, 2]
    assert seen(tracker, 60.0, 9.0, 0.0, ids=["8", "7"]) == [2, 1], "a glance away took them for others"


def test_ids_that_last_come_before_a_nearer_place():
    tracker = lasting()
    assert seen(tracker, 0.0, 0.0, 0.09, ids=["a", "b"]) == [1, 2]
    assert seen(tracker, 0.1, 0.0, 0.09, ids=["b", "a"]) == [2, 1]
    assert seen(tracker, 0.2, 0.0, 0.09, ids=["c", "b"]) == [1, 2], "who has a new id is known by its place"
    assert seen(tracker, 0.3, 0.5, 0.09, ids=["c", "a"]) == [1, 2], "and by its new id from then on"


def test_an_id_with_another_size_is_another_object():
    tracker, tall = lasting(), (0.02, 0.02, 0.20)
    assert seen(tracker, 0.0, 0.0, ids=["7"]) == [1]
    assert seen(tracker, 0.1, 0.0, ids=["7"], sizes=[tall]) == [2]
    assert seen(tracker, 0.2, 1.0, ids=["7"]) == [1]
    assert seen(tracker, 0.3, 2.0, ids=["7"], sizes=[tall]) == [2]
    assert seen(tracker, 0.4, 3.0, ids=["7"], sizes=[(0.02, 0.02, 0.145)]) == [2], "of two that fit, the one seen last"


def test_ids_are_forgotten_in_their_own_time_and_places_in_theirs():
    tracker = lasting(10.0, forget_s=2.0)
    assert seen(tracker, 0.0, 0.0, 1.0, ids=["7", "8"]) == [1, 2]
    assert seen(tracker, 3.0, 5.0, 1.0, ids=["7", "9"]) == [1, 3], "a place outlived its time beside its id"
    assert seen(tracker, 13.1, 5.0, 1.0, ids=["7", "8"]) == [4, 5], "an id outlived its time"
    long = TrackerConfig(forget_s=60.0)
    tracker = Tracker(long)
    assert seen(tracker, 0.0, 0.0) == [1]
    assert seen(tracker, 59.0, 0.05) == [1]
    assert seen(tracker, 119.1, 0.05) == [2]


def test_ids_that_last_but_are_empty_or_repeated_say_nothing():
    tracker = lasting()
    assert seen(tracker, 0.0, 0.0, 0.3, 0.6, ids=["1", "2", ""]) == [1, 2, 3]
    assert seen(tracker, 0.1, 0.6, 0.3, 0.0, ids=["1", "1", ""]) == [3, 2, 1]
    assert seen(tracker, 0.2, 5.0, 6.0, ids=["1", ""]) == [2, 4]


def test_a_moving_sensor_gives_tracks_without_lasting_ids_or_a_fixed_frame_no_hold():
    """What the segment ids are for: the same frames, by place alone."""
    tracker = Tracker()
    numbers = {n for step in range(20) for n in seen(tracker, 0.5 * step, 0.15 * step, 1 + 0.15 * step, ids=["7", "8"])}
    assert len(numbers) == 40


# Numbers and time


def test_a_jump_back_in_time_ends_all_tracks_and_numbers_go_on():
    tracker = Tracker()
    assert seen(tracker, 100.0, 0.0) == [1]
    assert seen(tracker, 99.2, 0.0) == [1], "a frame that came late ended the tracks"
    assert seen(tracker, 98.9, 0.0) == [2], "the jump was measured from the late frame"
    tracker.clear()
    assert seen(tracker, 0.0, 0.0) == [3]


def test_cleared_tracks_are_not_found_again():
    tracker = Tracker()
    seen(tracker, 0.0, 0.0)
    tracker.clear()
    assert seen(tracker, 0.0, 0.0) == [2]


# Degenerate frames


def test_an_empty_frame_is_a_frame():
    tracker = Tracker()
    assert tracker.update(0.0, [], [], []) == []
    assert seen(tracker, 0.1, 0.0) == [1]
    assert tracker.update(0.2, [], np.empty((0, 3)), np.empty((0, 3))) == []
    assert seen(tracker, 0.3, 0.0) == [1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_gets_a_fresh_track_each_time(wrong):
    tracker = Tracker()
    assert seen(tracker, 0.0, wrong, 0.3) == [1, 2]
    assert seen(tracker, 0.1, wrong, 0.3) == [3, 2]
    assert seen(tracker, 0.2, 0.3, sizes=[(wrong, 0.1, 0.1)]) == [4]
    assert seen(tracker, 0.3, 0.3) == [2]


def test_a_single_point_has_no_size_and_can_be_followed():
    tracker = Tracker()
    assert seen(tracker, 0.0, 0.0, sizes=[(0, 0, 0)]) == [1]
    assert seen(tracker, 0.1, 0.0, sizes=[(1e-4, 0, 0)]) == [1]


def test_enormous_numbers_do_not_break_it():
    tracker = Tracker()
    assert seen(tracker, 0.0, 1e300, -1e300, sizes=[(1e308, 1, 1)] * 2) == [1, 2]
    assert seen(tracker, 0.1, 0.0, -1e300) == [3, 4]


def test_many_objects_are_matched_without_a_table_of_all_pairs():
    tracker = Tracker()
    xs = list(np.arange(3000) * 0.5)
    assert seen(tracker, 0.0, *xs) == list(range(1, 3001))
    assert seen(tracker, 0.1, *reversed(xs)) == list(range(3000, 0, -1))


def test_a_track_does_not_hold_the_frames_arrays():
    tracker, centres, sizes = Tracker(), np.zeros((1, 3)), np.full((1, 3), 0.1)
    tracker.update(0.0, [""], centres, sizes)
    centres[:] = 9
    assert tracker.update(0.1, [""], np.zeros((1, 3)), sizes) == [1]


def test_lengths_that_differ_and_stamps_without_a_time_are_refused():
    tracker = Tracker()
    with pytest.raises(ValueError, match=r"centres have shape \(2, 3\), but 1 segment ids want \(1, 3\)"):
        tracker.update(0.0, ["a"], np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="sizes have shape"):
        tracker.update(0.0, ["a"], np.zeros((1, 3)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="stamp nan s is not finite"):
        seen(tracker, math.nan, 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_move": 0.0}, "max_move is 0.0 m"),
        ({"max_move": math.nan}, "max_move is nan"),
        ({"size_ratio": 1.0}, "size_ratio is 1.0"),
        ({"forget_s": -1.0}, "forget_s is -1.0 s"),
        ({"ids_last_s": -1.0}, "ids_last_s is -1.0 s"),
        ({"ids_last_s": math.nan}, "ids_last_s is nan s"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TrackerConfig(**change)


# Fusion of a track's predictions


def test_a_first_sighting_is_its_own_answer():
    row = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert np.array_equal(TrackFusion().update(0.0, [1, 2], row, MODEL), row)


def test_fused_predictions_are_the_decayed_geometric_mean():
    rows = np.random.default_rng(0).dirichlet(np.ones(4), 5)
    fusion = TrackFusion(decay=0.6)
    for stamp, row in enumerate(rows):
        fused = fusion.update(0.1 * stamp, [7], row[None], MODEL)
    weights = 0.6 ** np.arange(4, -1, -1)
    expected = np.exp((weights[:, None] * np.log(rows)).sum(0) / weights.sum())
    assert np.allclose(fused[0], expected / expected.sum())


def test_fused_rows_are_distributions_and_repeating_an_opinion_changes_nothing():
    fusion, row = TrackFusion(), np.array([[0.6, 0.3, 0.1]])
    for step in range(30):
        fused = fusion.update(0.1 * step, [1], row, MODEL)
    assert np.allclose(fused, row)
    certain = fusion.update(3.1, [1], np.array([[0.0, 0.0, 1.0]]), MODEL)
    assert np.isfinite(certain).all()
    assert certain.sum() == pytest.approx(1)


def test_one_odd_sighting_does_not_turn_a_track_and_several_do():
    fusion, mug, tin = TrackFusion(), np.array([[0.8, 0.2]]), np.array([[0.3, 0.7]])
    for step in range(5):
        fusion.update(0.1 * step, [1], mug, MODEL)
    answers = [fusion.update(0.5 + 0.1 * step, [1], tin, MODEL)[0].argmax() for step in range(10)]
    assert answers[0] == 0
    assert answers[-1] == 1
    assert answers == sorted(answers), "it turned more than once"


def test_tracks_do_not_mix():
    fusion = TrackFusion()
    fusion.update(0.0, [1, 2], np.array([[0.9, 0.1], [0.1, 0.9]]), MODEL)
    both = fusion.update(0.1, [2, 1], np.array([[0.5, 0.5], [0.5, 0.5]]), MODEL)
    alone = TrackFusion()
    alone.update(0.0, [1], np.array([[0.9, 0.1]]), MODEL)
    assert np.array_equal(both[1], alone.update(0.1, [1], np.array([[0.5, 0.5]]), MODEL)[0])
    assert both[0].argmax() == 1


@pytest.mark.parametrize("later", [3.0, -2.0], ids=["forgotten", "time jumped back"])
def test_old_tracks_start_anew(later):
    fusion, row = TrackFusion(forget_s=2.0), np.array([[0.2, 0.8]])
    fusion.update(0.0, [1], np.array([[0.9, 0.1]]), MODEL)
    assert np.array_equal(fusion.update(later, [1], row, MODEL), row)


def test_another_model_starts_anew_and_an_empty_frame_does_not():
    fusion, row = TrackFusion(), np.array([[0.2, 0.8]])
    fusion.update(0.0, [1], np.array([[0.9, 0.1]]), MODEL)
    assert fusion.update(0.1, [], np.empty((0, 5)), MODEL).shape == (0, 5)
    assert fusion.update(0.1, [], [], MODEL).shape == (0, 0)
    assert not np.allclose(fusion.update(0.2, [1], row, MODEL), row)
    assert np.array_equal(fusion.update(0.3, [1], row, another := Model()), row), "of as many classes"
    wider = np.array([[0.2, 0.5, 0.3]])
    assert np.array_equal(fusion.update(0.4, [1], wider, MODEL), wider)
    assert np.array_equal(fusion.update(0.5, [1], row, another), row), "what it said before the other came is gone"


def test_cleared_fusion_starts_anew():
    fusion, row = TrackFusion(), np.array([[0.2, 0.8]])
    fusion.update(0.0, [1], np.array([[0.9, 0.1]]), MODEL)
    fusion.clear()
    assert np.array_equal(fusion.update(0.1, [1], row, MODEL), row)


def test_a_model_that_is_left_is_not_kept():
    fusion, model = TrackFusion(), Model()
    fusion.update(0.0, [1], np.array([[0.9, 0.1]]), model)
    left = weakref.ref(model)
    del model
    assert left() is None


@pytest.mark.parametrize("wrong", [[math.nan, 1.0], [math.inf, 0.0], [-0.5, 1.5], [0.0, 0.0]])
def test_a_row_that_is_no_distribution_passes_through_and_adds_nothing(wrong):
    fusion, untouched = TrackFusion(), TrackFusion()
    for each in (fusion, untouched):
        each.update(0.0, [1], np.array([[0.9, 0.1]]), MODEL)
    assert np.array_equal(fusion.update(0.1, [1], np.array([wrong]), MODEL), np.array([wrong]), equal_nan=True)
    row = np.array([[0.2, 0.8]])
    assert np.array_equal(fusion.update(0.2, [1], row, MODEL), untouched.update(0.2, [1], row, MODEL))


def test_rows_that_do_not_match_the_tracks_and_odd_settings_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 1 tracks"):
        TrackFusion().update(0.0, [1], np.ones((2, 3)), MODEL)
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        TrackFusion(decay=1.0)
    with pytest.raises(ValueError, match=r"forget_s is 0\.0"):
        TrackFusion(forget_s=0.0)
    given = np.array([[0.5, 0.5]])
    fusion = TrackFusion()
    fusion.update(0.0, [1], given, MODEL)
    fusion.update(0.1, [1], np.array([[0.9, 0.1]]), MODEL)
    assert given.tolist() == [[0.5, 0.5]]
