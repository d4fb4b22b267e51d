"""Why a companion learns nothing just now, in words."""

from __future__ import annotations

from collections.abc import Callable


class Pauses:
    """Until `~/pause` ends it, where the user asked or after somebody else's choice; above a limit, until below it.

    Attributes:
        asked: by the user, in words. left: what somebody else chose for perception. limit: of the user's, that is
            passed. Each "" where it is no reason.
    """

    def __init__(self, warn: Callable[[str], object], tell: Callable[[str], object]) -> None:
        """
        Args:
            warn: told why learning pauses. tell: told that it goes on by itself.
        """
        self._warn, self._tell = warn, tell
        self.asked = self.left = self.limit = ""

    @property
    def why(self) -> str:
        """Why nothing is learned; "" while something may be."""
        return self.asked or self.left or self.limit

    def leave(self, why: str) -> None:
        """Perception answers by somebody else's choice."""
        if not self.left:
            self._warn(f"adaptation pauses: {why}")
        self.left = why

    def end(self) -> None:
        """Neither what was asked nor what was chosen holds any longer."""
        self.asked = self.left = ""

    @property
    def lasting(self) -> tuple[str, str]:
        """What holds over a restart: what was asked, what was chosen."""
        return self.asked, self.left

    def hold(self, limit: str) -> None:
        """Pause while a limit of the user's is passed, named in words; "" while none is."""
        if limit and not self.limit:
            self._warn(f"adaptation pauses: {limit}")
        elif self.limit and not limit:
            self._tell("below its limits again" + ("" if self.asked or self.left else ": adaptation goes on"))
        self.limit = limit
