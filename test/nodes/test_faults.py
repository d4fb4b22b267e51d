"""A robot's bad days, over real DDS: what fails is said, and everything else goes on and is well again afterwards.

What is killed in the middle of writing is in test_adaptation_lives, what a full disk leaves in test_store, what a
device without memory does in test_engine; here the nodes live through it.
"""

from __future__ import annotations

import errno
import os
import random
import time
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

import torch
from adapting import APART_S, OBJECTS, frame, told
from clouds_made import image_scene, scene
from lives import Lives
from peer import DOMAIN, Peer, transports
from stand_in import StandIn

from clipoint3d_ros.clip import bundle
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle
from clipoint3d_ros.evaluation.node_process import NODE, Graph
from clipoint3d_ros.nodes.hardware import hardware
from clipoint3d_ros.recognition.engine import ServedTower

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("quick_ticks")]

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"
FULL = OSError(errno.ENOSPC, "No space left on device")


# A publisher that floods


def test_a_flood_of_clouds_is_answered_by_the_newest_and_takes_no_memory(start):
    """Two hundred clouds of a quarter of a camera's size a second, to a node that answers twenty."""
    seconds, rate, cloud = 4.0, 200, image_scene(240, 320)
    peer = start(reuse_still=True, fuse_tracks=True)
    StandIn.delay_s = 0.05
    peer.send(cloud, 1)
    peer.answer(1)
    before, began, sent = float(hardware()["rss_mb"]), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        stamp_ms = 2000 + sent * 5
        peer.send(cloud, stamp_ms // 1000, nanosec=stamp_ms % 1000 * 1_000_000)
        sent += 1
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    grown = float(hardware()["rss_mb"]) - before
    peer.send(cloud, 1000)
    peer.answer(1000)
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in peer.heard["detections"]]
    assert sent > 200, f"only {sent} clouds could be sent in {seconds:g} s, which is no flood"
    assert stamps == sorted(set(stamps)), "an answer about the past came after a newer one"
    rows = peer.diagnosis()
    received, processed, dropped = (int(rows[name]) for name in ("received", "processed", "dropped"))
    assert received == processed + dropped
    assert processed == len(stamps)
    assert dropped > sent // 4, f"{dropped} of {sent} dropped"
    assert rows["failed"] == rows["malformed"] == "0"
    assert grown < 100, f"{grown:.0f} MB more for {sent} clouds of {len(cloud.data) / 1e6:.1f} MB"


# A GPU without memory


def test_a_device_without_memory_costs_no_answer_and_each_step_down_is_said_once(perceive, monkeypatch, caplog):
    peer, forward, tried = perceive(), ServedTower.forward, []
    peer.send(frame(), 1)
    before = told(peer.answer(1))
    first = []

    def starved(self, views, *rest):
        first.append(self) if not first else None
        if self is first[0]:  # the tower on the device; its twin on the CPU has memory
            tried.append(len(views))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, views, *rest)

    monkeypatch.setattr(ServedTower, "forward", starved)
    for sec in (2, 3):
        peer.send(frame(), sec)
        answer = told(peer.answer(sec))
        assert answer.keys() == before.keys()
        for name, hypotheses in before.items():
            assert dict(answer[name]) == pytest.approx(dict(hypotheses), abs=1e-4)
    assert tried == sorted(tried, reverse=True), "passes are halved, and what did not fit is not tried again"
    assert tried[-1] == 1
    words = [r.message for r in caplog.records if "no memory for" in r.message]
    assert len(words) == len(set(words)) == len(tried)
    assert words[-1] == "cpu has no memory for one view; going on on the CPU"
    assert peer.diagnosis()["failed"] == "0"


# A full disk


def test_while_the_disk_is_full_nothing_half_written_is_served_and_then_learning_goes_on(
    perceive, adapt, monkeypatch, tmp_path, sharp
):
    peer = perceive()
    beside = adapt(peer, error_after_s=1.0)
    write = bundle.save_file

    def half(tensors, path, *rest, **more):
        write(tensors, path, *rest, **more)
        os.truncate(path, Path(path).stat().st_size // 2)
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "save_file", half)
        answer, frozen = beside.show()
        told = beside.diagnosed(lambda d: d["level"] == WARN, "a word of the full disk")
        assert "No space left on device" in told["message"]
        assert "free space" in told["trouble.store"]
        worse = beside.diagnosed(lambda d: d["level"] == ERROR, "an error")
        assert "No space left on device" in worse["message"]
        assert answer == frozen
        assert beside.version() == 0
        assert [path for path in (tmp_path / "live").iterdir() if not path.name.startswith(".")] == []
    beside.show()
    peer.wait(lambda: (beside.version() or 0) >= 1, what="a version, once there is space")
    beside.diagnosed(lambda d: d["level"] == OK, "good health")
    backbone = load_backbone(sharp.backbone, device="cpu")
    for path in (tmp_path / "live").iterdir():
        load_bundle(path, backbone)


def test_a_bundle_cut_short_by_a_full_disk_is_refused_in_words_and_the_old_one_serves_on(perceive, adapt, tmp_path):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    peer.wait(lambda: (beside.version() or 0) >= 1, what="a version")
    whole = Path(peer.parameter("bundle"))
    beside.stop()
    version = beside.version()
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in whole.iterdir():
        content = path.read_bytes()
        (cut / path.name).write_bytes(content if path.suffix == ".json" else content[: len(content) // 2])
    answer = told(_ask(peer, 1000))
    successful, reason = peer.set(bundle=str(cut))
    assert not successful
    assert str(cut) in reason
    assert told(_ask(peer, 1001)) == answer
    assert beside.version() == version


def _ask(peer, sec):
    peer.send(frame(), sec)
    return peer.answer(sec)


# Clocks that jump


def test_stamps_that_jump_back_and_far_forth_are_all_answered(start):
    peer = start(fuse_tracks=True, reuse_still=True)
    stamps = [100, 101, 2**31 - 1, 102, 103, 0, 1, 2**30, 104]
    for number, sec in enumerate(stamps, start=1):
        peer.send(scene(), sec, nanosec=number)
        peer.answer(sec)
    rows = peer.diagnosis()
    assert rows["processed"] == str(len(stamps))
    assert (rows["time_jumps"], rows["failed"]) == ("3", "0")


def test_the_companion_learns_on_after_stamps_that_jump_back_and_far_forth(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    for sec in (1000, 1010, 2**31 - 1, 1020, 0, 10, 20):
        answer, frozen = beside.show(sec)
        assert len(answer) == len(frozen) == OBJECTS
    peer.wait(lambda: (beside.version() or 0) >= 1, what="a version")
    rows = beside.diagnosis()
    assert (rows["time_jumps"], rows["failed"]) == ("2", "0")
    assert len(beside.served._adapting.companion.learned) >= 15, "of the time after the last jump"


# A node that is killed


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_perception_killed_at_random_the_companion_lives_on_and_hands_over_again(sharp, adapt):
    """Perception is a process of its own and ends by SIGKILL; each new life is given what the last one served."""
    namespace, rng = f"faults_{os.getpid()}", random.Random(1)
    graph = Graph(DOMAIN, f"/{namespace}")
    words = ["--ros-args", "-r", f"__ns:=/{namespace}", "-p", f"backbone:={sharp.backbone!r}", "-p", "device:=cpu",
             "-p", f"classes:={list(sharp.classes)}"]  # fmt: skip
    with transports("UDPv4"), closing(Peer(namespace)) as peer, closing(Lives(graph.environment(), NODE)) as lives:
        beside, version, companion = adapt(peer, active=False), 0, None
        for life in range(3):
            heard = len(peer.heard["vision_info"])
            number = lives.begin(words)
            peer.wait(lambda heard=heard: len(peer.heard["vision_info"]) > heard, what=f"life {life}")
            _send_until_learned(beside)
            peer.wait(lambda v=version: (beside.version() or 0) >= max(v, 1), what=f"version {version} in life {life}")
            version, companion = beside.version(), companion or beside.served._adapting.companion
            time.sleep(rng.uniform(0.0, 0.5))
            lives.kill(number)
            assert beside.call("save")[0], "the companion answers while perception is gone"
            assert beside.diagnosis()["state"] == "active"
            assert beside.served._adapting.companion is companion


def _send_until_learned(beside, seconds=60.0):
    """A perception that has just begun hears its first clouds no sooner than it is known everywhere."""
    before, end = len(beside.learned), time.monotonic() + seconds
    while len(beside.learned) == before:
        assert time.monotonic() < end, f"nothing was learned from within {seconds:g} s"
        beside._sec += APART_S
        beside.peer.send(frame(), beside._sec)
        time.sleep(0.5)
