"""A node's program: what it asks of the operating system."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from clipoint3d_ros.nodes.program import forward_warnings
from clipoint3d_ros.nodes.transports import BUILTIN, CHOICES, PROFILE
from clipoint3d_ros.resources import config_file

FAULTS = """
import resource, sys
from clipoint3d_ros.nodes.program import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
def frame():
    copies = [bytearray(b"x") * 6_000_000 for _ in range(4)]
for _ in range(3):
    frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    frame()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.ros
@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_the_memory_of_one_cloud_serves_the_next():
    """Without it, four copies of 6 MB are given back and fetched anew with some thousand page faults a frame."""
    kept, plain = (
        subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, timeout=120)
        for way in ("kept", "plain")
    )
    if kept.returncode == 3:
        pytest.skip("the C library is not glibc")
    assert kept.returncode == plain.returncode == 0, kept.stderr + plain.stderr
    assert float(kept.stdout) < 300
    assert float(plain.stdout) > 10 * float(kept.stdout), "the setting makes no difference here"


ENDED_BETWEEN_WAITS = """
import rclpy
import rclpy.node
from clipoint3d_ros.nodes.program import run

class Node(rclpy.node.Node):
    def __init__(self, fault):
        super().__init__("ends")
        self.create_timer(0.01, fault)
    def close(self):
        print("closed")

def signalled():
    rclpy.shutdown()  # as a signal does, from outside
    raise RuntimeError("the context is not valid")

def broken():
    raise RuntimeError("a fault")

print(run("ends", [lambda: Node(signalled)], []))
run("ends", [lambda: Node(broken)], [])
"""


FROZEN = """
import gc
import rclpy.node
from clipoint3d_ros.nodes.program import run

class Node(rclpy.node.Node):
    def __init__(self):
        super().__init__("frozen")
        self.create_timer(0.01, self.tell)
    def tell(self):
        print(gc.get_freeze_count() > len(gc.get_objects()))
        raise KeyboardInterrupt
    def close(self):
        pass

run("frozen", [Node], [])
"""


@pytest.mark.ros
def test_the_collector_spares_what_was_there_before_the_first_frame():
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.ros
def test_a_context_that_a_signal_took_away_is_an_end_and_no_fault():
    done = subprocess.run([sys.executable, "-c", ENDED_BETWEEN_WAITS], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["closed", "0", "closed"], done.stderr
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "RuntimeError: a fault" in done.stderr


TRANSPORTS = """
import os
from clipoint3d_ros.nodes.program import run
from clipoint3d_ros.nodes.transports import variable

def tell():
    raise SystemExit(os.environ.get(variable(), "none"))

run("tells", [tell], [])
"""


@pytest.mark.ros
@pytest.mark.parametrize(("chosen", "said"), [({}, str(config_file(PROFILE))), ({BUILTIN: "UDPv4"}, "none")])
def test_a_node_started_by_hand_has_the_transports_of_large_clouds_unless_the_user_chose(chosen, said):
    world = {name: value for name, value in os.environ.items() if name not in CHOICES} | chosen
    done = subprocess.run([sys.executable, "-c", TRANSPORTS], env=world, capture_output=True, text=True, timeout=120)
    assert done.stderr.split() == [said]


class Logger:
    def __init__(self):
        self.said = []
        self.warning = self.said.append


def test_what_the_rooms_below_warn_of_is_said_once_by_the_newest_node():
    first, second = Logger(), Logger()
    package = logging.getLogger("clipoint3d_ros")
    before = list(package.handlers)
    try:
        forward_warnings(first)
        forward_warnings(second)
        logging.getLogger("clipoint3d_ros.recognition.engine").warning("%s has no memory", "cuda:0")
        logging.getLogger("clipoint3d_ros.recognition.engine").info("this is no warning")
        logging.getLogger("somebody_else").warning("not ours")
    finally:
        package.handlers[:] = before
    assert (first.said, second.said) == ([], ["cuda:0 has no memory"])
