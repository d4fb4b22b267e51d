"""Why a companion learns nothing just now, in words."""

from __future__ import annotations

from collections.abc import Callable


class Pauses:
    """Asked for, or after somebody else's choice, until `~/pause` ends it; above the user's limits, until below them.

    Attributes:
        asked: why, until it is ended; "" where nothing is. limit: which one is passed.
    """

    def __init__(self, warn: Callable[[str], object], tell: Callable[[str], object]) -> None:
        """
        Args:
            warn: told why learning pauses. tell: told that it goes on by itself.
        """
        self._warn, self._tell = warn, tell
        self.asked = self.limit = ""

    @property
    def why(self) -> str:
        """Why nothing is learned; "" while something may be."""
        return self.asked or self.limit

    def begin(self, why: str) -> None:
        """Pause by the node's own decision."""
        if not self.asked:
            self._warn(f"adaptation pauses: {why}")
        self.asked = why

    def hold(self, limit: str) -> None:
        """Pause while a limit of the user's is passed, named in words; "" while none is."""
        if limit and not self.limit:
            self._warn(f"adaptation pauses: {limit}")
        elif self.limit and not limit:
            self._tell("below its limits again" + ("" if self.asked else ": adaptation goes on"))
        self.limit = limit
