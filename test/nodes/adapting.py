"""A companion beside a perception node: the other side of its wire, and the two of them in one process."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from peer import DOMAIN, TRANSITIONS, transports
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sharp_model import blocks
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from clipoint3d_ros.nodes.adaptation_node import AdaptationNode
from clipoint3d_ros.nodes.pointcloud import write_cloud

OBJECTS = 20  # in a frame; 15 of their tracks are learned from
BLANK = {"x": np.full(1, np.nan, np.float32), "y": np.zeros(1, np.float32), "z": np.zeros(1, np.float32),
         "instance_id": np.full(1, 2, np.uint32)}  # fmt: skip
APART_S = 10  # seconds between frames: every object is another track then


def frame(seed=0, count=OBJECTS, shift=(0, 0, 0)):
    """A labelled cloud of blocks; ids from 2 on. shift: metres that they are away from where they mostly are."""
    clouds, _ = blocks(count, seed)
    points = np.concatenate(clouds) + np.array(shift, np.float32)
    labels = np.repeat(np.arange(2, count + 2), [len(cloud) for cloud in clouds]).astype(np.uint32)
    return write_cloud(dict(zip("xyz", points.T, strict=True)) | {"instance_id": labels})


def told(message):
    """Detections as {id: ((class, score), …)} with every digit."""
    results = {d.id: [r.hypothesis for r in d.results] for d in message.detections}
    return {name: tuple((h.class_id, h.score) for h in given) for name, given in results.items()}


class Beside:
    """Asks `/<namespace>/adaptation` and listens to it, through the node of perception's peer."""

    def __init__(self, peer) -> None:
        self.peer, self.base = peer, peer.base.rpartition("/")[0] + "/adaptation"
        self.served: AdaptationNode | None = None  # the node, where it runs in this process
        self.verdicts, self.learned = [], []
        node = peer.node
        node.create_subscription(DiagnosticArray, f"{self.base}/output/verdicts", self.verdicts.append, 10)
        node.create_subscription(Header, f"{self.base}/output/learned", self.learned.append, 10)
        peer.listen("frozen_detections")
        self._sec = 0

    def wait_until_listening(self, seconds=60.0) -> None:
        """The node's subscriptions and ours are matched."""
        node, base, ours, theirs = self.peer.node, self.peer.base, self.served, self.peer.served
        self.peer.wait(lambda: node.count_subscribers(f"{base}/output/evidence"), seconds, "the companion listening")
        self.peer.wait(lambda: node.count_publishers(f"{self.base}/output/learned"), what="its publisher")
        if ours is None or theirs is None:
            # Of another process nobody here sees what is matched: a blank cloud goes the whole way.
            self.peer.wait(self._hears_a_blank, seconds, "a blank cloud, heard of by the companion")
            return
        self.peer.wait(lambda: len(ours._inputs) == len(ours._parts), what="all its inputs")
        inputs = (*ours._inputs, *ours._choices)
        self.peer.wait(lambda: all(each.get_publisher_count() for each in inputs), what="matched inputs")
        parts = [getattr(theirs, f"_{name}") for name in ours._parts if name != "detections"]
        outputs = [*parts, theirs._frozen, ours._learned, ours._verdicts]
        self.peer.wait(
            lambda: (
                theirs._detections.get_subscription_count() > 1 and all(o.get_subscription_count() for o in outputs)
            ),
            what="matched outputs",
        )
        versions = ours._versions
        self.peer.wait(lambda: versions.served is not None and not versions.unsure, what="whose bundle is served")

    def _hears_a_blank(self):
        before, end = len(self.learned), time.monotonic() + 0.5
        self.peer.send(write_cloud(BLANK), 0)
        while len(self.learned) == before and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.learned) > before

    def show(self, sec=None, seed=0, shift=(0, 0, 0)):
        """Send a frame, by default of objects of other tracks; (answer, the frozen model's) once it is learned from."""
        self._sec = self._sec + APART_S if sec is None else sec
        sec, before = self._sec, len(self.learned)
        self.peer.send(frame(seed, shift=shift), sec)
        answers = tuple(told(self.peer.answer(sec, name)) for name in ("detections", "frozen_detections"))
        self.peer.wait(
            lambda: any(header.stamp.sec == sec for header in self.learned[before:]), what=f"learning from stamp {sec}"
        )
        return answers

    def knock(self, seconds=60.0) -> None:
        """Send frames until one is learned from: a companion that was killed is still listed for a while."""
        before, end = len(self.learned), time.monotonic() + seconds
        while len(self.learned) == before:
            assert time.monotonic() < end, f"nothing was learned from within {seconds:g} s"
            self.answer_alone()
            time.sleep(0.3)

    def answer_alone(self):
        """The same where no companion is there to learn."""
        self._sec += APART_S
        self.peer.send(frame(), self._sec)
        return tuple(told(self.peer.answer(self._sec, name)) for name in ("detections", "frozen_detections"))

    def version(self):
        """The version that perception announced last."""
        heard = self.peer.heard["vision_info"]
        return heard[-1].database_version if heard else None

    def wait_for_version(self, version) -> None:
        self.peer.wait(lambda: self.version() == version, what=f"version {version} (it is {self.version()})")

    def call(self, name, data=None):
        """(success, message) of a service."""
        kind, request = (Trigger, Trigger.Request()) if data is None else (SetBool, SetBool.Request(data=data))
        client = self.peer.node.create_client(kind, f"{self.base}/{name}")
        assert client.wait_for_service(20.0), f"no service {name}"
        future = client.call_async(request)
        self.peer.wait(future.done, what=f"the answer of {name}")
        self.peer.node.destroy_client(client)
        return future.result().success, future.result().message

    def transition(self, name) -> bool:
        """Ask for a change of the node's state; whether it succeeded."""
        client = self.peer.node.create_client(ChangeState, f"{self.base}/change_state")
        assert client.wait_for_service(20.0), "no service change_state"
        request = ChangeState.Request(transition=Transition(label=name, id=TRANSITIONS[name]))
        future = client.call_async(request)
        self.peer.wait(future.done, what=f"the end of {name}")
        self.peer.node.destroy_client(client)
        return future.result().success

    def diagnosis(self):
        """The next diagnostics, with level and message."""
        return self.diagnosed(lambda _: True)

    def diagnosed(self, condition, what="a diagnostics message"):
        """The first diagnostics from now on that are as wanted."""
        heard, ours = self.peer.heard["diagnostics"], self.base.lstrip("/") + ":"
        before = len(heard)

        def found():
            statuses = [m.status[0] for m in heard[before:] if m.status[0].name.startswith(ours)]
            values = [{e.key: e.value for e in s.values} | {"level": s.level, "message": s.message} for s in statuses]
            return next((each for each in values if condition(each)), None)

        return self.peer.wait(found, what=what)


@contextlib.contextmanager
def adaptation_nodes():
    """Gives `start(peer, active=True, **parameters)`, which runs a companion of that peer's node here.

    What it gives has `stop()`; all end with the block.
    """
    running = []

    def start(peer, active=True, **parameters):
        with transports("UDPv4"):
            beside, context = Beside(peer), Context()
            rclpy.init(context=context, domain_id=DOMAIN)
            values = {"warning_period_s": 0.0, "device": "cpu", "every": 8, "hand_over_s": 0.0} | parameters
            overrides = [Parameter(name, value=value) for name, value in values.items()]
            space = beside.base.rpartition("/")[0]
            node = AdaptationNode(context=context, namespace=space, parameter_overrides=overrides)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()

        def stop():
            if (stop, peer) in running:
                running.remove((stop, peer))
                executor.shutdown(timeout_sec=5)
                thread.join(5)
                node.close()
                node.destroy_node()
                rclpy.shutdown(context=context)

        running.append((stop, peer))
        beside.served, beside.stop = node, stop
        if active:
            beside.wait_until_listening()
        return beside

    try:
        yield start
    finally:
        for stop, _ in list(running):
            stop()
