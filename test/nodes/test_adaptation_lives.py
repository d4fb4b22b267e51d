"""The adaptation node as a process: killed at any moment, and beside perception in both layouts."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import closing, contextmanager

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from adapting import OBJECTS, Beside
from lives import Lives
from peer import DOMAIN, Peer, perception_nodes, transports
from sharp_model import keep_reference

from clipoint3d_ros.adaptation.memory import Memory
from clipoint3d_ros.adaptation.store import Store
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle
from clipoint3d_ros.evaluation.node_process import COMPANION, Graph, NodeProcess, environment
from clipoint3d_ros.recognition.classifier import Classifier

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LIVES = 50
DURING_WRITES = 10  # of these, at least, end while something is being written


@pytest.fixture
def kept(sharp, monkeypatch, tmp_path):
    """The reference is where nodes find it, so that they start at once."""
    keep_reference(sharp, monkeypatch, tmp_path / "cache", list(sharp.classes))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def parameters(sharp, tmp_path, **more):
    return {"backbone": sharp.backbone, "classes": list(sharp.classes), "device": "cpu", "every": 4, "hand_over_s": 0.0,
            "save_s": 1.0, "live_folder": str(tmp_path / "live"),
            "state_folder": str(tmp_path / "state"), **more}  # fmt: skip


def arguments(namespace, values):
    """Of a node's command line."""
    told = [f"{name}:={value if not isinstance(value, str) else repr(value)}" for name, value in values.items()]
    return ["--ros-args", "-r", f"__ns:={namespace}", *(word for each in told for word in ("-p", each))]


@contextmanager
def meanwhile(call):
    """Calls again and again in a thread while the block runs, up to fifty times a second, for what starts beside it
    needs a core as well; what one call raises ends the thread, and the test."""
    end, wrong = threading.Event(), []

    def run():
        try:
            while not end.wait(0.02):
                call()
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(30.0)
    assert not wrong, f"perception did not answer: {wrong[0]}"


def parts(tmp_path):
    """What is half written, or half removed."""
    folders = [tmp_path / "live", tmp_path / "state", tmp_path / "state" / "bundles"]
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name.endswith(".part")]


def await_a_write(tmp_path, seconds):
    """Return as soon as something is half written, or after so long."""
    end = time.monotonic() + seconds
    while not parts(tmp_path) and time.monotonic() < end:
        time.sleep(0.0002)


def check_what_is_left(tmp_path, sharp, backbone, sure):
    """Every bundle and memory that has its final name is whole; the newest serves a classifier. Gives its version."""
    for folder in (tmp_path / "live", tmp_path / "state" / "bundles"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if not path.name.startswith("."):
                load_bundle(path, backbone)
    for name in ("learned", "held"):
        path = tmp_path / "state" / f"{name}.safetensors"
        if path.exists():
            Memory().restore(path, " ".join([backbone.checksum, *sharp.classes]))
    newest = Store(tmp_path / "live", tmp_path / "state" / "bundles").latest(lambda p: load_bundle(p, backbone))
    assert newest is not None or not sure, "a bundle that was there before is gone"
    if newest is None:
        return 0
    return Classifier.load(bundle=str(newest), backbone=sharp.backbone, device="cpu").version


@pytest.mark.timeout(1200)
def test_killed_fifty_times_it_leaves_a_state_that_loads_and_a_perception_that_answers(sharp, kept, tmp_path):
    """One perception node lives on through all of it, and frames never cease. Half the kills come at random, half as
    soon as something is half written."""
    rng, backbone = random.Random(0), load_backbone(sharp.backbone, device="cpu")
    version, torn, left = 0, 0, 0
    with perception_nodes() as perceive:
        peer = perceive(backbone=sharp.backbone, classes=list(sharp.classes), device="cpu")
        beside, graph = Beside(peer), Graph(DOMAIN, peer.base.rpartition("/")[0])
        words = arguments(graph.namespace, parameters(sharp, tmp_path))
        with transports("UDPv4"), closing(Lives(graph.environment())) as lives, meanwhile(beside.answer_alone):
            for life in range(LIVES):
                number, before = lives.begin(words), beside.version() or 0
                if life % 2:
                    time.sleep(rng.uniform(0.0, 2.0))
                else:
                    deadline = time.monotonic() + 20.0
                    while (beside.version() or 0) <= before and time.monotonic() < deadline:
                        time.sleep(0.005)
                    await_a_write(tmp_path, 5.0)
                    time.sleep(rng.uniform(0.0, 0.003))
                lives.kill(number)
                torn += bool(parts(tmp_path))
                now = check_what_is_left(tmp_path, sharp, backbone, sure=version > 0)
                assert now >= version, f"life {life} lost version {version}, and left {now}"
                left += now > version
                version = now
        answer, frozen = beside.answer_alone()
        assert len(answer) == len(frozen) == OBJECTS
        served = peer.parameter("bundle")
        assert served, "nothing was ever handed over"
        assert load_bundle(served, backbone).version == beside.version()
    assert torn >= DURING_WRITES, f"only {torn} of {LIVES} kills came during a write"
    assert left >= LIVES // 4, f"only {left} of {LIVES} lives got as far as a version of their own"


@contextmanager
def layout(one_process, graph, values):
    """Both nodes, in one process or in two; gives the processes."""
    if one_process:
        with NodeProcess(graph, values, "clipoint3d_ros.nodes.robot_nodes", "robot") as both:
            yield (both,)
        return
    shared = {name: values[name] for name in ("backbone", "classes", "device")}
    with NodeProcess(graph, shared) as perception, NodeProcess(graph, values, COMPANION, "adaptation") as companion:
        yield perception, companion


@pytest.mark.parametrize("one_process", [False, True], ids=["two processes", "one process"])
def test_in_either_layout_they_learn_and_come_back_to_the_frozen_model(sharp, kept, tmp_path, one_process):
    values = parameters(sharp, tmp_path, every=8)
    graph = Graph(DOMAIN, f"/layout_{os.getpid()}_{int(one_process)}")
    with transports("UDPv4"), environment(graph.environment()), closing(Peer(graph.namespace.lstrip("/"))) as peer:
        with layout(one_process, graph, values) as processes:
            peer.wait_until_active()
            beside = Beside(peer)
            beside.wait_until_listening()
            _, frozen = beside.show()  # the anchor may answer already: four objects are enough to judge it
            peer.wait(lambda: (beside.version() or 0) >= 1, what="an adapter")
            adapted, same = beside.show()
            assert same == frozen
            assert adapted != frozen
            assert beside.call("pause", True)[0]
            assert beside.call("reset")[0]
            beside.wait_for_version(0)
            assert beside.call("pause", True)[0]
            assert beside.show() == (frozen, frozen)
            for process in processes:
                process.check()
        for process in processes:
            assert process._process.returncode == 0, process.last_words(60)


def test_asked_to_end_again_and_again_it_saves_what_it_learned_and_ends_cleanly(sharp, kept, tmp_path):
    with perception_nodes() as perceive:
        peer = perceive(backbone=sharp.backbone, classes=list(sharp.classes), device="cpu")
        beside, graph = Beside(peer), Graph(DOMAIN, peer.base.rpartition("/")[0])
        values = parameters(sharp, tmp_path, every=1000, save_s=1000.0)
        with transports("UDPv4"), NodeProcess(graph, values, COMPANION, "adaptation") as node:
            beside.knock()
            beside.show()
            (tmp_path / "state" / "learned.safetensors").unlink(missing_ok=True)
            end = time.monotonic() + 15.0
            while node._process.poll() is None and time.monotonic() < end:  # a terminal, a launch file, impatience
                node._process.send_signal(signal.SIGINT)
                time.sleep(0.005)
            assert node._process.poll() == 0, node.last_words()
    saved = Memory()
    saved.restore(tmp_path / "state" / "learned.safetensors", " ".join([checksum(sharp), *sharp.classes]))
    assert len(saved) >= 15


def checksum(sharp):
    return load_backbone(sharp.backbone, device="cpu").checksum
