"""The guard's words so far: how many candidates went live, how many did not, and why the last one did not."""

from __future__ import annotations

from clipoint3d_ros.adaptation.guard import Verdict
from clipoint3d_ros.nodes.diagnostics import figures


class Judgements:
    """Of one companion."""

    def __init__(self) -> None:
        self._accepted = self._rejected = 0
        self._last: Verdict | None = None
        self._rejection: Verdict | None = None

    def add(self, verdict: Verdict) -> None:
        """One more candidate has been judged."""
        self._last = verdict
        if verdict.accepted:
            self._accepted += 1
        else:
            self._rejected += 1
            self._rejection = verdict

    def rows(self) -> dict[str, str]:
        """For diagnostics: counts, the last verdict, the last rejection's reasons, its numbers beside their limits."""
        rejection = self._rejection
        return {
            "accepted": str(self._accepted),
            "rejected": str(self._rejected),
            "verdict": "none yet" if self._last is None else str(self._last),
            "rejection": "none yet" if rejection is None else "; ".join(rejection.reasons),
            **({} if rejection is None else {f"rejection.{k}": v for k, v in figures(rejection).items()}),
        }
