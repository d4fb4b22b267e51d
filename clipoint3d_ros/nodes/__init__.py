"""The ROS 2 nodes, and the pure functions around their messages."""

import os

# libgomp's threads spin while they wait, and on a robot's shared cores that makes every small tensor operation many
# times slower. It is read when torch is first imported, which is after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
