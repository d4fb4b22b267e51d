"""Stands in for the perception node: same topics, and answers that follow from the ids, without a model.

An even id is a box, an odd one a can; both with score 0.75. $STAND_IN makes it misbehave: "slow SECONDS" takes so
long for each cloud, "die N" ends at the N-th, "mute" listens without answering, "broken" cannot configure,
"skip N" leaves out every N-th cloud.
"""

import os
import sys
import threading
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose

from clipoint3d_ros.nodes.pointcloud import read_segments

KIND, _, AMOUNT = os.environ.get("STAND_IN", "").partition(" ")


class StandIn(Node):
    def __init__(self):
        super().__init__("perception")
        if KIND == "broken":
            self.get_logger().error("cannot configure: no weights here; get some")
            return
        self.newest, self.count, self.arrival = None, 0, threading.Condition()
        self.answers = self.create_publisher(Detection3DArray, "~/output/detections", 10)
        self.create_subscription(PointCloud2, "~/input/points", self.put, qos_profile_sensor_data)
        threading.Thread(target=self.work, daemon=True).start()

    def put(self, cloud):
        with self.arrival:
            self.newest = cloud  # newest wins, as in the node
            self.arrival.notify()

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
        if KIND == "slow" and segments:
            time.sleep(float(AMOUNT))
        detections = Detection3DArray(header=cloud.header)
        for segment in segments:
            name = "can" if int(segment.id) % 2 else "box"
            hypotheses = [ObjectHypothesis(class_id=n, score=s) for n, s in (("mug", 0.25), (name, 0.75))]
            results = [ObjectHypothesisWithPose(hypothesis=h) for h in hypotheses]
            detections.detections.append(Detection3D(header=cloud.header, id=segment.id, results=results))
        self.answers.publish(detections)


if __name__ == "__main__":
    rclpy.init()
    executor = SingleThreadedExecutor()
    executor.add_node(StandIn())
    try:
        executor.spin()
    except KeyboardInterrupt:
        sys.exit(0)
