"""When a trouble becomes an error: it is warned of at once, and is an error once it has lasted.

Numbers and words only; `as_message` of `nodes.diagnostics` takes the level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """As diagnostic_msgs/DiagnosticStatus numbers them."""

    OK, WARN, ERROR = 0, 1, 2


class Judged(NamedTuple):
    """A level, and the sentence that says why; "" where all is well."""

    level: Level
    why: str


class Health:
    """Remembers since when each trouble of one node has been there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def judge(self, troubles: Mapping[str, str], error_after_s: float, passing: str = "") -> Judged:
        """
        Args:
            troubles: {kind: sentence} as they are now; "" where there is none of that kind.
            error_after_s: seconds after which one that is still there is an error; 0 for never.
            passing: a sentence about something that is over, or that nobody can mend, which warns.
        """
        now = self._clock()
        there = {kind: said for kind, said in troubles.items() if said}
        self._since = {kind: self._since.get(kind, now) for kind in there}
        if not there:
            return Judged(Level.WARN, passing) if passing else Judged(Level.OK, "")
        oldest = min(there, key=lambda kind: self._since[kind])
        lasted = now - self._since[oldest]
        if error_after_s and lasted >= error_after_s:
            return Judged(Level.ERROR, f"{there[oldest]} (since {lasted:.0f} s)")
        return Judged(Level.WARN, next(iter(there.values())))


class Troubles:
    """What is wrong with one node, by kind: each from when it is said until the same thing goes well.

    Any thread may call.

    Attributes:
        failures: how many things came to nothing so far.
    """

    def __init__(self, warn: Callable[[str, str], object]) -> None:
        """
        Args:
            warn: told kind and sentence of whatever is said.
        """
        self._warn = warn
        self._there: dict[str, str] = {}
        self.failures = 0

    @property
    def there(self) -> dict[str, str]:
        """{kind: sentence} of those that last, the oldest first."""
        return dict(self._there)

    def say(self, kind: str, said: str) -> None:
        """What is wrong; "" where the same thing has gone well."""
        if said:
            self._there[kind] = said
            self._warn(kind, said)
        else:
            self._there.pop(kind, None)

    def fail(self, kind: str, said: str) -> None:
        """Something came to nothing, and why."""
        self.failures += 1
        self.say(kind, said)


class Lateness:
    """Whether clouds are answered within a limit; the last word holds while none is finished."""

    def __init__(self) -> None:
        self._said = ""

    def judge(self, limit_ms: float, finished_ms: float | None, in_hand_ms: float) -> str:
        """A sentence where a cloud took, or takes, longer than the limit; else "".

        Args:
            limit_ms: 0 for none.
            finished_ms: of the slowest cloud finished since the last time this was asked; None where none was.
            in_hand_ms: how long the cloud in hand has been worked on; 0 where none is.
        """
        slowest = max(finished_ms or 0.0, in_hand_ms)
        if limit_ms and slowest > limit_ms:
            self._said = (
                f"a cloud took {slowest:.0f} ms, above 'latency_limit_ms' of {limit_ms:g} ms; send fewer objects or "
                "points, choose a quicker model or device (docs/serving.md), or raise the limit"
            )
        elif finished_ms is not None or not limit_ms:
            self._said = ""
        return self._said
