"""Perception and its companion in one process, with one frozen backbone between them: half the memory of two.

They share torch's threads as well, so the companion trains while perception has no frame in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from clipoint3d_ros.clip.backbone import share_backbones
from clipoint3d_ros.nodes.adaptation_node import AdaptationNode
from clipoint3d_ros.nodes.perception_node import PerceptionNode
from clipoint3d_ros.nodes.program import leave, run


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`ros2 run clipoint3d_ros robot_nodes`; parameters in a file under each node's own name, or under `/**`."""
    share_backbones()
    leave(run("robot_nodes", both(), arguments))


def both() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Make perception, and then a companion that yields to it."""
    made: list[PerceptionNode] = []

    def perception() -> PerceptionNode:
        made.append(PerceptionNode())
        return made[-1]

    return perception, lambda: AdaptationNode(yields=lambda: made[-1].at_work)


if __name__ == "__main__":
    main()
