"""A program of one or two nodes: started, spun, and ended cleanly by SIGINT or SIGTERM."""

from __future__ import annotations

import ctypes
import gc
import logging
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
from clipoint3d_ros.nodes.transports import large_clouds

EXIT_S = 10
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def run(name: str, makers: Sequence[Callable[[], Any]], arguments: Sequence[str] | None = None) -> int:
    """Spin nodes, each on an executor of its own, the first in this thread.

    Args:
        name: of the program, for what it says of parameters it cannot use.
        makers: make nodes that have `close()`.
        arguments: of the command line; None takes the process's.

    Returns:
        The program's exit code.
    """
    keep_freed_memory()
    os.environ.update(large_clouds())  # Fast DDS reads it when the first participant is made
    rclpy.init(args=list(arguments) if arguments is not None else None)
    running: list[tuple[Any, SingleThreadedExecutor]] = []
    try:
        for make in makers:
            node, executor = make(), SingleThreadedExecutor()
            executor.add_node(node)
            running.append((node, executor))
        forward_warnings(running[0][0].get_logger())
        gc.freeze()  # what was imported, half a million objects: walking through them held frames up for 0.1 to 0.3 s
        for _, executor in running[1:]:
            threading.Thread(target=_spin, args=(executor,), daemon=True).start()
        running[0][1].spin()
    except ParameterError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise  # else a signal ended the context between two waits, and the next one found it gone
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


def forward_warnings(logger: Any) -> None:
    """What the rooms below warn of, as of a GPU without memory, is said as a node's own warnings are: to /rosout, too.

    Args:
        logger: of the node; a later one takes its place.
    """
    package = logging.getLogger("clipoint3d_ros")
    for handler in [each for each in package.handlers if isinstance(each, _Forward)]:
        package.removeHandler(handler)
    package.addHandler(_Forward(logger))


class _Forward(logging.Handler):
    def __init__(self, logger: Any) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        self._logger.warning(record.getMessage())


def keep_freed_memory(most: int = 1 << 28) -> bool:
    """Let this process keep the memory of one cloud for the next, up to `most` bytes; whether its C library can.

    glibc gives a freed buffer of megabytes back to the system, which hands out its pages anew, zeroed, one fault each:
    three copies of a 6 MB cloud between DDS and Python cost 4500 faults and 10 of 15 ms a frame when measured.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    # 32 MB is the most it accepts in all its versions.
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 25)) and bool(mallopt(_TRIM_THRESHOLD, most))


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        try:
            executor.spin()
        except Exception:
            if rclpy.ok():
                raise  # as in `run`


def _ask_once() -> None:
    """Heed no further SIGINT or SIGTERM: a terminal's and a launch file's often come together, and the second would
    break off what the first began, such as saving."""
    if threading.current_thread() is threading.main_thread():
        for asked in (signal.SIGINT, signal.SIGTERM):
            signal.signal(asked, signal.SIG_IGN)


def end_within(seconds: int) -> None:
    """Let the operating system end the process if it has not ended by then.

    Fast DDS 3.2 with LARGE_DATA, where that was chosen, may wait for ever for a TCP channel when its participant is
    destroyed, and does so holding the interpreter's lock, so that nothing in Python could end it. All of ours is
    finished by then.
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
