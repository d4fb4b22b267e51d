"""A memory on disk: whole or not there, and hostile files refused in words."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from memories_made import check, filled, sighting, state, tracks
from safetensors.numpy import load_file, save_file

from clipoint3d_ros.adaptation.memory import Memory, MemoryConfig
from clipoint3d_ros.adaptation.memory_file import MemoryFileError


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
