"""Bags in a loop through the real nodes, for hours: does memory grow, does latency, is anything missed?

Rounds follow each other with a clock that goes on, as a robot's does, so that memories fill; now and then it jumps
back to the bag's own time, as with `ros2 bag play --loop`, which the nodes must survive.
"""

from __future__ import annotations

import re
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from clipoint3d_ros.evaluation.answers import length
from clipoint3d_ros.evaluation.bags import SECOND, BagError, Cloud, LabelledBag
from clipoint3d_ros.evaluation.long_run import LIMIT_MB_H, LongRun, Sample
from clipoint3d_ros.evaluation.node_process import NodeProcess, ReplayError
from clipoint3d_ros.evaluation.replay import ReplayConfig, Sensor, at_rate, in_step, robot

_HOUR = 3600.0
_SAMPLES = 720  # wanted of a run
_KINDS = 100  # of warnings kept apart
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class SoakConfig:
    """How long, and how the clock goes.

    hours: of playing. jump_back: every so many rounds the clock jumps back; 1 does at each, 0 never. limit_mb_h: slope
    of memory that is still called flat.
    """

    hours: float
    jump_back: int = 10
    limit_mb_h: float = LIMIT_MB_H

    def __post_init__(self) -> None:
        if not 0 < self.hours <= 10_000:
            raise ValueError(f"a loop must last above 0 and at most 10000 hours, but is asked for {self.hours:g}")
        if self.jump_back < 0 or not self.limit_mb_h > 0:
            raise ValueError(
                f"the rounds between jumps of the clock, {self.jump_back}, must not be below 0, and the limit of "
                f"growth, {self.limit_mb_h:g} MB/h, must be above it"
            )

    @property
    def every_s(self) -> float:
        """Seconds from sample to sample."""
        return float(np.clip(self.hours * _HOUR / _SAMPLES, 0.25, 30.0))


def soak(
    bags: Sequence[LabelledBag],
    parameters: Mapping[str, Any],
    config: SoakConfig,
    pace: ReplayConfig | None = None,
    told: Callable[[LongRun], object] = lambda run: None,
) -> LongRun:
    """Start the nodes, play to them until the time is over, the user interrupts, or a node ends.

    Args:
        bags: one round plays them one after another.
        parameters: of the perception node.
        config, pace: how long and how.
        told: called after each sample with all that is known so far.

    Raises:
        ReplayError: the nodes do not start. What happens later is told by the result.
        BagError: a bag has no clouds, or two of one stamp.
    """
    pace = pace or ReplayConfig()
    stamps = {bag: _stamps(bag) for bag in bags}
    with robot(parameters, pace) as (graph, sensor, node, companion):
        listener = _Listener(graph.namespace)
        sensor.listen(DiagnosticArray, "/diagnostics", listener.take_in)
        nodes = [node] if companion is None else [node, companion]
        record = _Record(config, nodes, sensor, listener, told)
        try:
            for bag, first in _rounds(stamps, config.jump_back, record):
                _play(bag, first, stamps[bag], sensor, node, pace, record)
                if record.is_over():
                    break
        except KeyboardInterrupt:
            record.stopped = True
        except ReplayError as error:
            record.died = str(error)
        record.sample()
        return record.run()


def _rounds(
    stamps: Mapping[LabelledBag, Sequence[int]], jump_back: int, record: _Record
) -> Iterator[tuple[LabelledBag, int]]:
    """Each bag with the stamp (ns) its first cloud is to bear, round after round without end."""
    start = min(own[0] for own in stamps.values())
    clock = start
    for number in count():
        jumps = bool(number and jump_back and number % jump_back == 0)
        clock = start if jumps else clock
        record.begin_round(jumps)
        for bag, own in stamps.items():
            yield bag, clock
            clock += max(length(own), 1)


def _play(
    bag: LabelledBag,
    first: int,
    stamps: Sequence[int],
    sensor: Sensor,
    node: NodeProcess,
    pace: ReplayConfig,
    record: _Record,
) -> None:
    """One bag once, its stamps moved, or as much of it as there is time for."""

    def clouds() -> Iterator[Cloud]:
        for cloud in bag.clouds():
            if record.is_over():
                return
            moved = cloud.at(cloud.stamp - stamps[0] + first)
            record.will_send(moved.stamp)
            yield moved

    start = time.monotonic()
    (in_step if pace.wait else at_rate)(clouds(), sensor, node, pace, record.sent)
    record.finish_bag()
    if not pace.wait and not record.is_over():  # the pause before a looping bag begins again
        time.sleep(max(0.0, start + length(stamps) / SECOND / pace.rate - time.monotonic()))


def _stamps(bag: LabelledBag) -> list[int]:
    """Of a bag's clouds, in recorded order."""
    stamps = [cloud.stamp for cloud in bag.clouds()]
    if not stamps:
        raise BagError(f"{bag.path} has no message on {bag.points_topic}")
    if len(set(stamps)) < len(stamps):
        raise BagError(f"{bag.path}: two clouds on {bag.points_topic} carry the same stamp; every cloud needs its own")
    return stamps


class _Listener:
    """What the nodes say of themselves: warnings with how often they were said, and the newest counters.

    Args:
        namespace: of the nodes; others in the same domain are not listened to.
    """

    def __init__(self, namespace: str) -> None:
        self._space = namespace.strip("/")
        self._lock = threading.Lock()
        self._warnings: Counter[str] = Counter()
        self._said: dict[str, str] = {}  # kind of sentence → the first of it
        self._values: dict[str, dict[str, str]] = {}

    def take_in(self, message: DiagnosticArray) -> None:
        for status in message.status:
            space, _, node = status.name.partition(":")[0].strip("/").rpartition("/")
            if space != self._space:
                continue
            with self._lock:
                self._values[node] = {pair.key: pair.value for pair in status.values}
                if status.level != DiagnosticStatus.OK:
                    self._warn(f"{node}: {status.message}")

    def _warn(self, sentence: str) -> None:
        kind = _NUMBER.sub("#", sentence)
        if kind in self._said or len(self._said) < _KINDS:
            self._warnings[self._said.setdefault(kind, sentence)] += 1

    def warnings(self) -> dict[str, int]:
        with self._lock:
            return dict(self._warnings)

    def counters(self) -> dict[str, dict[str, str]]:
        with self._lock:
            return {node: dict(values) for node, values in self._values.items()}

    def gpu_mb(self) -> dict[str, float]:
        """Of the nodes that have a GPU; torch keeps it from one report to the next."""
        with self._lock:
            return {node: float(v["gpu_reserved_mb"]) for node, v in self._values.items() if "gpu_reserved_mb" in v}


class _Record:
    """What the run has shown so far, over all rounds; one thread plays and records."""

    def __init__(
        self,
        config: SoakConfig,
        nodes: Sequence[NodeProcess],
        sensor: Sensor,
        listener: _Listener,
        told: Callable[[LongRun], object],
    ) -> None:
        self._config, self._nodes, self._sensor, self._listener, self._told = config, nodes, sensor, listener, told
        self._start = time.monotonic()
        self._due = self._start
        self._samples: list[Sample] = []
        self._latency = array("d")  # hours, ms, hours, ms, …
        self._order: list[int] = []  # stamps of the bag that plays, as sent
        self._taken: set[int] = set()  # those of them that are answered
        self._sent = self._missed = self._loops = self._jumps = self._version = 0
        self.stopped, self.died = False, ""

    def begin_round(self, jumps: bool) -> None:
        self._loops += 1
        self._jumps += jumps

    def will_send(self, stamp: int) -> None:
        self._order.append(stamp)

    def sent(self, clouds: int) -> None:
        """So many more are on their way; samples when it is time.

        Raises:
            ReplayError: one of the nodes has ended.
        """
        self._sent += clouds
        for node in self._nodes:
            node.check()
        if time.monotonic() >= self._due:
            self.sample()
            self._due = max(self._due + self._config.every_s, time.monotonic())
            self._told(self.run())

    def finish_bag(self) -> None:
        """All answers to it are here that will come."""
        self._take_in()
        self._missed += len(self._order) - len(self._taken)
        self._order, self._taken = [], set()

    def is_over(self) -> bool:
        """Whether the time that was asked for is over."""
        return time.monotonic() - self._start >= self._config.hours * _HOUR

    def sample(self) -> None:
        fresh = self._take_in()
        p50, p99 = np.percentile(fresh, (50, 99)) if fresh else (np.nan, np.nan)
        answered, missed = len(self._latency) // 2, self._missed + self._passed_over()
        rss = {node.name: node.rss_mb() for node in self._nodes}
        gpu = self._listener.gpu_mb()
        self._samples.append(
            Sample(self._hours(), self._sent, answered, missed, float(p50), float(p99), self._version, rss, gpu)
        )

    def run(self) -> LongRun:
        return LongRun(
            self._config.hours,
            tuple(self._samples),
            np.array(self._latency).reshape(-1, 2),
            self._loops,
            self._jumps,
            self.stopped,
            self.died,
            self._listener.warnings(),
            self._listener.counters(),
            self._config.limit_mb_h,
        )

    def _hours(self) -> float:
        return (time.monotonic() - self._start) / _HOUR

    def _take_in(self) -> list[float]:
        """Latencies (ms) of the answers that came since the last call."""
        fresh, now = [], self._hours()
        answers = self._sensor.answers()
        for stamp in self._order:
            if stamp in answers and stamp not in self._taken:
                self._taken.add(stamp)
                self._version = answers[stamp].version
                fresh.append(1000 * answers[stamp].latency)
                self._latency.extend((now, fresh[-1]))
        return fresh

    def _passed_over(self) -> int:
        """Clouds of the bag that plays without an answer, though a later one has it: answers come in order."""
        last = max((place for place, stamp in enumerate(self._order) if stamp in self._taken), default=-1)
        return last + 1 - len(self._taken)
