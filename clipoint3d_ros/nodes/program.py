"""A program of one or two nodes: started, spun, and ended cleanly by SIGINT or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from clipoint3d_ros.nodes.parameters import ParameterError

EXIT_S = 10


def run(name: str, makers: Sequence[Callable[[], Any]], arguments: Sequence[str] | None = None) -> int:
    """Spin nodes, each on an executor of its own, the first in this thread.

    Args:
        name: of the program, for what it says of parameters it cannot use.
        makers: make nodes that have `close()`.
        arguments: of the command line; None takes the process's.

    Returns:
        The program's exit code.
    """
    rclpy.init(args=list(arguments) if arguments is not None else None)
    running: list[tuple[Any, SingleThreadedExecutor]] = []
    try:
        for make in makers:
            node, executor = make(), SingleThreadedExecutor()
            executor.add_node(node)
            running.append((node, executor))
        for _, executor in running[1:]:
            threading.Thread(target=_spin, args=(executor,), daemon=True).start()
        running[0][1].spin()
    except ParameterError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        _ask_once()
        for node, _ in running:
            node.close()
        if running:
            end_within(EXIT_S)
        for node, executor in running:
            executor.shutdown()
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()


def _ask_once() -> None:
    """Heed no further SIGINT or SIGTERM: a terminal's and a launch file's often come together, and the second would
    break off what the first began, such as saving."""
    if threading.current_thread() is threading.main_thread():
        for asked in (signal.SIGINT, signal.SIGTERM):
            signal.signal(asked, signal.SIG_IGN)


def end_within(seconds: int) -> None:
    """Let the operating system end the process if it has not ended by then.

    Fast DDS 3.2 with LARGE_DATA may wait for ever for a TCP channel when its participant is destroyed, and does so
    holding the interpreter's lock, so that nothing in Python could end it. All of ours is finished by then.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def leave(code: int) -> NoReturn:
    """End the process as it stands, with this exit code.

    All of ours is finished and Fast DDS's participants are gone; what remains is teardown of libraries, in which Fast
    DDS 3.2 may hang as well.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
