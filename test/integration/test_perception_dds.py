"""Clouds of a camera's size to the real node and back over DDS: in one process, and between two.

The answers' quality is not judged here, only their way: every object answered, under its id, stamp and frame.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))  # the other side of the wire lives there

import rclpy
from clouds_made import changed_cloud, image_scene
from peer import DOMAIN, OUTPUTS, Peer, labels, transports
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from clipoint3d_ros.nodes.evidence import COLUMNS, read_rows
from clipoint3d_ros.nodes.perception_node import PerceptionNode
from clipoint3d_ros.nodes.transports import BUILTIN, large_clouds
from clipoint3d_ros.recognition.classifier import Classifier

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
CLASSES = {"box", "can", "tin", "book", "pot", "bowl", "mug", "carton"}


@pytest.fixture(scope="module", autouse=True)
def embedded_model():
    """These tests are about the real model; a checkout without its weights cannot run them."""
    try:
        Classifier.load(device="cpu")
    except FileNotFoundError as error:
        pytest.skip(f"the embedded model is not here: {error}")


def test_the_whole_way_in_one_process():
    namespace = f"whole_{os.getpid()}"
    with transports("UDPv4"):
        peer, context = Peer(namespace), Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        node = PerceptionNode(
            context=context, namespace=namespace, parameter_overrides=[Parameter("device", value="cpu")]
        )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        peer.wait_until_active(120)
        for name in OUTPUTS:
            if name != "detections":
                peer.listen(name)
        time.sleep(1)
        peer.send(image_scene(), sec=3, nanosec=5)
        answers = {name: peer.answer(3, name) for name in OUTPUTS}
        _check_detections(answers["detections"], CLASSES)
        assert answers["frozen_detections"] == answers["detections"], (
            "without an adapter the frozen answer is the answer"
        )
        rows = np.frombuffer(answers["features"].data, "<f4").reshape(2, -1)
        lengths = np.linalg.norm(rows, axis=1)  # means of the views' unit features, which differ a little
        assert ((lengths > 0.5) & (lengths < 1.001)).all(), f"features are of lengths {lengths}"
        evidence = [dict(zip(COLUMNS, row, strict=True)) for row in read_rows(answers["evidence"]).tolist()]
        assert [row["version"] for row in evidence] == [0, 0]
        assert [row["points"] for row in evidence] == [400, 400]
        assert all(0 <= row[share] <= 1 for row in evidence for share in ("agreement", "familiarity"))
        assert read_rows(answers["objects"]).shape[0] == 2
        assert answers["views"].height > 0
        assert len(answers["markers"].markers) == 1 + 2 * 2

        assert peer.set(classes=["teapot", "brick", "plate"]) == (True, "")
        peer.send(image_scene(), sec=4)
        _check_detections(peer.answer(4), {"teapot", "brick", "plate"})
        assert peer.set(unknown_below=1.0) == (True, "")
        peer.send(image_scene(), sec=5)
        assert set(labels(peer.answer(5)).values()) == {"unknown"}
        successful, reason = peer.set(classes="/no/such/classes.yaml")
        assert not successful
        assert "/no/such/classes.yaml" in reason

        for transition in ("deactivate", "cleanup", "configure", "activate"):
            assert peer.transition(transition), f"{transition} failed"
        peer.wait_until_active(120)
        peer.send(image_scene(), sec=6)
        _check_detections(peer.answer(6), {"unknown"})
    finally:
        executor.shutdown(timeout_sec=5)
        thread.join(5)
        node.close()
        node.destroy_node()
        rclpy.shutdown(context=context)
        peer.close()


def _check_detections(message, allowed):
    assert message.header.frame_id == "camera"
    assert [d.id for d in message.detections] == ["5", "9"]
    for detection in message.detections:
        scores = [result.hypothesis.score for result in detection.results]
        assert {result.hypothesis.class_id for result in detection.results} <= allowed
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


def shared_memory(pid):
    """The segments by which a process sends; not the ports, which it shares with others."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {Path(file) for file in re.findall(r"/dev/shm/fastdds_[0-9a-f]{16}$", maps, re.MULTILINE)}


def test_the_whole_way_between_two_processes(tmp_path, monkeypatch):
    """As a robot runs it: the node started as a program, with a file of parameters, and ended by a signal."""
    namespace, domain = f"two_{os.getpid()}", str(1 + (os.getpid() + 50) % 100)
    settings = tmp_path / "parameters.yaml"
    settings.write_text(
        "/**:\n  ros__parameters:\n    device: cpu\n    warning_period_s: 0\n    ignore_instances: [0, 1]\n"
    )
    monkeypatch.delenv(BUILTIN, raising=False)
    environment = os.environ | {
        "ROS_DOMAIN_ID": domain,
        **large_clouds(),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    remaps = ["--ros-args", "-r", f"__ns:=/{namespace}", "--params-file", str(settings)]
    node = subprocess.Popen(
        [sys.executable, "-m", "clipoint3d_ros.nodes.perception_node", *remaps],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        talk = [sys.executable, __file__, namespace, domain]
        said = subprocess.run(talk, env=environment, capture_output=True, text=True, timeout=240)
        assert said.returncode == 0, f"the other side failed: {said.stderr[-3000:]}"
        heard = json.loads(said.stdout.splitlines()[-1])
        shared = shared_memory(node.pid)
    finally:
        node.send_signal(signal.SIGTERM)
        _, logged = node.communicate(timeout=30)
    assert node.returncode == 0, f"the node ended with {node.returncode}: {logged[-3000:]}"
    assert "Traceback" not in logged, logged
    left = [file for file in shared if file.exists()]
    assert shared, "it was to send by shared memory"
    assert not left, f"the node ended and left {left}"
    assert heard["answered"] == heard["sent"], f"{heard['sent']} sent in step, {heard['answered']} answered"
    assert heard["ids"] == ["5", "9"]
    assert heard["after_malformed"], "after malformed clouds a good one was not answered"
    assert heard["malformed"] == "3"
    assert "refused" in logged, "malformed clouds must be warned of"


def talk(namespace: str, domain: int) -> None:
    """The other process: sends, listens, and prints what it heard as one line of JSON."""
    peer = Peer(namespace, domain)
    peer.wait_until_active(180)
    good, sent, answers = image_scene(), range(1, 21), []
    peer.knock(good)
    for sec in sent:
        peer.send(good, sec)
        answers.append(peer.answer(sec))
    broken = [
        changed_cloud(good, data=good.data[:-1]),
        changed_cloud(good, point_step=1),
        changed_cloud(good, fields=good.fields[1:]),
    ]
    for sec, cloud in enumerate(broken, start=30):
        peer.send(cloud, sec)
        peer.silent_on(sec, seconds=0.3)
    peer.send(good, 40)
    after = peer.answer(40)
    print(
        json.dumps(
            {
                "sent": len(sent),
                "answered": len(answers),
                "ids": [detection.id for detection in answers[-1].detections],
                "after_malformed": len(after.detections) == 2,
                "malformed": peer.diagnosis()["malformed"],
            }
        ),
        flush=True,
    )
    peer.close()


if __name__ == "__main__":
    talk(sys.argv[1], int(sys.argv[2]))
