"""One end of a DDS connection as a program: `cloud_talk.py send | hear TOPIC COUNT`, for clouds of 5 MB, best effort.

The sender waits for a reader, sends COUNT clouds at 10 Hz and ends; the reader prints how many came once the sender is
gone. Both leave without DDS's own teardown, which may hang (see `nodes.program`).
"""

import os
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

BYTES = 5_000_000
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
FIND_S = 30.0


def matched(node, count) -> bool:
    end = time.monotonic() + FIND_S
    while time.monotonic() < end:
        if count():
            return True
        rclpy.spin_once(node, timeout_sec=0.05)
    return False


def send(node, topic: str, number: int) -> int:
    ours = node.create_publisher(PointCloud2, topic, BEST_EFFORT)
    if not matched(node, ours.get_subscription_count):
        return 1
    time.sleep(1.0)  # the other direction
    cloud = PointCloud2(data=bytes(BYTES))
    for stamp in range(number):
        cloud.header.stamp.sec = stamp
        ours.publish(cloud)
        time.sleep(0.1)
    time.sleep(1.0)
    return 0


def hear(node, topic: str) -> int:
    stamps = set()
    node.create_subscription(PointCloud2, topic, lambda cloud: stamps.add(cloud.header.stamp.sec), BEST_EFFORT)
    if not matched(node, lambda: node.count_publishers(topic)):
        return 1
    end = time.monotonic() + FIND_S
    while node.count_publishers(topic) and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(len(stamps), flush=True)
    return 0


if __name__ == "__main__":
    what, topic, number = sys.argv[1:4]
    rclpy.init()
    node = rclpy.create_node(f"{what}_clouds")
    code = send(node, topic, int(number)) if what == "send" else hear(node, topic)
    if what == "send":
        node.destroy_node()  # so that the reader sees it go
        time.sleep(0.5)
    os._exit(code)
