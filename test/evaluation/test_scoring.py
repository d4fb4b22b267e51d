"""Scores by hand, and the JSON contract to the letter."""

import json

import pytest

from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameAnswer, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import TrueObject
from clipoint3d_ros.evaluation.scoring import score, windows

CLASSES = ("box", "can", "mug")


def frame(number, names, segments=(), recorded=True, bag=0):
    objects = tuple(TrueObject(i, name) for i, name in names.items())
    return Frame(FrameKey(bag, number), number / 2, objects, frozenset(segments), recorded)


def answer(objects, latency=0.01, version=0):
    return FrameAnswer({i: Answer(label, 0.5) for i, label in objects.items()}, latency, version)


def two_frames():
    """Five objects to score: two right, one wrong, one without an answer, one in a dropped frame."""
    frames = [
        frame(0, {"2": "box", "3": "can", "4": "bottle", "5": "box"}, segments=("2", "3", "4", "5", "6")),
        frame(1, {"2": "box", "3": "can"}, segments=("2", "3")),
        frame(2, {"2": "can"}, segments=("2",)),
    ]
    frozen = {
        frames[0].key: answer({"2": "box", "3": "box", "4": "can", "6": "box"}, latency=0.02),
        frames[1].key: answer({"2": "box", "3": "can"}, latency=0.04),
    }
    return frames, Replayed(CLASSES, frozen)


def test_unanswered_objects_stay_in_the_denominator():
    figures = score(*two_frames())
    assert figures["objects"] == 6
    assert figures["frozen"]["accuracy"] == 3 / 6
    assert figures["frozen"]["answered_accuracy"] == 3 / 4
    assert figures["frozen"]["macro_accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert figures["per_class"]["box"] == {"n": 3, "frozen": pytest.approx(2 / 3), "adapted": None}
    assert figures["per_class"]["mug"] == {"n": 0, "frozen": None, "adapted": None}


def test_all_objects_and_all_frames_are_counted():
    figures = score(*two_frames())
    assert figures["instances"] == 8  # bottle and the nameless "6" too
    assert (figures["frames"], figures["dropped_frames"]) == (3, 1)


def test_confusion_has_rows_of_truth():
    assert score(*two_frames())["confusion"] == {"classes": list(CLASSES), "matrix": [[2, 0, 0], [1, 1, 0], [0, 0, 0]]}


def test_latency_is_over_answered_frames():
    latency = score(*two_frames())["latency_ms"]
    assert latency["p50"] == pytest.approx(30)
    assert latency["max"] == pytest.approx(40)


def test_an_unknown_label_is_no_named_class():
    frames = [frame(0, {"2": "box", "3": "box"})]
    figures = score(frames, Replayed(CLASSES, {frames[0].key: answer({"2": "unknown", "3": "box"})}))
    assert figures["frozen"]["accuracy"] == 0.5
    assert figures["frozen"]["answered_accuracy"] == 1
    assert figures["unknown"] == {"below": 0, "rate": 0.5, "rate_outside": None}


def test_unknown_is_reported_on_its_own_and_changes_no_accuracy():
    frames, replayed = two_frames()
    strict, lax = score(frames, replayed, unknown_below=0.6), score(frames, replayed)
    assert strict["unknown"] == {"below": 0.6, "rate": 1, "rate_outside": 1}
    assert lax["unknown"] == {"below": 0.0, "rate": 0, "rate_outside": 0}
    assert {k: v for k, v in strict.items() if k != "unknown"} == {k: v for k, v in lax.items() if k != "unknown"}


def test_truth_without_a_cloud_counts_as_wrong_but_drops_no_frame():
    frames = [frame(0, {"2": "box"}), frame(1, {"2": "box"}, recorded=False)]
    figures = score(frames, Replayed(CLASSES, {frames[0].key: answer({"2": "box"})}))
    assert (figures["objects"], figures["frames"], figures["dropped_frames"]) == (2, 1, 0)
    assert figures["frozen"]["accuracy"] == 0.5


def test_a_cloud_that_is_one_object_needs_no_id():
    frames = [frame(0, {"7": "mug"}, segments=("",)), frame(1, {"": "mug"}, segments=("",))]
    figures = score(frames, Replayed(CLASSES, {f.key: answer({"": "mug"}) for f in frames}))
    assert figures["frozen"]["accuracy"] == 1
    assert figures["instances"] == 2


def test_equal_stamps_of_two_bags_are_two_frames():
    frames = [frame(0, {"2": "box"}), frame(0, {"2": "can"}, bag=1)]
    answers = {frames[0].key: answer({"2": "box"}), frames[1].key: answer({"2": "box"})}
    assert score(frames, Replayed(CLASSES, answers))["frozen"]["accuracy"] == 0.5


def test_windows_hold_whole_frames_and_all_objects():
    assert windows([20, 20, 20, 5, 50, 3]) == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert windows([]) == windows([0, 0]) == []
    frames = [frame(i, {str(k): "box" for k in range(2, 22)}) for i in range(5)]
    answers = {f.key: answer({str(k): "box" if i < 3 else "can" for k in range(2, 22)}) for i, f in enumerate(frames)}
    expected = {"adapted": None, "adapter_version": 0}
    assert score(frames, Replayed(CLASSES, answers))["windows"] == [
        {"start": 0.0, "end": 1.0, "objects": 60, "frozen": 1.0, **expected},
        {"start": 1.5, "end": 2.0, "objects": 40, "frozen": 0.0, **expected},
    ]


def test_an_adapter_is_scored_beside_the_frozen_model():
    frames, replayed = two_frames()
    better = {frames[0].key: answer({"2": "box", "3": "can", "5": "box"}, version=0)}
    better[frames[1].key] = answer({"2": "box", "3": "can"}, version=4)
    figures = score(frames, Replayed(CLASSES, replayed.frozen, better))
    assert figures["frozen"]["accuracy"] == 3 / 6
    assert figures["adapted"]["accuracy"] == 5 / 6
    assert figures["adapter_versions"] == [0, 4]
    assert figures["windows"][-1]["adapter_version"] == 4
    assert figures["confusion"]["matrix"][1] == [0, 2, 0]
    assert figures["per_class"]["can"] == {"n": 3, "frozen": pytest.approx(1 / 3), "adapted": pytest.approx(2 / 3)}


def test_the_json_is_the_contract_to_the_letter():
    figures = json.loads(json.dumps(score(*two_frames()), allow_nan=False))
    accuracies = {"accuracy": float, "macro_accuracy": float, "answered_accuracy": float, "ece": float}
    contract = {
        "classes": [str],
        "objects": int,
        "instances": int,
        "frames": int,
        "dropped_frames": int,
        "frozen": accuracies,
        "adapted": None,
        "per_class": {name: {"n": int, "frozen": float, "adapted": None} for name in ("box", "can")}
        | {"mug": {"n": int, "frozen": None, "adapted": None}},
        "confusion": {"classes": [str], "matrix": [[int]]},
        "latency_ms": {"p50": float, "p95": float, "p99": float, "max": float},
        "adapter_versions": [int],
        "windows": [
            {"start": float, "end": float, "objects": int, "frozen": float, "adapted": None, "adapter_version": int}
        ],
    }
    beside = {"unknown", "intervals", "adapter_timeline", "gain", "missed", "unscored"}
    assert_shape({key: value for key, value in figures.items() if key not in beside}, contract)
    assert set(figures) == set(contract) | beside
    adapted = score(two_frames()[0], Replayed(CLASSES, two_frames()[1].frozen, two_frames()[1].frozen))["adapted"]
    assert_shape(adapted, accuracies)


def test_the_json_tells_when_each_version_took_over_and_what_it_gained():
    frames = [frame(i, {"2": "box", "3": "can", "4": "bottle"}) for i in range(6)]
    frozen = {f.key: answer({"2": "box", "3": "box"}) for f in frames}
    adapted = {
        f.key: answer({"2": "box", "3": "can"} if i > 1 else {"2": "can", "3": "box"}, version=i // 2)
        for i, f in enumerate(frames)
    }
    figures = json.loads(json.dumps(score(frames, Replayed(CLASSES, frozen, adapted)), allow_nan=False))
    assert figures["adapter_timeline"] == [
        {"start": 0.0, "objects": 0, "version": 0},
        {"start": 1.0, "objects": 4, "version": 1},
        {"start": 2.0, "objects": 8, "version": 2},
    ]
    gain = figures["gain"]
    assert (gain["mended"], gain["broken"]) == (4, 2)
    for key in ("accuracy", "macro_accuracy", "ece"):
        assert gain[key] == pytest.approx(figures["adapted"][key] - figures["frozen"][key])
        low, high = gain["intervals"][key]
        assert low <= gain[key] <= high
        assert figures["intervals"]["adapted"][key][0] <= figures["adapted"][key]
    assert figures["missed"] == {"no_cloud": 0, "dropped": 0, "no_segment": 0, "unknown": 0}
    assert figures["unscored"] == {"other_classes": 6, "nameless": 0, "no_truth": 0}


def test_an_adapter_that_never_went_live_gains_nothing_for_certain():
    frames, replayed = two_frames()
    figures = score(frames, Replayed(CLASSES, replayed.frozen, replayed.frozen))
    assert figures["adapted"] == figures["frozen"]
    assert figures["adapter_timeline"] == [{"start": 0.0, "objects": 0, "version": 0}]
    assert (figures["gain"]["accuracy"], figures["gain"]["intervals"]["accuracy"]) == (0, [0, 0])
    assert figures["gain"]["intervals"]["ece"] == [0, 0]


@pytest.mark.parametrize("live", [False, True])
def test_one_frame_gives_no_interval(live):
    frames = [frame(0, {"2": "box", "3": "can"})]
    given = {frames[0].key: answer({"2": "box", "3": "box"}, version=1)}
    figures = score(frames, Replayed(CLASSES, given, given if live else None))
    none = {key: [None, None] for key in ("accuracy", "macro_accuracy", "ece")}
    assert figures["intervals"] == {"frozen": none, "adapted": none if live else None}
    assert figures["gain"] == (
        {"accuracy": 0, "macro_accuracy": 0, "ece": 0, "intervals": none, "mended": 0, "broken": 0} if live else None
    )


@pytest.mark.parametrize("live", [False, True])
def test_a_bag_of_none_of_the_classes_is_counted_but_not_scored(live):
    frames = [frame(i, {"2": "bottle", "3": ""}, segments=("2", "3", "4")) for i in range(3)]
    given = {f.key: answer({"2": "box", "3": "can", "4": "can"}, version=2) for f in frames}
    figures = json.loads(json.dumps(score(frames, Replayed(CLASSES, given, given if live else None)), allow_nan=False))
    assert (figures["objects"], figures["instances"], figures["windows"]) == (0, 9, [])
    assert figures["unscored"] == {"other_classes": 3, "nameless": 3, "no_truth": 3}
    assert figures["adapter_timeline"] == [{"start": 0.0, "objects": 0, "version": 2}]
    if live:
        assert figures["gain"]["accuracy"] is None
        assert figures["gain"]["ece"] is None


def assert_shape(value, wanted, where="json"):
    if wanted is None or isinstance(wanted, type):
        assert type(value) is (type(None) if wanted is None else wanted), f"{where} is {value!r}"
    elif isinstance(wanted, list):
        assert isinstance(value, list), where
        assert value, f"{where} is empty"
        for i, part in enumerate(value):
            assert_shape(part, wanted[0], f"{where}[{i}]")
    else:
        assert set(value) == set(wanted), f"{where} has {sorted(value)}"
        for key in wanted:
            assert_shape(value[key], wanted[key], f"{where}.{key}")


def test_an_empty_replay_still_gives_the_whole_contract():
    frames = [frame(0, {"2": "bottle"}, segments=("2",))]
    figures = score(frames, Replayed(CLASSES, {}))
    assert figures["frozen"] == dict.fromkeys(("accuracy", "macro_accuracy", "answered_accuracy", "ece"))
    assert figures["latency_ms"] == dict.fromkeys(("p50", "p95", "p99", "max"))
    assert (figures["dropped_frames"], figures["windows"], figures["adapter_versions"]) == (1, [], [])
