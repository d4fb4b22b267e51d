"""How much of the machine adapting may take: a share of time, and limits of power and memory set by the user."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_REMEMBERED_S = 60.0  # of which `spent` tells
_SAVED_S = 1.0  # idle time that may be made up for later; more would let adapting run at a stretch after a rest
_WATTS = "/sys/class/hwmon"  # Jetson's INA3221 is there, in microwatts or as current and voltage


class Budget:
    """A share of one core's time: over any length of time at most share · (length + 1 s), and one piece of work more.

    What was overspent is never forgotten: a candidate that took a minute is waited for like sixty of a second. Any
    thread may call.

    share: in (0, 1]; may be changed at any time.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self._clock = clock
        self._lock = threading.Lock()
        self._began = self._settled = clock()
        self._spent = 0.0  # seconds, fading
        self._credit = 0.0  # seconds that may be spent; below 0 they are owed

    @contextlib.contextmanager
    def spending(self, cores: int = 1, work: Callable[[], float] | None = None) -> Iterator[None]:
        """What happens within is counted, whether it was allowed or not.

        Args:
            cores: that it takes.
            work: tells its seconds; the budget's own clock where there is none. On a CPU a thread's processor time: it
                is no spending to be kept waiting by other programs.
        """
        work = work or self._clock
        with self._lock:
            self._settle()
        start = work()
        try:
            yield
        finally:
            with self._lock:
                took = cores * (work() - start)
                self._credit -= took  # first: what is earned meanwhile is no idle time
                self._settle()
                self._spent += took

    @property
    def spent(self) -> float:
        """The share of time spent over the last minute or so."""
        with self._lock:
            self._settle()
            return self._spent / max(self._clock() - self._began, 1e-6)

    def allows(self) -> bool:
        """Whether more may be spent now."""
        return self.wait() <= 0

    def wait(self, most_s: float = 60.0) -> float:
        """Seconds to wait until it allows more, at most `most_s`."""
        with self._lock:
            self._settle()
            return min(max(-self._credit / self.share, 0.0), most_s)

    def over(self, watts: float, megabytes: float) -> str:
        """Which limit is passed, as a sentence that begins with "limit"; "" where none is, or 0 lifts it."""
        held = resident_mb() + reserved_mb()
        if megabytes and held > megabytes:
            return f"limit: {held:.0f} MB held, above max_memory_mb {megabytes:g}"
        drawn = board_watts() if watts else None
        if drawn is not None and drawn > watts:
            return f"limit: the board draws {drawn:.1f} W, above max_power_w {watts:g}"
        return ""

    def unheld(self, watts: float, megabytes: float) -> str:
        """Which limit cannot be held here, since nothing tells what it limits, as a sentence; "" where none is."""
        if watts and board_watts() is None:
            return f"no power sensor is found, so max_power_w of {watts:g} W cannot be held"
        if megabytes and not resident_mb():
            return f"the system does not tell what this process holds, so max_memory_mb of {megabytes:g} cannot be held"
        return ""

    def _settle(self) -> None:
        """Earn for the time since last time; what was spent more than a minute ago is told of less and less."""
        now = self._clock()
        self._credit = min(self._credit + self.share * (now - self._settled), self.share * _SAVED_S)
        self._settled = now
        age = now - self._began
        if age > _REMEMBERED_S:
            self._spent *= _REMEMBERED_S / age
            self._began = now - _REMEMBERED_S


def resident_mb() -> float:
    """What this process holds in memory, in MB; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def reserved_mb() -> float:
    """What torch has reserved on GPUs for this process, in MB, which is no part of what is resident: a card's own
    memory, or on a Jetson a share of the board's."""
    import torch

    if not torch.cuda.is_initialized():  # nor is it by asking
        return 0.0
    return sum(torch.cuda.memory_reserved(each) for each in range(torch.cuda.device_count())) / 2**20


def board_watts(folder: str = _WATTS) -> float | None:
    """What the board draws: the largest of its power rails' readings; None where there is no sensor."""
    readings = []
    for path in Path(folder).glob("*/power*_input"):
        with contextlib.suppress(OSError, ValueError):
            readings.append(int(path.read_text()) / 1e6)
    for path in Path(folder).glob("*/curr*_input"):  # milliamperes beside millivolts
        with contextlib.suppress(OSError, ValueError):
            volts = path.with_name(path.name.replace("curr", "in"))
            readings.append(int(path.read_text()) * int(volts.read_text()) / 1e6)
    return max(readings, default=None)
