"""Stands in for the perception node: same topics, and answers that follow from the ids, without a model.

An even id is a box, an odd one a can; both with score 0.75. With a bundle that is version 7's answer, announced half a
second late; the frozen model's comes 0.1 s after it and calls everything a mug. $STAND_IN makes it misbehave: "slow
SECONDS" takes so long for each cloud, "die N" ends at the N-th, "mute" listens without answering, "broken" cannot
configure, "skip N" leaves out every N-th cloud, "leak MB" keeps so much more at each, "warn TEXT" reports it once a
second.
"""

import os
import sys
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose, VisionInfo

from clipoint3d_ros.nodes.pointcloud import read_segments

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
KIND, _, AMOUNT = os.environ.get("STAND_IN", "").partition(" ")


class StandIn(Node):
    def __init__(self):
        super().__init__("perception")
        if KIND == "broken":
            self.get_logger().error("cannot configure: no weights here; get some")
            return
        self.kept = []
        if KIND == "warn":
            self.reports = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
            self.create_timer(0.3, self.report)
        self.newest, self.count, self.arrival = None, 0, threading.Condition()
        self.bundle = self.declare_parameter("bundle", "").value
        self.answers = self.create_publisher(Detection3DArray, "~/output/detections", 10)
        self.frozen = self.create_publisher(Detection3DArray, "~/output/frozen_detections", 10)
        self.version = self.create_publisher(VisionInfo, "~/output/vision_info", LATCHED)
        if self.bundle:
            threading.Timer(0.5, lambda: self.version.publish(VisionInfo(database_version=7))).start()
        self.create_subscription(PointCloud2, "~/input/points", self.put, qos_profile_sensor_data)
        threading.Thread(target=self.work, daemon=True).start()

    def put(self, cloud):
        with self.arrival:
            self.newest = cloud  # newest wins, as in the node
            self.arrival.notify()

    def report(self):
        self.count += 1
        status = DiagnosticStatus(level=DiagnosticStatus.WARN, name=f"{self.get_fully_qualified_name()}: recognition")
        status.message = f"{AMOUNT} {self.count}"
        status.values = [KeyValue(key="failed", value="3"), KeyValue(key="gpu_reserved_mb", value="12.5")]
        self.reports.publish(DiagnosticArray(status=[status]))

    def work(self):
        while True:
            with self.arrival:
                while self.newest is None:
                    self.arrival.wait()
                cloud, self.newest = self.newest, None
            if KIND != "mute":
                self.answer(cloud)

    def answer(self, cloud):
        segments = read_segments(cloud)
        self.count += bool(segments)
        if KIND == "die" and self.count == int(AMOUNT):
            print("stand-in: out of memory, good-bye", flush=True)
            os._exit(3)
        if KIND == "skip" and segments and self.count % int(AMOUNT) == 0:
            return
        if KIND == "leak" and segments:
            self.kept.append(b"x" * (int(AMOUNT) << 20))
        if KIND == "slow" and segments:
            time.sleep(float(AMOUNT))
        named = {s.id: "can" if int(s.id) % 2 else "box" for s in segments}
        self.answers.publish(self.detections(cloud.header, named))
        if self.frozen.get_subscription_count() and not self.bundle:
            print("stand-in: somebody listens to frozen answers without a bundle", flush=True)
            os._exit(4)
        if self.bundle:
            time.sleep(0.1)
            self.frozen.publish(self.detections(cloud.header, dict.fromkeys(reversed(named), "mug")))

    def detections(self, header, named):
        message = Detection3DArray(header=header)
        for segment, name in named.items():
            other = "can" if name == "mug" else "mug"
            hypotheses = [ObjectHypothesis(class_id=n, score=s) for n, s in ((other, 0.25), (name, 0.75))]
            results = [ObjectHypothesisWithPose(hypothesis=h) for h in hypotheses]
            message.detections.append(Detection3D(header=header, id=segment, results=results))
        return message


if __name__ == "__main__":
    rclpy.init()
    executor = SingleThreadedExecutor()
    executor.add_node(StandIn())
    try:
        executor.spin()
    except KeyboardInterrupt:
        sys.exit(0)
