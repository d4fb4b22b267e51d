"""The memory: bounded, balanced, one entry an object, no older than it may be, and whole on disk or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clipoint3d_ros.adaptation.memory import REFUSALS, Memory, MemoryConfig, MemoryFileError, Sighting

WIDTH, CLASSES = 16, 4


def sighting(track=1, label=0, stamp_s=None, feature=None, classes=CLASSES, **change):
    """Of a track whose stamp and feature follow from its number."""
    random = np.random.default_rng(abs(track)).normal(size=WIDTH)
    told = {
        "stamp_s": float(track) if stamp_s is None else stamp_s, "track": track, "id": f"segment {track}",
        "label": label, "feature": random if feature is None else feature, "logits": np.arange(classes) / 3,
        "entropy": 0.5, "agreement": 0.75, "familiarity": 0.9, "points": 200, "elevation": 0.6, "distance": 0.8,
    }  # fmt: skip
    return Sighting(**{**told, **change})


def filled(labels, **config):
    """A memory after sightings of tracks 1, 2, … with these labels."""
    memory = Memory(MemoryConfig(**config))
    for track, label in enumerate(labels, 1):
        assert memory.admit(sighting(track, label, classes=max(CLASSES, max(labels) + 1))) == ""
    return memory


def tracks(memory):
    return [held.track for held in memory.sightings()]


def check(memory):
    """What holds of any memory at any time."""
    held, config = memory.sightings(), memory.config
    stamps = [one.stamp_s for one in held]
    assert stamps == sorted(stamps)
    assert len(held) == len(memory) <= config.objects
    assert len({one.track for one in held}) == len(held), "a track has two entries"
    assert memory.nbytes == sum(one.nbytes for one in held) <= config.megabytes * 2**20
    assert max(memory.counts(64), default=0) <= config.per_class
    assert not held or stamps[-1] - stamps[0] <= config.max_age_s + 1


def state(memory):
    """All that it holds, for comparison."""
    return [(vars(one) | {"arrays": (one.feature.tobytes(), one.logits.tobytes())}) for one in memory.sightings()]


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


def test_a_sighting_owns_its_arrays_so_that_bytes_are_what_they_seem():
    message = np.zeros((1000, WIDTH), np.float32)
    one = sighting(feature=message[0], cloud=np.zeros((5000, 3), np.float64)[:50])
    assert one.feature.base is None
    assert one.cloud.base is None
    assert one.cloud.dtype == np.float32
    message[:] = 7
    assert not one.feature.any()


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feature": np.ones((1, 4))}, r"feature has shape \(1, 4\)"),
        ({"logits": []}, "logits has shape"),
        ({"cloud": np.ones((4, 2))}, r"cloud has shape \(4, 2\)"),
        ({"cloud": np.ones((0, 3))}, r"cloud has shape \(0, 3\)"),
        ({"label": 4}, "label is 4, but it has logits of 4 classes"),
        ({"label": -2}, "label is -2"),
        ({"agreement": 1.2}, "agreement is 1.2"),
        ({"familiarity": -0.5}, "familiarity is -0.5"),
        ({"points": -1}, "-1 points"),
    ],
)
def test_what_is_no_sighting_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=words):
        sighting(**change)


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


# On disk


@pytest.fixture
def saved(tmp_path):
    """(path, memory): three sightings, two with clouds, saved with these."""
    memory = Memory()
    for track, label in ((1, 0), (2, 3), (3, 1)):
        cloud = None if track == 2 else np.random.default_rng(track).normal(size=(track * 10, 3))
        memory.admit(sighting(track, label, cloud=cloud, frozen=track != 3))
    memory.save(tmp_path / "memory.safetensors", clouds=True, meaning="tiny: box, can")
    return tmp_path / "memory.safetensors", memory


def restored(path, meaning="tiny: box, can"):
    memory = Memory()
    memory.restore(path, meaning)
    return memory


def test_what_was_saved_is_restored_bit_for_bit_with_tracks_of_nobody(saved):
    path, memory = saved
    again = restored(path)
    check(again)
    for ours, theirs in zip(again.sightings(), memory.sightings(), strict=True):
        for name, value in vars(theirs).items():
            if name != "track":
                assert np.array_equal(getattr(ours, name), value), f"{name} has changed"
                assert type(getattr(ours, name)) is type(value)
    assert sorted(tracks(again)) == [-3, -2, -1]
    assert again.admit(sighting(1, stamp_s=4.0)) == "", "a new tracker's first object was taken for a restored one"
    assert len(again) == 4


def test_saving_what_was_restored_gives_the_same_file(saved, tmp_path):
    path, _ = saved
    restored(path).save(tmp_path / "again", clouds=True, meaning="tiny: box, can")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_clouds_are_written_only_when_asked_for(saved):
    path, memory = saved
    memory.save(path, meaning="tiny: box, can")
    assert len(load_file(path)["cloud"]) == 0
    assert all(one.cloud is None for one in restored(path).sightings())


def test_an_empty_memory_can_be_saved_and_restored(tmp_path, saved):
    Memory().save(tmp_path / "empty")
    _, memory = saved
    memory.restore(tmp_path / "empty")
    assert len(memory) == 0
    assert memory.admit(sighting(1, stamp_s=-5.0)) == ""


def test_a_restored_memory_keeps_its_own_bounds(tmp_path):
    filled([0] * 20 + [1] * 10).save(tmp_path / "memory")
    small = Memory(MemoryConfig(objects=8, per_class=5))
    small.restore(tmp_path / "memory")
    check(small)
    assert small.counts(2).tolist() == [4, 4]


def test_restoring_replaces_what_was_held_and_time_goes_on_from_there(saved):
    path, _ = saved
    memory = Memory()
    memory.admit(sighting(9, stamp_s=1e6))
    memory.restore(path, "tiny: box, can")
    assert len(memory) == 3
    assert memory.admit(sighting(10, stamp_s=3.5)) == ""
    assert len(memory) == 4
    assert memory.admit(sighting(11, stamp_s=1.0)) == ""
    assert len(memory) == 1, "a jump back behind the restored sightings was not noticed"


class Trap:
    """Raises where somebody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a memory was unpickled",))


def rewritten(path, change=None, told=None):
    """Let `change` alter the tensors and `told` the JSON of a saved memory."""
    tensors = load_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(length))["__metadata__"]
    if change:
        change(tensors)
    if told:
        content = json.loads(metadata["memory"])
        told(content)
        metadata["memory"] = json.dumps(content)
    save_file(tensors, path, metadata)


def spoil(name, index, value):
    def change(tensors):
        tensors[name][index] = value

    return lambda path: rewritten(path, change)


HOSTILE = {
    "missing": (lambda path: path.unlink(), "is no file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is no file"),
    "empty": (lambda path: path.write_bytes(b""), "truncated or no safetensors"),
    "a text": (lambda path: path.write_text("hello"), "truncated or no safetensors"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Trap())), "truncated or no safetensors"),
    "a giant header": (lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"), "truncated or no safetensors"),
    "too large": (lambda path: os.truncate(path, 1 << 30), "has 1073741824 bytes; a memory .* at most"),
    "foreign": (lambda path: save_file({"a": np.zeros(3)}, path), "no memory of format 2"),
    "metadata no JSON": (lambda path: save_file({}, path, {"memory": "{"}), "not JSON"),
    "deep JSON": (lambda path: save_file({}, path, {"memory": "[" * 100_000}), "not JSON"),
    "another format": (lambda path: rewritten(path, told=lambda t: t.update(format=9)), "of 9"),
    "no ids": (lambda path: rewritten(path, told=lambda t: t.pop("ids")), "no list of segment ids"),
    "ids of numbers": (lambda path: rewritten(path, told=lambda t: t.update(ids=[1, 2, 3])), "no list of segment ids"),
    "fewer ids": (lambda path: rewritten(path, told=lambda t: t["ids"].pop()), r"but 2 sightings want"),
    "other meaning": (lambda path: rewritten(path, told=lambda t: t.update(meaning="B: mug")), "saved for 'B: mug'"),
    "a tensor missing": (lambda path: rewritten(path, lambda t: t.pop("entropy")), "lacks entropy"),
    "a tensor more": (lambda path: rewritten(path, lambda t: t.update(x=np.zeros(2))), "has unknown x"),
    "other type": (lambda p: rewritten(p, lambda t: t.update(label=t["label"].astype("f8"))), "'label' .* is F64"),
    "half floats": (lambda p: rewritten(p, lambda t: t.update(feature=t["feature"].astype("f2"))), "is F16"),
    "other shape": (lambda p: rewritten(p, lambda t: t.update(feature=t["feature"][:2].copy())), r"\(2, 16\), but 3"),
    "no width": (lambda p: rewritten(p, lambda t: t.update(logits=np.zeros((3, 0), "f4"))), r"\(3, 0\), but 3"),
    "a scalar": (lambda p: rewritten(p, lambda t: t.update(points=np.array(3))), r"\(\), but 3"),
    "flat clouds": (lambda p: rewritten(p, lambda t: t.update(cloud=np.zeros((40, 2), "f4"))), r"\(40, 2\)"),
    "clouds cut": (lambda p: rewritten(p, lambda t: t.update(cloud=t["cloud"][:-1].copy())), "do not add up"),
    "negative clouds": (spoil("cloud_points", 1, -1), "do not add up"),
    "huge clouds": (spoil("cloud_points", slice(None), 2**62), "do not add up"),
    "no class": (spoil("label", 0, 99), "label is 99"),
    "share above 1": (spoil("agreement", 0, 3.0), "agreement is 3.0"),
    "negative points": (spoil("points", 0, -4), "-4 points"),
    "feature not finite": (spoil("feature", (1, 2), np.nan), "is not finite"),
    "stamp not finite": (spoil("stamp_s", 2, np.inf), "is not finite"),
    "cloud not finite": (spoil("cloud", (0, 0), np.nan), "is not finite"),
}


@pytest.mark.parametrize(("damage", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_in_words_and_leave_the_memory_as_it_was(saved, damage, words):
    path, memory = saved
    before, size = state(memory), memory.nbytes
    damage(path)
    with pytest.raises(MemoryFileError, match=words):
        memory.restore(path, "tiny: box, can")
    assert state(memory) == before
    assert memory.nbytes == size


def test_a_file_cut_anywhere_is_refused(saved):
    path, memory = saved
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(MemoryFileError):
            memory.restore(path, "tiny: box, can")


def test_a_file_of_other_widths_than_those_held_is_refused_until_the_memory_is_cleared(saved):
    path, _ = saved
    memory = Memory()
    memory.admit(sighting(1, classes=9))
    with pytest.raises(MemoryFileError, match=r"of \(16, 4\), but the memory holds \(16, 9\)"):
        memory.restore(path, "tiny: box, can")
    memory.clear()
    memory.restore(path, "tiny: box, can")
    assert len(memory) == 3


def test_a_full_disk_leaves_the_file_of_before_and_no_part(saved, monkeypatch):
    path, memory = saved
    before = path.read_bytes()
    memory.admit(sighting(8))

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=r"could not be written to .*No space left on device.*; free space"):
        memory.save(path)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_parts_of_dead_writers_are_cleared_away_and_those_of_living_ones_stay(saved):
    path, memory = saved
    dead, alive = (path.with_name(f".{path.name}.{pid}.part") for pid in (2**22 + 1, os.getppid()))
    for part in (dead, alive):
        part.write_bytes(b"half")
    memory.save(path)
    assert sorted(one.name for one in path.parent.iterdir()) == sorted((path.name, alive.name))
