"""The perception node over real DDS, with a classifier that needs no model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from clouds_made import FLAT, TABLE, TALL, block, changed_cloud, image_scene, scene

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

import rclpy
from moving import lowered
from peer import DOMAIN, OUTPUTS, labels, transports
from rclpy.context import Context
from rclpy.parameter import Parameter
from stand_in import StandIn

from clipoint3d_ros.nodes import perception_node
from clipoint3d_ros.nodes.evidence import COLUMNS, read_rows
from clipoint3d_ros.nodes.pointcloud import write_cloud
from clipoint3d_ros.nodes.transports import PROFILE

pytestmark = pytest.mark.ros


def nothing_labelled():
    return write_cloud(dict(zip("xyz", TABLE.T, strict=True)) | {"instance_id": np.ones(len(TABLE), np.uint8)})


def test_a_labelled_cloud_is_answered_under_its_own_header(start):
    peer = start(top_k=2)
    peer.send(image_scene(), sec=7, nanosec=123)
    message = peer.answer(7)
    assert (message.header.frame_id, message.header.stamp.nanosec) == ("camera", 123)
    assert labels(message) == {"5": "can", "9": "book"}
    tall = message.detections[0]
    assert tall.header == message.header
    scores = [result.hypothesis.score for result in tall.results]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    size, centre = tall.bbox.size, tall.bbox.center.position
    np.testing.assert_allclose([size.x, size.y, size.z], [0.06, 0.06, 0.2], atol=0.004)
    np.testing.assert_allclose([centre.x, centre.y, centre.z], [0.5, 0.1, 0.1], atol=0.004)
    assert tall.results[0].pose.pose == tall.bbox.center


def test_a_cloud_that_is_one_object(start):
    peer = start()
    peer.send(write_cloud(dict(zip("xyz", TALL.T, strict=True))), sec=1)
    assert labels(peer.answer(1)) == {"": "can"}


def test_several_clouds_of_one_stamp_without_labels_are_doubted_in_words(start, capfd):
    peer, (tall, flat) = start(), (write_cloud(dict(zip("xyz", p.T, strict=True))) for p in (TALL, FLAT))
    peer.send(tall, sec=1)
    peer.answer(1)
    for sec, labelled in ((2, scene()), (2, scene()), (3, flat)):
        peer.send(labelled, sec)
        peer.answer(sec)
    time.sleep(0.1)
    assert "of the same stamp" not in capfd.readouterr().err
    peer.send(tall, sec=3)
    peer.wait(lambda: "publish the frame's objects as one cloud" in capfd.readouterr().err, what="a warning")


def test_a_cloud_without_a_stamp_does_not_make_the_node_forget(start):
    peer = start()
    peer.send(scene(), sec=100)
    peer.answer(100)
    peer.send(changed_cloud(scene(), point_step=12), sec=0)
    peer.send(scene(), sec=101)
    peer.answer(101)
    assert peer.diagnosis()["time_jumps"] == "0"


@pytest.mark.parametrize("boxes_first", [True, False])
@pytest.mark.parametrize("form", ["auto", "boxes"])
def test_a_cloud_with_boxes(start, form, boxes_first):
    peer = start(input_form=form)
    boxes = [("flat", (0.6, -0.2, 0.02), (0.2, 0.15, 0.03)), ("tall", (0.5, 0.1, 0.11), (0.06, 0.06, 0.18))]
    cloud = write_cloud(dict(zip("xyz", np.concatenate([TABLE, TALL, FLAT]).T, strict=True)))
    peer.send_boxes([], sec=1)  # makes the publisher known
    peer.wait(lambda: peer.node.count_subscribers(f"{peer.base}/input/boxes"))
    time.sleep(0.3)
    steps = [lambda: peer.send(cloud, sec=2), lambda: peer.send_boxes(boxes, sec=2)]
    for step in reversed(steps) if boxes_first else steps:
        step()
        time.sleep(0.1)
    message = peer.answer(2)
    assert labels(message) == {"flat": "book", "tall": "can"}
    assert message.detections[1].bbox.size.z == pytest.approx(0.18), "the published box must be kept"


def test_boxes_in_another_frame_are_refused_and_the_next_answered(start):
    peer = start(input_form="boxes")
    peer.send_boxes([("a", (0, 0, 0), (1, 1, 1))], sec=1, frame="map")
    peer.send(scene(), sec=1)
    assert peer.silent_on(1)
    peer.send_boxes([("a", (0.5, 0.1, 0.1), (1, 1, 1))], sec=2)
    peer.send(scene(), sec=2)
    assert labels(peer.answer(2)) == {"a": "can"}
    assert peer.diagnosis()["malformed.frame"] == "1"


def test_a_cloud_without_objects_is_answered_with_none(start):
    peer = start()
    peer.send(nothing_labelled(), sec=3)
    assert peer.answer(3).detections == []


def test_malformed_clouds_are_counted_by_reason_and_the_node_goes_on(start):
    peer = start()
    good = scene()
    broken = [
        changed_cloud(good, data=good.data[:-1]),
        changed_cloud(good, point_step=12),
        changed_cloud(good, fields=good.fields[1:]),
        changed_cloud(good, width=2**31),
    ]
    for sec, cloud in enumerate(broken, start=1):
        peer.send(cloud, sec)
        assert peer.silent_on(sec, seconds=0.2)
    peer.send(good, 9)
    assert labels(peer.answer(9)) == {"5": "can", "9": "book"}
    rows = peer.diagnosis()
    counted = {name: rows.get(f"malformed.{name}") for name in ("length", "stride", "fields", "size")}
    assert counted == dict.fromkeys(counted, "1")
    assert rows["malformed"] == "4"


def test_an_unexpected_fault_costs_one_frame(start):
    peer = start()
    StandIn.fault = RuntimeError("out of memory")
    peer.send(scene(), 1)
    assert peer.silent_on(1)
    peer.send(scene(), 2)
    peer.answer(2)
    assert peer.diagnosis()["failed"] == "1"


def test_side_outputs_are_made_only_for_listeners(start, monkeypatch):
    made = []
    for name in ("marker_array", "mosaic", "features_image"):
        original = getattr(perception_node, name)
        monkeypatch.setattr(
            perception_node, name, lambda *a, name=name, original=original: made.append(name) or original(*a)
        )
    peer = start()
    peer.send(scene(), 1)
    peer.answer(1)
    assert made == []
    for name in OUTPUTS:
        if name != "detections":
            peer.listen(name)
    time.sleep(1)
    peer.send(scene(), 2)
    messages = {name: peer.answer(2, name) for name in OUTPUTS}
    assert messages["frozen_detections"] == messages["detections"]
    assert (messages["features"].height, messages["features"].width) == (2, 8)
    assert messages["features"].encoding == "32FC1"
    rows = np.frombuffer(messages["features"].data, "<f4").reshape(2, 8)
    np.testing.assert_allclose(rows, 8**-0.5, rtol=1e-5)
    evidence = [dict(zip(COLUMNS, row, strict=True)) for row in read_rows(messages["evidence"]).tolist()]
    assert [(row["version"], row["points"], row["familiarity"], row["entropy"]) for row in evidence] == [
        (0, 400, 1, 0.5)
    ] * 2
    assert [row["agreement"] for row in evidence] == [pytest.approx(0.9)] * 2
    assert all(0.3 < row["distance"] < 1 for row in evidence), "the sensor is at the cloud's origin"
    assert read_rows(messages["objects"]).shape == (2, 12)
    texts = [m.text for m in messages["markers"].markers if m.text]
    assert texts == ["can 80 %", "book 80 %"]
    assert messages["markers"].markers[0].action == 3
    assert messages["views"].encoding == "rgb8"
    assert len(messages["views"].data) == messages["views"].height * messages["views"].step
    peer.send(nothing_labelled(), 3)
    peer.answer(3)
    assert len(peer.answer(3, "markers").markers) == 1, "the last frame's markers must go"
    assert [peer.answer(3, name).height for name in ("features", "evidence", "objects")] == [0, 0, 0]


def test_vision_info_waits_for_late_listeners_and_says_frozen(start):
    peer = start()
    late = peer.wait(lambda: peer.heard["vision_info"], what="vision_info")[-1]
    assert (late.method, late.database_version) == ("stand-in", 0)
    assert late.database_location == f"{peer.base}/classes"


def test_the_lifecycle_is_walked_from_outside(start):
    peer = start(active=False, autostart=False)
    assert peer.state() == "unconfigured"
    assert peer.transition("configure")
    assert peer.state() == "inactive"
    assert peer.node.count_subscribers(f"{peer.base}/input/points") == 0
    assert peer.transition("activate")
    peer.wait_until_active()
    peer.send(scene(), 1)
    peer.answer(1)
    assert peer.transition("deactivate")
    peer.send(scene(), 2)
    assert peer.silent_on(2)
    assert peer.transition("activate")
    peer.wait_until_active()
    peer.send(scene(), 3)
    peer.answer(3)
    assert peer.transition("deactivate")
    peer.served._still._model = "the tower"  # as `reuse_still` keeps it
    assert peer.transition("cleanup")
    assert peer.served._still._model is None, "what was loaded is held on"
    assert peer.state() == "unconfigured"
    assert peer.transition("configure")
    assert peer.transition("shutdown")
    assert peer.state() == "finalized"


@pytest.mark.parametrize(
    "parameters",
    [{"backbone": "ViT-B-16"}, {"bundle": "/tmp/bundle"}, {"classes": "/nowhere.yaml"}, {"gravity_frame": "base_link"}],
)
def test_configure_fails_in_words_and_can_be_mended(start, parameters, capfd):
    if "gravity_frame" in parameters:
        pytest.importorskip("lifecycle_msgs")
        if _has_tf2():
            pytest.skip("tf2_ros is installed here")
    peer = start(active=False, autostart=False, **parameters)
    assert not peer.transition("configure")
    assert peer.state() == "unconfigured"
    name = next(iter(parameters))
    assert peer.set(**{name: ""}) == (True, "")
    assert peer.transition("configure")
    logged = capfd.readouterr().err
    assert "cannot configure: " in logged
    assert "Traceback" not in logged


def _has_tf2():
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        return False
    return True


def test_classes_change_between_frames(start):
    peer = start()
    peer.send(scene(), 1)
    assert labels(peer.answer(1)) == {"5": "can", "9": "book"}
    assert peer.set(classes=["bottle", "plate"]) == (True, "")
    peer.send(scene(), 2)
    assert labels(peer.answer(2)) == {"5": "bottle", "9": "plate"}
    successful, reason = peer.set(classes="/no/such.yaml")
    assert not successful
    assert "no class file" in reason
    peer.send(scene(), 3)
    assert labels(peer.answer(3)) == {"5": "bottle", "9": "plate"}


def test_thresholds_of_single_classes_change_live_and_name_classes_that_are_served(start):
    peer = start()
    assert peer.set(unknown_below_class=["can=0.9"]) == (True, "")
    peer.send(scene(), 1)
    assert labels(peer.answer(1)) == {"5": "unknown", "9": "book"}
    successful, reason = peer.set(unknown_below_class=["cup=0.9"])
    assert not successful
    assert "'cup'" in reason
    successful, reason = peer.set(classes=["bottle", "plate"])
    assert not successful, "a threshold would be left that says nothing"
    assert "'can'" in reason
    peer.send(scene(), 2)
    assert labels(peer.answer(2)) == {"5": "unknown", "9": "book"}
    assert peer.set(unknown_below_class="") == (True, "")
    peer.send(scene(), 3)
    assert labels(peer.answer(3)) == {"5": "can", "9": "book"}


def test_clouds_that_are_hardly_in_metres_are_answered_and_doubted(start, capfd):
    peer = start()
    labels = np.full(len(TALL), 5, np.uint8)
    peer.send(write_cloud(dict(zip("xyz", TALL.T * 1000, strict=True)) | {"instance_id": labels}), 1)
    assert len(peer.answer(1).detections) == 1
    assert "object '5' is 200 m across, if its points are in metres" in capfd.readouterr().err
    assert "object '5' is 200 m across" in peer.diagnosis()["message"]


def test_live_changes_are_taken_or_refused_in_words(start):
    peer = start()
    assert peer.set(unknown_below=0.9) == (True, "")
    assert peer.set(top_k=1) == (True, "")
    peer.send(scene(), 1)
    message = peer.answer(1)
    assert labels(message) == {"5": "unknown", "9": "unknown"}
    assert len(message.detections[0].results) == 1
    assert peer.set(unknown_below=0) == (True, ""), "a whole number is a number"
    assert peer.set(ignore_instances=[0, 1, 9]) == (True, "")
    peer.send(scene(), 2)
    assert labels(peer.answer(2)) == {"5": "can"}
    refused = {
        "unknown_below": (2.0, "range"),
        "selection": ("best", "auto, sensor, entropy, all"),
        "backbone": ("ViT-B-32", "while the node is configured"),
        "bundle": ("/tmp/x", "'/tmp/x' is no bundle: it has no bundle.json"),
        "up": ([0.0, 0.0, 0.0], "all zero"),
        "top_k": ("many", "whole number"),
    }
    for name, (value, words) in refused.items():
        successful, reason = peer.set(**{name: value})
        assert not successful, f"{name} took {value}"
        assert words in reason, f"{name}: '{reason}'"


def test_enable_closes_and_opens_the_gate(start):
    peer = start()
    answer = peer.enable(False)
    assert answer.success
    assert "ignored" in answer.message
    peer.send(scene(), 1)
    assert peer.silent_on(1)
    assert peer.enable(True).success
    peer.send(scene(), 2)
    peer.answer(2)


def test_reset_says_that_the_frozen_model_answers(start):
    peer = start()
    answer = peer.reset()
    assert answer.success
    assert "frozen" in answer.message


def test_reset_before_configure_says_so(start):
    peer = start(active=False, autostart=False)
    answer = peer.reset()
    assert not answer.success
    assert "configure" in answer.message


def test_the_newest_cloud_wins_and_drops_are_counted(start):
    peer = start()
    StandIn.delay_s = 0.4
    for sec in range(1, 7):
        peer.send(scene(), sec)
        time.sleep(0.03)
    peer.answer(6)
    answered = [m.header.stamp.sec for m in peer.heard["detections"]]
    assert answered[-1] == 6
    assert len(answered) <= 3, f"stale frames were answered: {answered}"
    rows = peer.diagnosis()
    assert int(rows["dropped"]) == 6 - len(answered)
    assert float(rows["project_ms_p50"]) >= 400


def test_what_stands_still_keeps_its_look_where_asked(start):
    peer = start()
    for sec in (1, 2):
        peer.send(image_scene(), sec=sec)
        peer.answer(sec)
    assert StandIn.known is None, "nobody asked for that"
    peer = start(reuse_still=True)
    peer.send(image_scene(), sec=1)
    peer.answer(1)
    assert StandIn.known is None, "nothing was seen before"
    peer.send(image_scene(), sec=2)
    assert labels(peer.answer(2)) == {"5": "can", "9": "book"}
    assert StandIn.known.any(-1).all(), "two objects on a table, seen again from the same place"


def one_object(height, count=400, shift=(0, 0, 0)):
    """A cloud of one object, 12 cm high a can to the stand-in and 9 cm a book, near enough to be one track."""
    points = block((0.06, 0.06, height), np.add((0.5, 0.1, 0.1), shift), count)
    return write_cloud(dict(zip("xyz", points.T, strict=True)) | {"instance_id": np.full(count, 5, np.uint8)})


def first_score(message):
    hypothesis = message.detections[0].results[0].hypothesis
    return hypothesis.class_id, pytest.approx(hypothesis.score)


@pytest.mark.parametrize(
    ("values", "fused"),
    [({}, False), ({"fixed_frame": "odom"}, True), ({"stable_ids": True}, True)],
    ids=["by place in the cloud's frame", "by place in odom", "by ids that last"],
)
def test_under_a_moving_sensor_sightings_are_judged_together_where_frame_or_ids_tell(start, odometry, values, fused):
    peer = start(fuse_tracks=True, **values)
    for sec, height in ((1, 0.12), (2, 0.09)):
        peer.send(one_object(height, shift=lowered(sec)), sec)
        answer = peer.answer(sec)
    assert (first_score(answer) != ("book", 0.8)) == fused
    assert {sec for *_, sec in odometry.asked} == ({1, 2} if "fixed_frame" in values else set())


def test_a_cloud_without_its_place_in_the_fixed_frame_is_skipped_where_objects_are_followed(start, odometry):
    odometry.lost = True
    peer = start(fixed_frame="odom")
    peer.send(scene(), 1)
    peer.answer(1)
    assert not odometry.asked, "nothing is made of tracks, so nobody needs to know where the sensor is"
    assert peer.set(fuse_tracks=True) == (True, "")
    peer.send(scene(), 2)
    assert peer.silent_on(2)
    assert peer.diagnosis()["skipped_no_transform"] == "1"
    odometry.lost = False
    peer.send(scene(), 3)
    peer.answer(3)


def test_a_frame_that_is_overtaken_by_a_swap_says_nothing_of_the_next(start, monkeypatch):
    peer = start(fuse_tracks=True)
    peer.send(one_object(0.12), 1)
    assert first_score(peer.answer(1)) == ("can", 0.8)
    peer.send(one_object(0.09), 2)
    assert first_score(peer.answer(2)) != ("book", 0.8), "nothing was fused, so this shows nothing"
    deciding, swapped, decide = threading.Event(), threading.Event(), StandIn.decide

    def overtaken(self, *given):
        deciding.set()
        assert swapped.wait(10)
        return decide(self, *given)

    monkeypatch.setattr(StandIn, "decide", overtaken)
    peer.send(one_object(0.12), 3)
    peer.wait(deciding.is_set, what="the frame's decision")
    assert peer.set(classes=["bottle", "plate", "bowl"]) == (True, "")  # as many as before
    swapped.set()
    assert first_score(peer.answer(3))[0] == "can", "the frame was begun by the old classes"
    peer.send(one_object(0.09), 4)
    assert first_score(peer.answer(4)) == ("plate", 0.8)


def test_a_sighting_of_too_few_points_is_unknown_and_adds_nothing_to_its_track(start):
    peer = start(fuse_tracks=True, min_points=50)
    for sec, count in enumerate((400, 20, 20, 20, 400), start=1):
        peer.send(one_object(0.12, count), sec=10, nanosec=sec)
        message = peer.wait(lambda sec=sec: [m for m in peer.heard["detections"] if m.header.stamp.nanosec == sec])[0]
        expected = ("can", 0.8) if count == 400 else ("unknown", 2 / 3)
        assert first_score(message) == expected


def test_time_that_jumps_back_is_noticed_and_answered(start):
    peer = start()
    for sec in (100, 101, 5, 6):
        peer.send(scene(), sec)
        peer.answer(sec)
    assert peer.diagnosis()["time_jumps"] == "1"


def test_a_cloud_without_its_transform_is_skipped_and_counted(start, monkeypatch):
    """tf2_ros is not on every machine; a stand-in of its face knows the frame only from the second cloud on."""
    known = threading.Event()

    class Buffer:
        def lookup_transform(self, target, source, time, timeout):
            if not known.is_set():
                raise LookupError(f"{source} is unknown")
            turn = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
            shift = SimpleNamespace(x=0.0, y=0.0, z=1.0)
            return SimpleNamespace(transform=SimpleNamespace(rotation=turn, translation=shift))

    tf2 = ModuleType("tf2_ros")
    tf2.Buffer, tf2.TransformException = Buffer, LookupError
    tf2.TransformListener = lambda buffer, node, spin_thread: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2)
    peer = start(gravity_frame="base_link")
    peer.send(scene(), 1)
    assert peer.silent_on(1)
    known.set()
    peer.send(scene(), 2)
    peer.answer(2)
    assert peer.diagnosis()["skipped_no_transform"] == "1"


def test_services_are_answered_while_a_frame_is_worked_on(start):
    peer = start()
    StandIn.delay_s = 1.5
    peer.send(scene(), 1)
    time.sleep(0.2)
    asked = time.monotonic()
    assert peer.state() == "active"
    assert time.monotonic() - asked < 1
    peer.answer(1)


def test_diagnostics_tell_every_stage_and_the_state(start):
    peer = start()
    peer.send(scene(), 1)
    peer.answer(1)
    rows = peer.diagnosis()
    assert rows["state"] == "active"
    assert rows["adapter_version"] == "0"
    assert rows["processed"] == "1"
    assert float(rows["rss_mb"]) > 10
    assert all(float(rows[f"{stage}_ms_max"]) >= 0 for stage in ("decode", "project", "encode", "decide", "publish"))
    assert float(rows["total_ms_p50"]) > 0


def test_announced_clouds_that_never_come_are_warned_of(start, capfd):
    peer = start(silence_s=0.5)
    time.sleep(2.5)
    rows = peer.diagnosis()
    assert rows["level"] == b"\x01"
    assert PROFILE in rows["message"]
    assert PROFILE in capfd.readouterr().err


def test_parameters_carry_description_unit_and_range(start):
    from rcl_interfaces.srv import DescribeParameters

    peer = start()
    request = DescribeParameters.Request(names=["tf_timeout_s", "selection", "classes", "top_k"])
    timeout, selection, classes, top_k = peer.ask(DescribeParameters, "describe_parameters", request).descriptors
    assert "[s]" in timeout.description
    assert timeout.floating_point_range[0].to_value == 10
    assert "sensor | entropy" in selection.additional_constraints
    assert "class names" in classes.description
    assert top_k.integer_range[0].from_value == 1


def test_a_program_with_an_unusable_parameter_ends_with_one_sentence():
    command = [sys.executable, "-m", "clipoint3d_ros.nodes.perception_node", "--ros-args", "-p", "top_k:=many"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": root}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "perception_node: 'top_k' is 'many'; it must be a whole number"


def test_a_parameter_file_may_say_none_and_whole_numbers_and_what_it_misspells_is_told(tmp_path, monkeypatch, capfd):
    """What ROS's own parser makes of empty lists and of 0 where 0.0 is meant must not stop the node."""
    monkeypatch.setattr(perception_node, "Classifier", StandIn)
    settings = tmp_path / "p.yaml"
    lines = [
        "autostart: false",
        "ignore_instances: []",
        "viewpoint: []",
        "up: [0, 1, 0]",
        "unknown_below: 0",
        "topk: 3",
    ]
    settings.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {line}\n" for line in lines))
    context = Context()
    with transports("UDPv4"):
        rclpy.init(context=context, domain_id=DOMAIN)
        node = perception_node.PerceptionNode(
            context=context, cli_args=["--ros-args", "--params-file", str(settings)], use_global_arguments=False
        )
    try:
        config = node._config
        assert (config.ignore_instances, config.viewpoint, config.up) == ((), (), (0.0, 1.0, 0.0))
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert "there is no parameter 'topk', its value is ignored; did you mean 'top_k'?" in capfd.readouterr().err


def test_no_attribute_of_ours_hides_one_of_rclpy_s():
    """rclpy keeps `_publishers`, `_timers`, … on the same object; hiding one breaks it somewhere else."""
    from rclpy.lifecycle import LifecycleNode

    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    with transports("UDPv4"):
        plain, ours = LifecycleNode("plain", context=context), None
    try:
        parameters = [Parameter("autostart", value=False)]
        ours = perception_node.PerceptionNode(context=context, parameter_overrides=parameters)
        mine = (set(vars(ours)) - set(vars(plain))) | set(vars(perception_node.PerceptionNode))
        theirs = set(vars(plain)) | set(dir(LifecycleNode))
        public = {"on_configure", "on_activate", "on_deactivate", "on_cleanup", "on_shutdown", "on_error"}
        python = {name for name in mine if name.startswith("__")}
        assert mine & theirs <= public | python
    finally:
        plain.destroy_node()
        if ours is not None:
            ours.destroy_node()
        rclpy.shutdown(context=context)
