"""How old a cloud is by the node's clock, and what to say where that cannot be right."""

from __future__ import annotations

FUTURE_S = 0.5  # clocks that are synchronised at all differ by less


class TooOld(ValueError):
    """A cloud whose answer would come too late; the message names age, limit and way out."""


def refuse_old(age_s: float, most_s: float) -> None:
    """Let a cloud through that is young enough.

    Args:
        age_s: seconds from its stamp to now.
        most_s: the oldest that is answered; 0 for any age.

    Raises:
        TooOld: it is older.
    """
    if most_s and age_s > most_s:
        raise TooOld(
            f"its stamp is {age_s:.3g} s old, above 'max_age_s' of {most_s:g} s; publish it sooner, raise 'max_age_s' "
            "or set it to 0. A bag needs `ros2 bag play --clock` and use_sim_time, a sensor of another machine a "
            "synchronised clock"
        )


def from_future(age_s: float, simulated: bool, started: bool = True) -> str:
    """A sentence where a stamp lies in the future by more than `FUTURE_S`; else "".

    Args:
        age_s: as in `refuse_old`.
        simulated: whether the node's clock is /clock.
        started: whether that has told a time yet.
    """
    if age_s >= -FUTURE_S:
        return ""
    if simulated and not started:
        return (
            "use_sim_time is set, but nothing has come on /clock, so no cloud's age is known; play the bag with "
            "`ros2 bag play --clock`, or set use_sim_time to false"
        )
    whose = "/clock, which this node follows" if simulated else "this node's clock"
    return (
        f"a cloud is stamped {-age_s:.3g} s after {whose}, above the {FUTURE_S:g} s that synchronised clocks may "
        "differ; synchronise the sensor's clock with it (chrony or PTP), or set use_sim_time as the publisher's is"
    )
