"""Lives of a node, each a process of its own that starts in no time: a forked copy of one that has imported everything
and started nothing.

Run as a program, with the node's module as its argument, it reads one line per life, the node's arguments as JSON, and
answers with the life's process number.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import clipoint3d_ros


class Lives:
    """Starts lives and ends them as a power cut would."""

    def __init__(self, environment, module="clipoint3d_ros.nodes.adaptation_node"):
        root = Path(clipoint3d_ros.__path__[0]).parent
        paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        self._source = subprocess.Popen(
            [sys.executable, __file__, module],
            env={**os.environ, **environment, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, arguments) -> int:
        """Start a node; its process number."""
        self._source.stdin.write(json.dumps(arguments) + "\n")
        self._source.stdin.flush()
        return int(self._source.stdout.readline())

    def kill(self, number) -> None:
        """End a node at once, wherever it is; return when it is gone."""
        os.kill(number, signal.SIGKILL)
        self._source.stdin.write("gone\n")
        self._source.stdin.flush()
        assert self._source.stdout.readline() == "gone\n"

    def close(self) -> None:
        self._source.stdin.close()
        self._source.wait(30)


def main() -> None:
    node = importlib.import_module(sys.argv[1]).main

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a node prints is not an answer
    life = 0
    for line in sys.stdin:
        if line == "gone\n":
            os.waitpid(life, 0)
            out.write("gone\n")
            continue
        life = os.fork()
        if life == 0:
            with contextlib.suppress(BaseException):
                node(json.loads(line))
            os._exit(1)
        out.write(f"{life}\n")
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(life, signal.SIGKILL)


if __name__ == "__main__":
    main()
