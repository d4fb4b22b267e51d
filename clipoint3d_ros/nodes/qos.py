"""Quality of service that the parameter file may change: reliability, history and depth of every topic.

ROS's own way: parameters `qos_overrides.<topic>.<publisher | subscription>.<policy>`, read when the end is created and
read-only after. What would not work is refused in words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from clipoint3d_ros.nodes.parameters import ParameterError

POLICIES = (QoSPolicyKind.RELIABILITY, QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
MOST_DEPTH = 1000  # messages


def publisher(make: Callable[..., Any], kind: type[Any], topic: str, profile: QoSProfile) -> Any:
    """A publisher of a profile that parameters may change.

    Args:
        make: the node's `create_publisher` or `create_lifecycle_publisher`.

    Raises:
        ParameterError: an override cannot be used.
    """
    return _created(partial(make, kind, topic), topic, profile, newest=False)


def subscription(
    make: Callable[..., Any],
    kind: type[Any],
    topic: str,
    callback: Callable[[Any], object],
    profile: QoSProfile,
    newest: bool = False,
) -> Any:
    """A subscription of a profile that parameters may change.

    Args:
        make: the node's `create_subscription`.
        newest: whether only the newest message is ever used, so that none may pile up.

    Raises:
        ParameterError: an override cannot be used.
    """
    return _created(partial(make, kind, topic, callback), topic, profile, newest)


def refusal(profile: QoSProfile, newest: bool) -> str:
    """Why an end of that profile would not work, as a sentence without a subject; "" where it would."""
    reliability, history, depth = profile.reliability, profile.history, profile.depth
    if reliability not in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT):
        return f"reliability is {reliability.name.lower()}; it must be reliable or best_effort"
    if history not in (HistoryPolicy.KEEP_LAST, HistoryPolicy.KEEP_ALL):
        return f"history is {history.name.lower()}; it must be keep_last or keep_all"
    if history == HistoryPolicy.KEEP_LAST and not 1 <= depth <= MOST_DEPTH:
        return f"depth is {depth}; it must be 1 to {MOST_DEPTH} messages"
    if newest and history == HistoryPolicy.KEEP_ALL:
        return "history is keep_all, but only the newest is ever used and the others fill memory; it must be keep_last"
    if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL and reliability != ReliabilityPolicy.RELIABLE:
        return "reliability is best_effort, so later subscribers would not get the last message; it must be reliable"
    return ""


def _created(make: Callable[..., Any], topic: str, profile: QoSProfile, newest: bool) -> Any:
    options = QoSOverridingOptions(POLICIES, callback=partial(_verdict, newest=newest))
    try:
        return make(_copied(profile), qos_overriding_options=options)
    except InvalidQosOverridesError as error:
        raise ParameterError(f"'qos_overrides' of {topic}: {str(error).partition('not valid: ')[2]}") from None
    except ParameterException as error:
        raise ParameterError(f"'qos_overrides' of {topic}: {error}") from None
    except RuntimeError as error:  # a word that is no policy
        raise ParameterError(
            f"'qos_overrides' of {topic}: {error}; reliability must be reliable or best_effort, history keep_last or "
            "keep_all"
        ) from None


def _verdict(profile: QoSProfile, newest: bool) -> SetParametersResult:
    reason = refusal(profile, newest)
    return SetParametersResult(successful=not reason, reason=reason)


def _copied(profile: QoSProfile) -> QoSProfile:
    """One of its own: rclpy writes overrides into the profile it is given, and ours are shared."""
    return QoSProfile(
        history=profile.history, depth=profile.depth, reliability=profile.reliability, durability=profile.durability
    )
