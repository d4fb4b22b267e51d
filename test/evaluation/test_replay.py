"""Replay over real DDS, against a stand-in for the node that needs no model."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
pytest.importorskip("vision_msgs.msg", reason="the replay needs vision_msgs (make setup)")

import numpy as np
from builtin_interfaces.msg import Time
from labelled import labelled_bag
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose, VisionInfo

from clipoint3d_ros.evaluation import node_process
from clipoint3d_ros.evaluation.answers import survey
from clipoint3d_ros.evaluation.bags import SECOND, LabelledBag
from clipoint3d_ros.evaluation.node_process import Graph, NodeProcess, ReplayError, environment, free_domain
from clipoint3d_ros.evaluation.replay import ReplayConfig, Sensor, replay, sensing
from clipoint3d_ros.evaluation.scoring import score
from clipoint3d_ros.nodes.detections import features_image
from clipoint3d_ros.nodes.evidence import COLUMNS
from clipoint3d_ros.nodes.transports import CHOICES, variable

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("stand_in")]

CLASSES = ("box", "can", "mug")
FRAMES = [{"2": "box", "3": "can"}, {"2": "can", "5": "can"}, {"4": "box"}, {"7": "can", "8": "mug"}]


def bag_of(tmp_path, frames=FRAMES, name="bag", **keys):
    return LabelledBag(labelled_bag(tmp_path / name, frames, **keys))


def play(bags, bundle=None, **keys):
    parameters = {"unknown_below": 0.0} | ({"bundle": bundle} if bundle else {})
    return replay(bags, CLASSES, parameters, ReplayConfig(start_timeout=60, **keys))


def figures_of(bags, replayed):
    return score(list(survey(bags)), replayed)


def test_every_frame_is_answered_in_lock_step(tmp_path):
    bags = [bag_of(tmp_path)]
    figures = figures_of(bags, play(bags, wait=True))
    assert (figures["frames"], figures["dropped_frames"], figures["objects"]) == (4, 0, 7)
    assert figures["frozen"]["accuracy"] == pytest.approx(5 / 7)
    assert figures["confusion"]["matrix"] == [[2, 0, 0], [1, 3, 0], [1, 0, 0]]
    assert 0 < figures["latency_ms"]["p50"] < 1000


def test_no_frame_is_dropped_at_a_pace_the_node_can_bear(tmp_path):
    bags = [bag_of(tmp_path, FRAMES * 2)]
    start = time.monotonic()
    replayed = play(bags, rate=5.0)
    assert figures_of(bags, replayed)["dropped_frames"] == 0
    assert time.monotonic() - start > 7 * 0.5 / 5  # eight frames, half a second apart in the bag


def test_clouds_of_a_camera_image_all_arrive(tmp_path):
    bags = [bag_of(tmp_path, FRAMES * 3, points=160_000)]  # 5 MB with two objects, best effort
    assert figures_of(bags, play(bags, wait=True, timeout=5.0))["dropped_frames"] == 0


def test_a_slow_node_drops_frames_and_they_are_counted(tmp_path, stand_in):
    stand_in("slow 0.4")
    bags = [bag_of(tmp_path, FRAMES * 3, period=SECOND // 10)]
    figures = figures_of(bags, play(bags))
    assert 5 <= figures["dropped_frames"] <= 10, "12 frames in 1.1 s at 0.4 s each: the node answers about four"
    assert figures["objects"] == 21
    assert figures["frozen"]["accuracy"] < figures["frozen"]["answered_accuracy"]


def test_an_answer_that_never_comes_is_a_drop_in_lock_step_too(tmp_path, stand_in):
    stand_in("skip 2")
    bags = [bag_of(tmp_path)]
    figures = figures_of(bags, play(bags, wait=True, timeout=1.0))
    assert figures["dropped_frames"] == 2
    assert figures["objects"] == 7


def test_bags_with_the_same_stamps_are_kept_apart(tmp_path):
    bags = [bag_of(tmp_path, [{"2": "box"}] * 2, name="a"), bag_of(tmp_path, [{"3": "box"}] * 2, name="b")]
    figures = figures_of(bags, play(bags, wait=True))
    assert (figures["frames"], figures["dropped_frames"]) == (4, 0)
    assert figures["frozen"]["accuracy"] == 0.5


@pytest.mark.parametrize("pace", [{"wait": True}, {"rate": 2.0}], ids=["in step", "at rate"])
def test_with_a_bundle_the_adapter_is_scored_beside_the_frozen_model(tmp_path, pace):
    bags = [bag_of(tmp_path, name="a"), bag_of(tmp_path, [{"2": "mug"}] * 2, name="b")]
    replayed = play(bags, bundle="/some/bundle", **pace)
    figures = figures_of(bags, replayed)
    assert (figures["frames"], figures["dropped_frames"], figures["objects"]) == (6, 0, 9)
    assert figures["adapted"]["accuracy"] == pytest.approx(5 / 9)
    assert figures["frozen"]["accuracy"] == pytest.approx(3 / 9)
    assert figures["per_class"]["mug"] == {"n": 3, "frozen": 1, "adapted": 0}
    assert figures["adapter_versions"] == [7], "the version was announced late, and still counts from the first frame"
    assert [window["adapter_version"] for window in figures["windows"]] == [7]
    assert {answer.version for answer in replayed.frozen.values()} == {0}
    assert replayed.frozen.keys() == replayed.adapted.keys()


def test_while_adapting_each_frame_s_own_evidence_tells_its_version():
    def detections(stamp):
        message = Detection3DArray(header=stamped(stamp))
        hypothesis = ObjectHypothesis(class_id="box", score=0.5)
        message.detections = [Detection3D(id="2", results=[ObjectHypothesisWithPose(hypothesis=hypothesis)])]
        return message

    def evidence(stamp, version):
        rows = np.zeros((1, len(COLUMNS)), np.float32)
        rows[0, COLUMNS.index("version")] = version
        return features_image(stamped(stamp), rows)

    def stamped(stamp):
        return Header(stamp=Time(sec=stamp))

    graph = Graph()
    with environment(graph.environment()), sensing(graph, bundled=False, adapting=True) as sensor:
        sensor._sent = {stamp * SECOND: 0.0 for stamp in (1, 2)}
        sensor._on_detections(detections(1))
        sensor._on_frozen_detections(detections(1))
        assert not sensor._whole(1 * SECOND), "who answered is not known yet"
        sensor._on_vision_info(VisionInfo(database_version=4))  # announced before the last frame's evidence came
        sensor._on_evidence(evidence(1, 3))
        assert sensor._whole(1 * SECOND)
        sensor._on_evidence(evidence(2, 4))
        sensor._on_detections(detections(2))
        assert {stamp // SECOND: answer.version for stamp, answer in sensor.answers().items()} == {1: 3, 2: 4}
        sensor.begin()
        sensor._sent = {1 * SECOND: 0.0}
        sensor._on_detections(detections(1))
        assert sensor.answers()[1 * SECOND].version == 4, "the last bag's evidence says nothing of this one"


def test_a_companion_that_takes_long_to_be_heard_is_told_of_once(monkeypatch, caplog):
    monkeypatch.setattr("clipoint3d_ros.evaluation.replay._LONG_S", -1.0)
    heard, sent = iter([False, False, False, True]), []
    nodes = SimpleNamespace(check=lambda: None, failed=lambda: False)
    sensor = SimpleNamespace(
        _is_through=lambda stamp, timeout: next(heard), _points=SimpleNamespace(publish=sent.append)
    )
    Sensor.find_companion(sensor, nodes, nodes, "blank", timeout=60.0)
    assert sent == ["blank"] * 3
    assert caplog.text.count("the companion first looks at its source") == 1


def test_without_a_bundle_nobody_listens_to_frozen_answers(tmp_path):
    replayed = play([bag_of(tmp_path)], wait=True)  # the stand-in ends where somebody does
    assert replayed.adapted is None
    assert len(replayed.frozen) == 4


def test_a_bag_written_as_sqlite3_plays_too(tmp_path):
    bags = [bag_of(tmp_path, storage="sqlite3")]
    assert figures_of(bags, play(bags, wait=True))["dropped_frames"] == 0


def test_a_node_that_dies_is_quoted(tmp_path, stand_in):
    stand_in("die 2")
    with pytest.raises(ReplayError, match=r"ended with exit code 3; its last output:\s+stand-in: out of memory"):
        play([bag_of(tmp_path)], wait=True)


def test_a_node_that_cannot_configure_is_quoted_at_once(tmp_path, stand_in):
    stand_in("broken")
    start = time.monotonic()
    with pytest.raises(ReplayError, match=r"(?s)cannot configure; its last output.*no weights here"):
        play([bag_of(tmp_path)])
    assert time.monotonic() - start < 30


def test_a_node_that_does_not_answer_is_given_up_in_words(tmp_path, stand_in):
    stand_in("mute")
    with pytest.raises(ReplayError, match="listens, but does not answer after 8 s"):
        replay([bag_of(tmp_path)], CLASSES, {}, ReplayConfig(start_timeout=8))


def test_a_node_that_is_stuck_is_quoted_with_where_it_stands(tmp_path, stand_in):
    stand_in("mute")
    graph = Graph()
    with environment(graph.environment()), NodeProcess(graph, {}) as node:
        time.sleep(2.0)
        assert re.search(r"(?s)Current thread .*stand_in_node.py", node.abort())


def test_a_node_that_is_no_program_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(node_process, "NODE", "no_such_node")
    with pytest.raises(ReplayError, match=r"(?s)ended with exit code 1.*No module named '?no_such_node"):
        play([bag_of(tmp_path)])


@pytest.mark.slow
def test_two_replays_at_once_do_not_mix(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from clipoint3d_ros.evaluation import node_process\n"
        "node_process.NODE = 'stand_in_node'\n"
        "from clipoint3d_ros.evaluation.bags import LabelledBag\n"
        "from clipoint3d_ros.evaluation.replay import ReplayConfig, replay\n"
        "found = replay([LabelledBag(sys.argv[2])], ('box', 'can'), {}, ReplayConfig(rate=4.0))\n"
        "print(sorted({label for a in found.frozen.values() for label, _ in a.objects.values()}), len(found.frozen))\n"
    )
    paths = [labelled_bag(tmp_path / n, [{i: "box"}] * 8) for n, i in (("even", "2"), ("odd", "3"))]
    words = [[sys.executable, "-c", code, str(Path(__file__).parent), str(path)] for path in paths]
    root = str(Path(node_process.clipoint3d_ros.__path__[0]).parent)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ["PYTHONPATH"]])}
    runs = [subprocess.Popen(w, stdout=subprocess.PIPE, text=True, env=variables) for w in words]
    said = [run.communicate(timeout=120)[0].strip() for run in runs]
    assert said == ["['box'] 8", "['can'] 8"]


def test_the_node_ends_with_the_replay():
    graph = Graph()
    with environment(graph.environment()), NodeProcess(graph, {}) as node:
        process = node._process
        assert process.poll() is None
    assert process.poll() is not None


def test_the_environment_is_as_before_afterwards(monkeypatch):
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    with environment(Graph().environment()):
        assert Path(os.environ[variable()]).is_file()
        assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
    assert not {"ROS_DOMAIN_ID", *CHOICES} & os.environ.keys()


def test_a_domain_in_use_is_not_chosen(monkeypatch):
    import socket

    monkeypatch.setattr(node_process, "HIGHEST_DOMAIN", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7410 + 250))
        with pytest.raises(ReplayError, match="all DDS domains from 1 to 1 are in use"):
            free_domain()


@pytest.mark.parametrize("keys", [{"rate": 0.0}, {"rate": float("nan")}, {"timeout": 0.0}])
def test_pace_and_time_outs_are_checked(keys):
    with pytest.raises(ValueError, match="must"):
        ReplayConfig(**keys)


def test_a_replay_with_a_namespace_is_seen_by_others(tmp_path, monkeypatch):
    import rclpy
    from sensor_msgs.msg import PointCloud2

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    context, heard = rclpy.Context(), []
    with environment(Graph.seen_by_others("watched/replay").environment()):
        rclpy.init(args=[], context=context)  # of the shell's domain, as RViz is
        watcher = rclpy.create_node("watcher", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(watcher)
        base = "/watched/replay/perception"
        watcher.create_subscription(
            PointCloud2, f"{base}/input/points", heard.append, rclpy.qos.qos_profile_sensor_data
        )
        watcher.create_subscription(Detection3DArray, f"{base}/output/detections", heard.append, 10)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        try:
            played = play([bag_of(tmp_path, FRAMES * 3)], rate=2.0, namespace="/watched/replay/")
        finally:
            executor.shutdown()
            thread.join(5)
            watcher.destroy_node()
            rclpy.shutdown(context=context)
    assert len(played.frozen) == 12
    assert {type(message) for message in heard} == {PointCloud2, Detection3DArray}, "clouds and answers are seen"


@pytest.mark.parametrize(
    ("namespace", "domain", "words"),
    [
        ("1st", "0", "'1st' is no namespace of ROS"),
        ("my replay", "0", "no namespace"),
        ("replay", "many", "ROS_DOMAIN_ID is 'many'"),
        ("replay", "300", "from 0 to 232"),
    ],
)
def test_a_place_that_ros_does_not_have_is_refused(monkeypatch, namespace, domain, words):
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(ReplayError, match=words):
        Graph.seen_by_others(namespace)
