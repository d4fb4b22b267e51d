"""The other side of the wire: a node that publishes clouds to a perception node and hears its answers."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections import defaultdict

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection3D, Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from clipoint3d_ros.nodes.perception_node import PerceptionNode
from clipoint3d_ros.nodes.pointcloud import cloud_message
from clipoint3d_ros.nodes.transports import BUILTIN, CHOICES

# One domain a process, so that test runs side by side do not hear each other; below 102 DDS's ports are safe.
DOMAIN = 1 + os.getpid() % 100
OUTPUTS = {
    "detections": Detection3DArray,
    "frozen_detections": Detection3DArray,
    "features": Image,
    "evidence": Image,
    "objects": Image,
    "markers": MarkerArray,
    "views": Image,
}
NUMBERS = itertools.count()
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)


def served_checksum(node):
    """sha256 of all that a perception node answers by: vision tower, text tower and the classes' features."""
    classifier, told = node._serving.classifier, hashlib.sha256()
    network = classifier.adapter and classifier.adapter.network
    for part in (classifier.backbone.model, network):
        for name, tensor in sorted(part.state_dict().items()) if part is not None else ():
            told.update(name.encode() + tensor.cpu().numpy().tobytes())
    for tensor in (classifier.text, *(classifier._head or ())):
        told.update(tensor.cpu().numpy().tobytes())
    return told.hexdigest()


@contextlib.contextmanager
def transports(name):
    """Fast DDS's transports for the participants made inside.

    Within one process messages of any size go from hand to hand, so plain UDPv4 serves; between processes big clouds
    need `nodes.transports`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for choice in CHOICES:
            patch.delenv(choice, raising=False)
        patch.setenv(BUILTIN, name)
        yield


@contextlib.contextmanager
def perception_nodes():
    """Gives `start(active=True, **parameters)`, which runs a perception node here and returns its peer.

    All end with the block. `active=False` does not wait for the node.
    """
    running = []

    def start(active=True, **parameters):
        with transports("UDPv4"):
            return begin(active, parameters)

    def begin(active, parameters):
        namespace = f"unit_{os.getpid()}_{next(NUMBERS)}"
        peer, context = Peer(namespace), Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        overrides = [Parameter(name, value=value) for name, value in ({"warning_period_s": 0.0} | parameters).items()]
        node = PerceptionNode(context=context, namespace=namespace, parameter_overrides=overrides)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        running.append((peer, node, executor, thread, context))
        peer.served = node
        if active:
            peer.wait_until_active()
        return peer

    try:
        yield start
    finally:
        for peer, node, executor, thread, context in running:
            executor.shutdown(timeout_sec=5)
            thread.join(5)
            node.close()
            node.destroy_node()
            rclpy.shutdown(context=context)
            peer.close()


class Peer:
    """Publishes to, listens to and asks `/<namespace>/perception`, spinning in a thread of its own."""

    def __init__(self, namespace: str, domain: int = DOMAIN) -> None:
        self.base = f"/{namespace}/perception"
        self.served: PerceptionNode | None = None  # the node, where it runs in this process
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("peer", namespace=namespace, context=self.context)
        self.heard: dict[str, list] = defaultdict(list)
        self._points = self.node.create_publisher(PointCloud2, f"{self.base}/input/points", qos_profile_sensor_data)
        self._boxes = None
        self.listen("detections")
        self.node.create_subscription(VisionInfo, f"{self.base}/output/vision_info", self._note("vision_info"), LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note("diagnostics"), 10)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=5)
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _note(self, name):
        return self.heard[name].append

    def listen(self, name) -> None:
        self.node.create_subscription(OUTPUTS[name], f"{self.base}/output/{name}", self._note(name), 10)

    def wait(self, condition, seconds=20.0, what="what was waited for"):
        """The condition's first true value; fails in words after so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.01)
        raise AssertionError(f"{what} did not happen within {seconds:g} s")

    def wait_until_active(self, seconds=60.0) -> None:
        """The node subscribes only when its gate is open."""
        self.wait(self._points.get_subscription_count, seconds, "the node's subscription")
        if self.served is not None:
            self.wait(lambda: self.served._inputs, what="the node's inputs")
            self.wait(self.served._inputs[0].get_publisher_count, what="the node's match with this end's clouds")
            self.wait(self.served._detections.get_subscription_count, what="its match with this end's subscription")
            return
        topic = f"{self.base}/output/detections"
        self.wait(lambda: self.node.count_publishers(topic), what="the node's publisher")
        time.sleep(0.2)  # both directions matched

    def knock(self, cloud, seconds=60.0) -> None:
        """Send a cloud under stamp 0 until it is answered: TCP channels between processes take their time."""
        end = time.monotonic() + seconds
        while self.silent_on(0, seconds=0.5):
            assert time.monotonic() < end, f"no cloud was answered within {seconds:g} s"
            self.send(cloud, 0)

    def send(self, cloud, sec, frame="camera", nanosec=0) -> None:
        header = Header(frame_id=frame)
        header.stamp.sec, header.stamp.nanosec = sec, nanosec
        self._points.publish(cloud_message(cloud, header))

    def send_boxes(self, boxes, sec, frame="camera") -> None:
        """Boxes as (id, centre, size), without turn."""
        if self._boxes is None:
            topic = f"{self.base}/input/boxes"
            self._boxes = self.node.create_publisher(Detection3DArray, topic, qos_profile_sensor_data)
            self.wait(self._boxes.get_subscription_count, what="the node's subscription to boxes")
            time.sleep(0.3)
        message = Detection3DArray()
        message.header.frame_id, message.header.stamp.sec = frame, sec
        for name, centre, size in boxes:
            detection = Detection3D(id=name)
            position, extent = detection.bbox.center.position, detection.bbox.size
            position.x, position.y, position.z = map(float, centre)
            extent.x, extent.y, extent.z = map(float, size)
            message.detections.append(detection)
        self._boxes.publish(message)

    def answer(self, sec, name="detections", seconds=20.0):
        """The message on an output with that stamp."""
        return self.wait(
            lambda: next((m for m in self.heard[name] if stamp_of(m) == sec), None), seconds, f"{name} of stamp {sec}"
        )

    def silent_on(self, sec, name="detections", seconds=0.5) -> bool:
        """Whether nothing of that stamp came within so long."""
        time.sleep(seconds)
        return all(stamp_of(message) != sec for message in self.heard[name])

    def ask(self, kind, name, request, seconds=60.0):
        client = self.node.create_client(kind, f"{self.base}/{name}")
        assert client.wait_for_service(seconds), f"no service {name}"
        future = client.call_async(request)
        self.wait(future.done, seconds, f"the answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def set(self, **values):
        """Set parameters over ROS, one by one; (successful, reason) of the first."""
        request = SetParameters.Request(
            parameters=[Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        )
        result = self.ask(SetParameters, "set_parameters", request).results[0]
        return result.successful, result.reason

    def parameter(self, name) -> str:
        """A text parameter's value over ROS."""
        return self.ask(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values[0].string_value

    def transition(self, name) -> bool:
        request = ChangeState.Request(transition=Transition(label=name, id=TRANSITIONS[name]))
        return self.ask(ChangeState, "change_state", request).success

    def state(self) -> str:
        return self.ask(GetState, "get_state", GetState.Request()).current_state.label

    def enable(self, on):
        return self.ask(SetBool, "enable", SetBool.Request(data=on))

    def reset(self):
        return self.ask(Trigger, "reset", Trigger.Request())

    def diagnosis(self) -> dict[str, str]:
        """The next diagnostics, with level and message."""
        heard = self.heard["diagnostics"]
        ours = self.base.lstrip("/")
        before = len(heard)
        status = self.wait(
            lambda: next((m.status[0] for m in heard[before:] if m.status[0].name.startswith(ours)), None),
            what="a diagnostics message",
        )
        return {each.key: each.value for each in status.values} | {"level": status.level, "message": status.message}


TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "shutdown": Transition.TRANSITION_INACTIVE_SHUTDOWN,
}


def stamp_of(message) -> int:
    header = message.markers[0].header if hasattr(message, "markers") else message.header
    return header.stamp.sec


def labels(message) -> dict[str, str]:
    """Detections as id to best class."""
    return {d.id: d.results[0].hypothesis.class_id for d in message.detections}
