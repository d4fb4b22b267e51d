"""Perception and its companion in one process, with one frozen backbone between them: half the memory of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from clipoint3d_ros.clip.backbone import share_backbones
from clipoint3d_ros.nodes.adaptation_node import AdaptationNode
from clipoint3d_ros.nodes.perception_node import PerceptionNode
from clipoint3d_ros.nodes.program import leave, run


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`ros2 run clipoint3d_ros robot_nodes`; parameters in a file under each node's own name, or under `/**`."""
    share_backbones()
    leave(run("robot_nodes", (PerceptionNode, AdaptationNode), arguments))


if __name__ == "__main__":
    main()
