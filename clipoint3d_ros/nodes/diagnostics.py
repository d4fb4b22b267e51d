"""What the nodes tell of themselves: rate, latency per stage, drops, refused clouds, what is learned from.

The core is numbers and text; `as_message` makes the DiagnosticArray of it. Latencies are of the last frames only,
so that a slow start does not colour an hour.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipoint3d_ros.nodes.health import Level

if TYPE_CHECKING:
    from clipoint3d_ros.adaptation.companion import Companion
    from clipoint3d_ros.adaptation.guard import Verdict

STAGES = ("decode", "project", "encode", "frozen", "decide", "publish", "total")
COUNTS = (  # told even where nothing has been counted
    "received", "processed", "dropped", "skipped_no_transform", "skipped_old", "from_future", "failed", "time_jumps",
)  # fmt: skip
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
        self._recent: list[float] = []  # of `total`, since it was last asked for
        self._began_s: float | None = None  # `total` of the frame in hand
        self._heard_s = self._unanswered_s = -np.inf  # the last cloud; the first one since an answer
        self._waiting = False
        self._trouble = self._reason = ""

    def count(self, name: str, more: int = 1) -> None:
        """One more of skipped_no_transform, failed, time_jumps, …"""
        with self._lock:
            self._counts[name] += more

    def received(self) -> None:
        """One more cloud that wants an answer."""
        with self._lock:
            self._counts["received"] += 1
            self._heard_s = self._clock()
            if not self._waiting:
                self._waiting, self._unanswered_s = True, self._heard_s

    def forget(self) -> None:
        """No cloud that has come waits for an answer any more."""
        with self._lock:
            self._waiting, self._reason = False, ""

    def refused(self, name: str, sentence: str) -> None:
        """One more cloud that is not answered, counted under that name, and why."""
        with self._lock:
            self._counts[name] += 1
            self._trouble = self._reason = sentence

    def malformed(self, reason: str, sentence: str) -> None:
        """One more refused cloud; the sentence shows until the next report."""
        with self._lock:
            self._malformed[reason] += 1
            self._trouble = self._reason = sentence

    def trouble(self, sentence: str) -> None:
        """A sentence for the next report, which then warns."""
        with self._lock:
            self._trouble = sentence

    @contextlib.contextmanager
    def timed(self, stage: str, settle: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Measure one stage, `settle` (waiting for the device) included; nothing is recorded where it raises."""
        start, whole = self._clock(), stage == "total"
        if whole:
            self._began_s = start
        try:
            yield
            settle()
        finally:
            if whole:
                self._began_s = None
        took = self._clock() - start
        with self._lock:
            self._latency[stage].append(took)
            if whole:
                self._finished.append(self._clock())
                self._recent.append(took)
                self._counts["processed"] += 1
                self._waiting, self._reason = False, ""

    def take_trouble(self) -> str:
        """The newest sentence since the last report, or ""."""
        with self._lock:
            sentence, self._trouble = self._trouble, ""
            return sentence

    def unanswered(self, after_s: float) -> str:
        """A sentence where clouds come and none of them has been answered, for a known reason or for so long.

        Silence is another trouble: "" where no cloud has come for a while.
        """
        with self._lock:
            now, waiting, reason = self._clock(), self._waiting, self._reason
            heard_s, first_s = self._heard_s, self._unanswered_s
        if not waiting or now - heard_s > max(after_s, RATE_WINDOW_S):
            return ""
        if reason:
            return f"no cloud is answered: {reason}"
        long = after_s and now - first_s >= after_s
        return f"clouds arrive, but none has been answered for {now - first_s:.0f} s" if long else ""

    def slowest_ms(self) -> tuple[float | None, float]:
        """Of the clouds finished since this was last asked, None where none was; and the time of the cloud in hand."""
        with self._lock:
            recent, self._recent = self._recent, []
            began_s = self._began_s
        in_hand = 0.0 if began_s is None else self._clock() - began_s
        return (max(recent) * 1000 if recent else None), in_hand * 1000

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
        for name in COUNTS:
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


def learning(companion: Companion, names: Sequence[str]) -> dict[str, str]:
    """What a companion remembers of each class, what it turned away and what it waits for."""
    counts = companion.learned.counts(len(names))
    return {
        "remembered": f"{len(companion.learned)} of {companion.config.memory.objects}",
        "held_out": str(len(companion.held)),
        "waits_for": companion.waits_for or "nothing",
        "anchored": "yes" if companion.reference.helpful else "words alone answer",
        "probe": f"missing: {missing}" if (missing := companion.reference.missing) else "there",
        **{f"remembered.{name}": str(int(count)) for name, count in zip(names, counts, strict=True)},
        **{f"refused.{reason}": str(count) for reason, count in sorted(companion.refused.items())},
    }


def figures(verdict: Verdict) -> dict[str, str]:
    """A verdict's numbers beside their limits."""
    return {name: f"{value:.4g} (limit {limit:.4g})" for name, (value, limit) in verdict.numbers.items()}


def as_message(name: str, hardware: str, summary: str, values: Mapping[str, str], stamp: Any, level: Level) -> Any:
    """A diagnostic_msgs/DiagnosticArray of one status."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    status = DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=summary,
        hardware_id=hardware,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
