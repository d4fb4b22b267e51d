"""The perception node as a process of its own, as a robot runs it, apart from every other ROS graph."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

import clipoint3d_ros
from clipoint3d_ros.nodes.transports import large_clouds

NODE = "clipoint3d_ros.nodes.perception_node"
COMPANION = "clipoint3d_ros.nodes.adaptation_node"
HIGHEST_DOMAIN = 101  # above, the domain's ports reach into the range the system hands out itself


class ReplayError(RuntimeError):
    """The replay cannot go on; the message is a sentence, with the node's last words where there are any."""


@dataclass(frozen=True)
class Graph:
    """A corner of the network for one replay: its own domain, and within it its own namespace.

    The domain keeps other robots out; the namespace keeps two replays apart that happened on the same domain. A replay
    that is to be watched lives in a namespace and domain that are known: `seen_by_others`.
    """

    domain: int = field(default_factory=lambda: free_domain())
    namespace: str = field(default_factory=lambda: f"/replay_{uuid.uuid4().hex[:12]}")

    @classmethod
    def seen_by_others(cls, namespace: str) -> Graph:
        """In the domain of this shell, where RViz and whatever else runs in it sees the topics, in that namespace.

        Raises:
            ReplayError: no namespace of ROS, or no domain in ROS_DOMAIN_ID.
        """
        name, domain = namespace.strip("/"), os.environ.get("ROS_DOMAIN_ID") or "0"
        if not re.fullmatch(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", name, re.ASCII):
            raise ReplayError(
                f"'{namespace}' is no namespace of ROS: it takes letters, digits and underscores, none of the parts "
                "may begin with a digit, such as replay or robot1/replay"
            )
        if not domain.isascii() or not domain.isdigit() or int(domain) > 232:
            raise ReplayError(f"ROS_DOMAIN_ID is '{domain}'; it must be a number from 0 to 232, or not be set")
        return cls(int(domain), f"/{name}")

    def environment(self) -> dict[str, str]:
        """Variables that both ends need before rclpy starts.

        Fast DDS's default transports lose large clouds between processes (none of 80 arrived when measured), and
        so does `LARGE_DATA` when discovery is kept to this machine (6 of 30 clouds of 5 MB arrived, against 30 of
        30): hence the range, even over a setting of the user's. Transports somebody chose are left in peace.
        """
        return {
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
            "ROS_LOCALHOST_ONLY": "0",
            **large_clouds(),
        }


class NodeProcess:
    """Runs a node from entering to leaving.

    Args:
        graph: where it lives.
        parameters: of the node, beside autostart.
        module: the node's; perception's where none is named. name: what errors call it.
    """

    def __init__(self, graph: Graph, parameters: Mapping[str, Any], module: str = "", name: str = "perception") -> None:
        self._graph, self._module, self.name = graph, module or NODE, name
        self._parameters = {**parameters, "autostart": True}
        self._words: deque[str] = deque(maxlen=200)

    def __enter__(self) -> NodeProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="clipoint3d-replay-")
        settings = Path(self._folder.name) / "parameters.yaml"
        settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": self._parameters}}))
        space = self._graph.namespace
        root = str(Path(clipoint3d_ros.__path__[0]).parent)  # a checkout need not be installed
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, "--ros-args", "-r", f"__ns:={space}", "--params-file", str(settings)],
            env={
                **os.environ,
                **self._graph.environment(),
                "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
                "PYTHONUNBUFFERED": "1",
                "PYTHONFAULTHANDLER": "1",  # `abort` has it say where it stands
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_as_a_child if sys.platform == "linux" else None,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises ReplayError where the node has ended."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(timeout=1)  # its last words may still be on the way
            raise ReplayError(f"the {self.name} node ended with exit code {code}; {self.last_words()}")

    def failed(self) -> bool:
        """Whether the node said that it cannot configure; it lives on then, but will never answer."""
        return any("cannot configure" in line for line in list(self._words))

    def seconds(self) -> float:
        """Processor time it has taken so far, of all its threads; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def rss_mb(self) -> float:
        """Memory it holds now, MB of 2^20 bytes; NaN once it has ended, or where the system does not tell."""
        with contextlib.suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 or math.nan
        return math.nan

    def abort(self) -> str:
        """End a node that is stuck; where each of its threads stood, beside its last words."""
        self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._listener.join(timeout=1)
        return self.last_words(len(self._words))

    def last_words(self, lines: int = 8) -> str:
        """The end of the node's output, for an error's sentence."""
        said = list(self._words)[-lines:]
        return "its last output:\n  " + "\n  ".join(said) if said else "it printed nothing"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ask in (lambda: self._process.send_signal(signal.SIGINT), self._process.terminate, self._process.kill):
            if self._process.poll() is not None:
                break
            ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self._listener.join(timeout=5)
        self._folder.cleanup()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._words.append(line.rstrip())


def free_domain() -> int:
    """A DDS domain nobody on this machine is using, as far as its ports tell.

    Raises:
        ReplayError: all are taken.
    """
    domains = list(range(1, HIGHEST_DOMAIN + 1))
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        if _free_port(7410 + 250 * domain) and _free_port(7400 + 250 * domain):
            return domain
    raise ReplayError(f"all DDS domains from 1 to {HIGHEST_DOMAIN} are in use on this machine; stop some ROS programs")


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the time of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def end_with_parent() -> None:
    """In a child: should the replay that started it be killed, it must not stay behind. Linux only, else nothing."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _as_a_child() -> None:
    """A shell's background jobs ignore SIGINT and so would the node, until rclpy heeds it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
