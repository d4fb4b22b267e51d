"""The store: whatever happens, and whenever, there is a bundle that loads."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bundles import small_bundle
from safetensors import SafetensorError

import clipoint3d_ros
from clipoint3d_ros.adaptation import store as module
from clipoint3d_ros.adaptation.store import Store, StoreError, ram_folder
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle, read_meta

DEAD = 2**22 + 1  # beyond the largest process number


def writer(content="weights"):
    """Writes a small bundle as `save_bundle` does: beside, then renamed."""

    def write(folder):
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        beside.mkdir()
        (beside / "adapter.safetensors").write_text(content)
        (beside / "bundle.json").write_text(hashlib.sha256(content.encode()).hexdigest())
        beside.rename(folder)

    return write


def read(folder):
    """A bundle's content, if it is whole."""
    content = (folder / "adapter.safetensors").read_text()
    if hashlib.sha256(content.encode()).hexdigest() != (folder / "bundle.json").read_text():
        raise ValueError(f"{folder} is damaged")
    return content


@pytest.fixture
def places(tmp_path):
    return tmp_path / "live", tmp_path / "disk"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Versions


def test_a_bundle_is_written_under_its_version_and_found(places):
    store = Store(*places)
    assert store.latest(read) is None
    assert store.persist() is None
    assert store.put(12, writer()) == places[0] / "version-000012"
    assert store.versions() == [12]
    assert store.latest(read) == places[0] / "version-000012"
    assert store.persist() == places[1] / "version-000012"
    assert read(places[1] / "version-000012") == "weights"


def test_the_newest_are_kept_in_each_folder_by_number_and_not_by_name(places):
    store = Store(*places, keep=2)
    for version in (999_998, 999_999, 1_000_000, 1_000_001):
        store.put(version, writer())
        store.persist()
    assert names(places[0]) == names(places[1]) == ["version-1000000", "version-1000001"]
    assert store.versions() == [1_000_000, 1_000_001]


def test_only_the_newest_live_bundle_goes_to_disk_and_only_once(places):
    store = Store(*places)
    for version in (1, 2, 3):
        store.put(version, writer(f"weights {version}"))
    store.persist()
    assert names(places[1]) == ["version-000003"]
    written = (places[1] / "version-000003").stat()
    store.persist()
    again = (places[1] / "version-000003").stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns), "the disk was worn for nothing"


def test_a_version_written_again_is_replaced_live_and_on_disk(places):
    store = Store(*places)
    for content in ("first", "second"):
        store.put(4, writer(content))
        store.persist()
    assert [read(place / "version-000004") for place in places] == ["second", "second"]
    assert names(places[0]) == names(places[1]) == ["version-000004"]


def test_after_the_power_went_the_disk_has_the_latest(places):
    store = Store(*places)
    store.put(1, writer("one"))
    store.persist()
    store.put(2, writer("two"))
    assert read(store.latest(read)) == "two"
    shutil.rmtree(places[0])
    assert read(Store(*places).latest(read)) == "one"


def test_live_folders_that_vanish_are_made_again(places):
    store = Store(*places)
    store.put(1, writer())
    shutil.rmtree(places[0])
    assert store.persist() is None
    assert store.versions() == []
    store.clear()
    store.put(2, writer())
    assert store.latest(read) == places[0] / "version-000002"


def test_damaged_bundles_are_skipped_and_may_be_of_any_kind(places):
    store = Store(*places)
    store.put(1, writer("one"))
    store.persist()
    for version in (2, 3, 4):
        store.put(version, writer())
    (places[0] / "version-000004" / "bundle.json").unlink()
    (places[0] / "version-000003" / "adapter.safetensors").write_text("other")
    shutil.rmtree(places[0] / "version-000002")
    (places[0] / "version-000002").write_text("a file")
    (places[0] / "version-x").mkdir()
    assert read(store.latest(read)) == "one"


def test_a_version_that_was_damaged_can_be_written_again_and_is_not_pruned(places):
    store = Store(places[0], None, keep=2)
    for version in (7, 8, 9):
        (places[0] / f"version-{version:06d}").mkdir()
        (places[0] / f"version-{version:06d}" / "half").write_text("")
    assert store.put(7, writer("seven")) == store.latest(read)
    assert store.persist() is None
    assert store.versions() == [7, 9]


def test_reset_removes_live_and_disk_and_nothing_else(places):
    store = Store(*places)
    store.put(1, writer())
    store.persist()
    (places[1] / "log.txt").write_text("kept")
    store.clear()
    assert store.versions() == []
    assert store.latest(read) is None
    assert (names(places[0]), names(places[1])) == ([], ["log.txt"])


def test_real_bundles_go_through_and_a_truncated_one_is_skipped(places, small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    store = Store(*places)
    for version in (1, 2, 2):
        store.put(version, lambda folder, version=version: small_bundle(folder, backbone, version=version))
        store.persist()
    assert load_bundle(store.latest(read_meta), backbone).version == 2
    assert load_bundle(places[1] / "version-000002", backbone).version == 2
    for place in places:
        (place / "version-000002" / "bundle.json").write_text('{"format"')
    assert read_meta(store.latest(read_meta))["version"] == 1
    assert names(places[0]) == names(places[1]) == ["version-000001", "version-000002"]


@pytest.mark.parametrize("version", [0, -1, 2**31])
def test_versions_outside_their_range_are_refused(places, version):
    with pytest.raises(ValueError, match=f"version is {version}"):
        Store(*places).put(version, writer())


def test_stores_that_could_not_work_are_refused(places, tmp_path):
    with pytest.raises(ValueError, match="keep is 0"):
        Store(*places, keep=0)
    with pytest.raises(ValueError, match="live and disk are both"):
        Store(places[0], places[0] / ".." / "live")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be opened.*name another folder"):
        Store(tmp_path / "file", None)


# Without a disk


@pytest.fixture
def unmade(places):
    """Folders of which that on disk cannot be made: a file is in its way."""
    places[1].write_text("no folder")
    return places[0], places[1] / "bundles"


def test_without_a_disk_bundles_are_live_alone_and_it_says_why(unmade):
    store = Store(*unmade)
    assert re.search(r"disk/bundles cannot be opened.*Not a directory.*name another folder", store.without_disk)
    store.put(1, writer("one"))
    assert (store.versions(), read(store.latest(read))) == ([1], "one")
    with pytest.raises(StoreError, match="cannot be opened"):
        store.persist()
    store.clear()
    assert store.versions() == [], "what could never be made holds nothing that may come back"


def test_a_disk_is_tried_again_whenever_something_is_to_be_copied(unmade, places):
    store = Store(*unmade)
    store.put(1, writer("one"))
    places[1].unlink()
    assert store.persist() == unmade[1] / "version-000001"
    assert store.without_disk == ""
    store.clear()
    assert names(unmade[1]) == []


def test_what_an_earlier_run_left_on_a_disk_that_comes_back_passes_for_no_newer(unmade, places, tmp_path):
    earlier = Store(tmp_path / "other", tmp_path / "away" / "bundles")
    for version in (6, 7):
        earlier.put(version, writer("of before"))
        earlier.persist()
    store = Store(*unmade)
    store.put(2, writer("newest"))
    places[1].unlink()
    (tmp_path / "away").rename(places[1])
    store.persist()
    assert names(unmade[1]) == ["version-000002"]
    shutil.rmtree(places[0])
    assert read(Store(*unmade).latest(read)) == "newest"


def test_a_disk_that_is_there_and_cannot_be_opened_is_not_said_to_be_cleared(places, tmp_path):
    places[1].write_text("no folder")
    store = Store(*places)
    store.put(1, writer())
    with pytest.raises(StoreError, match="cannot be opened"):
        store.clear()
    assert names(places[0]) == []


# What dead writers leave


def test_parts_of_the_dead_are_cleared_at_start_and_those_of_the_living_stay(places):
    Store(*places).put(5, writer())
    old = places[0] / f".version-000006.{os.getppid()}.part"
    for pid in (DEAD, 10**30, os.getpid(), os.getppid()):
        (places[0] / f".version-000007.{pid}.part").mkdir()
        (places[0] / f".version-000007.{pid}.part" / "half").write_text("")
    old.mkdir()
    os.utime(old, (0, 0))
    (places[0] / ".version-000008.note").write_text("of somebody else")
    Store(*places)
    left = [".version-000008.note", f".version-000007.{os.getppid()}.part", "version-000005"]
    assert names(places[0]) == sorted(left)


def test_a_bundle_that_stood_aside_returns_unless_its_successor_stands(places):
    Store(*places).put(1, writer("one"))
    Store(*places).put(2, writer("two"))
    (places[0] / "version-000002").rename(places[0] / ".version-000002.previous")
    shutil.copytree(places[0] / "version-000001", places[0] / ".version-000001.previous")
    assert read(Store(*places).latest(read)) == "two"
    assert names(places[0]) == ["version-000001", "version-000002"]


# Failures


def failing(error, leave=True):
    def write(folder):
        if leave:
            (folder.with_name(f".{folder.name}.{os.getpid()}.part")).mkdir()
            (folder.with_name(f".{folder.name}.{os.getpid()}.part") / "half").write_text("")
        raise error

    return write


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, SafetensorError("I/O error: No space left on device (os error 28)")])
@pytest.mark.parametrize("version", [3, 4])
def test_a_full_ram_folder_leaves_the_bundles_of_before(places, error, version):
    store = Store(*places)
    store.put(3, writer("three"))
    with pytest.raises(StoreError, match=f"version-00000{version} .*No space left on device.*; .*free space"):
        store.put(version, failing(error))
    assert read(store.latest(read)) == "three"
    assert names(places[0]) == ["version-000003"]
    store.put(4, writer("four"))
    assert read(store.latest(read)) == "four"


@pytest.mark.parametrize("again", [False, True], ids=["a new version", "the same version"])
@pytest.mark.parametrize("where", ["copyfile", "fsync"])
def test_a_full_disk_leaves_what_was_on_disk(places, monkeypatch, where, again):
    store = Store(*places)
    store.put(3, writer("three"))
    store.persist()
    store.put(3 if again else 4, writer("newer"))

    def full(source, *target):
        if target:
            Path(target[0]).write_text("half")
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil if where == "copyfile" else module.os, where, full)
        with pytest.raises(StoreError, match=r"could not be written to .*disk: .*No space left on device.*; "):
            store.persist()
    assert names(places[1]) == ["version-000003"]
    assert read(places[1] / "version-000003") == "three"
    assert read(store.persist()) == "newer"


def test_what_a_writer_raises_of_its_own_goes_through_and_changes_nothing(places):
    store = Store(*places)
    store.put(3, writer("three"))
    for error in (ValueError("no bundle"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            store.put(3, failing(error))
        assert read(store.latest(read)) == "three"
        assert names(places[0]) == ["version-000003"]


def test_a_writer_that_writes_in_place_and_fails_leaves_no_half_bundle(places):
    def write(folder):
        folder.mkdir()
        (folder / "half").write_text("")
        raise FULL

    store = Store(*places)
    store.put(3, writer("three"))
    for version in (3, 4):
        with pytest.raises(StoreError):
            store.put(version, write)
        assert names(places[0]) == ["version-000003"]
        assert read(store.latest(read)) == "three"


def test_a_writer_that_writes_nothing_is_refused(places):
    store = Store(*places)
    with pytest.raises(StoreError, match="its writer ended without a folder"):
        store.put(3, lambda folder: None)
    assert store.versions() == []


# kill -9

KILLING = '''
import hashlib, json, os, random, shutil, signal, sys, time
from pathlib import Path
from clipoint3d_ros.adaptation.store import Store

top, mode = Path(sys.argv[1]), sys.argv[2]

def write(folder):
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    beside.mkdir()
    content = os.urandom(3000)
    (beside / "adapter.safetensors").write_bytes(content)
    (beside / "bundle.json").write_text(hashlib.sha256(content).hexdigest())
    beside.rename(folder)

def read(folder):
    content = (folder / "adapter.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != (folder / "bundle.json").read_text():
        raise ValueError(f"{folder} is damaged")

def born(work):
    """(pid, pipe) of a child that works and reports each finished step as a line."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work(lambda kind, version: os.write(writing, f"{kind} {version}\\n".encode()))
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading

def reports(pipe, begun=b""):
    with open(pipe, "rb") as file:
        lines = (begun + file.read()).decode().splitlines()
    return [(kind, int(version)) for kind, version in map(str.split, lines)]

def check(live, disk, done, cleared=None):
    """A new store finds what was finished, whole, and nothing else."""
    store = Store(live, disk, keep=2)
    for place in (live, disk):
        for path in place.iterdir():
            assert not path.name.startswith("."), f"{path.name} was left"
            read(path)
        assert mode == "random" or len(list(place.iterdir())) <= 3, "old bundles were left"
    last = {kind: version for kind, version in done}
    found = lambda store: int((store.latest(read) or Path("version-0")).name.split("-")[1])
    if "clear" in last:
        assert not store.versions(), "a reset came back"
    elif cleared is not None and last.get("persist") == cleared:
        assert found(store) in (0, cleared), f"{found(store)} is an older state than before the reset"
    else:
        assert found(store) >= last.get("put", 0), f"{found(store)} < {last}"
        shutil.rmtree(live)
        assert found(Store(live, disk, keep=2)) >= last.get("persist", 0), "lost on disk"

if mode == "random":
    clock = random.Random(0)
    live, disk, version, finished = top / "live", top / "disk", 0, 0
    for kill in range(80):
        def work(tell):
            store = Store(live, disk, keep=2)
            for step in range(version, version + 100_000):
                store.put(step // 2 + 1, write)  # every other one writes its version again
                tell("put", step // 2 + 1)
                store.persist()
                tell("persist", step // 2 + 1)
        pid, pipe = born(work)
        begun = os.read(pipe, 1) if kill % 4 else b""  # a slow machine must finish something, too
        time.sleep(clock.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done = reports(pipe, begun)
        finished += len(done)
        check(live, disk, done)
        version += 2 * len(done)
    print(json.dumps({"kills": 80, "finished": finished}))

if mode == "every":
    kills = 0
    while True:
        live, disk, last = top / f"live-{kills}", top / f"disk-{kills}", 3
        def work(tell):
            store, left = Store(live, disk, keep=2), [kills]
            def count(event, arguments):
                writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(count)
            for version in (1, 1, 2, last):
                store.put(version, write)
                tell("put", version)
                store.persist()
                tell("persist", version)
            store.clear()
            tell("clear", 0)
        pid, pipe = born(work)
        _, status = os.waitpid(pid, 0)
        done = reports(pipe)
        check(live, disk, done, cleared=last)
        if os.WIFEXITED(status):
            assert ("clear", 0) in done, done
            break
        kills += 1
    print(json.dumps({"kills": kills}))
'''


def killed(tmp_path, mode):
    """The killing's own report; its processes import no torch, so that a start takes no time."""
    environment = {**os.environ, "PYTHONPATH": str(Path(clipoint3d_ros.__file__).parents[1])}
    command = [sys.executable, "-c", KILLING, str(tmp_path), mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_killed_at_random_moments_it_always_finds_what_was_finished(tmp_path):
    report = killed(tmp_path, "random")
    assert report["kills"] >= 50
    assert report["finished"] >= 60, "the writers were killed before they wrote anything"


def test_killed_before_any_of_its_file_operations_it_always_finds_what_was_finished(tmp_path):
    assert killed(tmp_path, "every")["kills"] > 50


# The folder in RAM


def test_the_ram_folder_is_the_users_own_and_stays_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = ram_folder("clipoint3d")
    assert folder == tmp_path / f"clipoint3d-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert ram_folder("clipoint3d") == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_runtime_folder_shared_memory_serves_and_without_that_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module.os, "access", lambda place, mode: False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    assert ram_folder("clipoint3d").parent == tmp_path
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert ram_folder("clipoint3d").parent == tmp_path
    monkeypatch.setattr(module.os, "access", lambda place, mode: place == "/dev/shm")
    monkeypatch.setattr(Path, "mkdir", lambda path, **how: (_ for _ in ()).throw(PermissionError(str(path))))
    with pytest.raises(StoreError, match=r"/dev/shm/clipoint3d-.*set XDG_RUNTIME_DIR"):
        ram_folder("clipoint3d")


def test_a_ram_folder_that_someone_else_laid_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"linked-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"file-{os.getuid()}").write_text("")
    for name in ("linked", "file"):
        with pytest.raises(StoreError, match="no folder for live bundles"):
            ram_folder(name)
    other = os.getuid() + 1
    (tmp_path / f"theirs-{other}").mkdir()
    monkeypatch.setattr(module.os, "getuid", lambda: other)
    with pytest.raises(StoreError, match=f"belongs to user {other - 1}, not {other}"):
        ram_folder("theirs")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "/etc", "a" * 65, "a\n"])
def test_ram_folders_have_plain_names(name):
    with pytest.raises(ValueError, match="must be up to 64"):
        ram_folder(name)
