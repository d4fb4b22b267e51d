"""How much of the machine adapting may take: a share of time, and limits of power and memory set by the user."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_REMEMBERED_S = 60.0  # over which the share is held
_WATTS = "/sys/class/hwmon"  # Jetson's INA3221 is there, in microwatts or as current and voltage


class Budget:
    """A share of one core's time, held on average over a minute.

    share: in (0, 1]; may be changed at any time.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self._clock = clock
        self._began = clock()
        self._spent = 0.0

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """What happens within is counted, whether it was allowed or not."""
        self._fade()
        start = self._clock()
        try:
            yield
        finally:
            self._spent += self._clock() - start

    @property
    def spent(self) -> float:
        """The share of time spent so far."""
        self._fade()
        return self._spent / max(self._clock() - self._began, 1e-6)

    def allows(self) -> bool:
        """Whether more may be spent now."""
        self._fade()
        return self._spent <= self.share * max(self._clock() - self._began, 1.0)

    def wait(self, most_s: float = 60.0) -> float:
        """Seconds to wait until it allows more, at most `most_s`."""
        self._fade()
        return min(max(self._spent / self.share - (self._clock() - self._began), 0.0), most_s)

    def over(self, watts: float, megabytes: float) -> str:
        """Which limit is passed, as a sentence that begins with "limit"; "" where none is, or 0 lifts it."""
        held = resident_mb()
        if megabytes and held > megabytes:
            return f"limit: {held:.0f} MB held, above max_memory_mb {megabytes:g}"
        drawn = board_watts() if watts else None
        if drawn is not None and drawn > watts:
            return f"limit: the board draws {drawn:.1f} W, above max_power_w {watts:g}"
        return ""

    def _fade(self) -> None:
        """What was more than a minute ago counts less and less."""
        age = self._clock() - self._began
        if age > _REMEMBERED_S:
            self._spent *= _REMEMBERED_S / age
            self._began = self._clock() - _REMEMBERED_S


def resident_mb() -> float:
    """What this process holds in memory, in MB; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


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
