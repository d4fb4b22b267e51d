"""What the nodes tell of themselves: rate, latency per stage, drops, refused clouds, memory, what is learned from.

The core is numbers and text; `as_message` makes the DiagnosticArray of it. Latencies are of the last frames only,
so that a slow start does not colour an hour.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clipoint3d_ros.adaptation.companion import Companion
    from clipoint3d_ros.adaptation.guard import Verdict

STAGES = ("decode", "project", "encode", "frozen", "decide", "publish", "total")
KEPT = 200  # latencies per stage
RATE_WINDOW_S = 10.0


class Statistics:
    """Counters and latencies of one node; any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, stages: Sequence[str] = STAGES) -> None:
        self._lock = threading.Lock()
        self._clock, self._stages = clock, tuple(stages)
        self._counts: Counter[str] = Counter()
        self._malformed: Counter[str] = Counter()
        self._latency: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._finished: deque[float] = deque(maxlen=1000)  # 10 s of a fast sensor
        self._trouble = ""

    def count(self, name: str, more: int = 1) -> None:
        """One more of received, skipped_no_transform, failed, time_jumps, …"""
        with self._lock:
            self._counts[name] += more

    def malformed(self, reason: str, sentence: str) -> None:
        """One more refused cloud; the sentence shows until the next report."""
        with self._lock:
            self._malformed[reason] += 1
            self._trouble = sentence

    def trouble(self, sentence: str) -> None:
        """A sentence for the next report, which then warns."""
        with self._lock:
            self._trouble = sentence

    @contextlib.contextmanager
    def timed(self, stage: str, settle: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Measure one stage, `settle` (waiting for the device) included; nothing is recorded where it raises."""
        start = self._clock()
        yield
        settle()
        took = self._clock() - start
        with self._lock:
            self._latency[stage].append(took)
            if stage == "total":
                self._finished.append(self._clock())
                self._counts["processed"] += 1

    def take_trouble(self) -> str:
        """The newest sentence since the last report, or ""."""
        with self._lock:
            sentence, self._trouble = self._trouble, ""
            return sentence

    def values(self, **more: int) -> dict[str, str]:
        """Every figure as diagnostics show it: counts, `rate_hz`, `<stage>_ms_p50|p95|max`, `malformed.<reason>`.

        Args:
            more: added to the counts of those names.
        """
        with self._lock:
            counts, malformed = self._counts + Counter(more), dict(self._malformed)
            latency = {stage: np.array(self._latency[stage]) * 1000 for stage in self._stages}
            finished = list(self._finished)
        rows = {"rate_hz": f"{rate(finished, self._clock()):.2f}"}
        for name in ("received", "processed", "dropped", "skipped_no_transform", "failed", "time_jumps"):
            rows[name] = str(counts.pop(name, 0))
        rows |= {name: str(number) for name, number in sorted(counts.items())}
        rows["malformed"] = str(sum(malformed.values()))
        rows |= {f"malformed.{reason}": str(number) for reason, number in sorted(malformed.items())}
        for stage, values in latency.items():
            p50, p95, top = (*np.percentile(values, (50, 95)), values.max()) if len(values) else (0.0, 0.0, 0.0)
            rows |= {f"{stage}_ms_p50": f"{p50:.2f}", f"{stage}_ms_p95": f"{p95:.2f}", f"{stage}_ms_max": f"{top:.2f}"}
        return rows


def rate(finished: list[float], now: float) -> float:
    """Frames per second over the last `RATE_WINDOW_S` seconds; it sinks while nothing comes."""
    recent = [moment for moment in finished if now - moment <= RATE_WINDOW_S]
    return (len(recent) - 1) / max(now - recent[0], 1e-9) if len(recent) > 1 else 0.0


class Throttle:
    """Lets a warning of one reason through once a period, and says how many it held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def passes(self, reason: str, period_s: float) -> int | None:
        """None to keep quiet; else the number of equal warnings held back since the last one that passed."""
        now = self._clock()
        with self._lock:
            if now - self._last.get(reason, -np.inf) < period_s:
                self._held[reason] += 1
                return None
            self._last[reason] = now
            return self._held.pop(reason, 0)


def memory(device: Any = "cpu") -> dict[str, str]:
    """`rss_mb` of this process and `gpu_mb` that torch holds on the device (absent on a CPU)."""
    rows = {}
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        rows["rss_mb"] = f"{int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20:.1f}"
    if str(device).startswith("cuda"):
        import torch

        rows["gpu_mb"] = f"{torch.cuda.memory_allocated(device) / 2**20:.1f}"
        rows["gpu_reserved_mb"] = f"{torch.cuda.memory_reserved(device) / 2**20:.1f}"
    return rows


def learning(companion: Companion, names: Sequence[str]) -> dict[str, str]:
    """What a companion remembers of each class, what it turned away and what it waits for."""
    counts = companion.learned.counts(len(names))
    return {
        "remembered": f"{len(companion.learned)} of {companion.config.memory.objects}",
        "held_out": str(len(companion.held)),
        "waits_for": companion.waits_for or "nothing",
        "anchored": "yes" if companion.reference.helpful else "words alone answer",
        **{f"remembered.{name}": str(int(count)) for name, count in zip(names, counts, strict=True)},
        **{f"refused.{reason}": str(count) for reason, count in sorted(companion.refused.items())},
    }


def figures(verdict: Verdict) -> dict[str, str]:
    """A verdict's numbers beside their limits."""
    return {name: f"{value:.4g} (limit {limit:.4g})" for name, (value, limit) in verdict.numbers.items()}


def as_message(name: str, hardware: str, summary: str, values: Mapping[str, str], stamp: Any, warn: bool) -> Any:
    """A diagnostic_msgs/DiagnosticArray of one status, level WARN or OK."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    status = DiagnosticStatus(
        level=DiagnosticStatus.WARN if warn else DiagnosticStatus.OK,
        name=name,
        message=summary,
        hardware_id=hardware,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
