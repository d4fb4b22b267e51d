"""Why a candidate did not go live is told for as long as nothing newer was rejected."""

from __future__ import annotations

from clipoint3d_ros.adaptation.guard import Verdict
from clipoint3d_ros.nodes.judgements import Judgements


def test_before_any_candidate_there_is_nothing_to_tell():
    assert Judgements().rows() == {"accepted": "0", "rejected": "0", "verdict": "none yet", "rejection": "none yet"}


def test_an_acceptance_does_not_hide_why_the_one_before_was_rejected():
    judgements = Judgements()
    judgements.add(Verdict(False, ("it collapses", "it drifts"), {"variety": (0.25, 0.5)}))
    judgements.add(Verdict(True, (), {"variety": (0.75, 0.5)}))
    assert judgements.rows() == {
        "accepted": "1",
        "rejected": "1",
        "verdict": "accepted [variety 0.75 (limit 0.5)]",
        "rejection": "it collapses; it drifts",
        "rejection.variety": "0.25 (limit 0.5)",
    }
