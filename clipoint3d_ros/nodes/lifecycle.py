"""What this package's lifecycle nodes share: a start of their own where asked for, and letting go from any state.

A node of these fills in `_configure` (load; raise a sentence where that cannot be), `_open` and `_close` (the gate),
`_release` (everything, from any state), `_on_parameters` and `_on_tick`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from clipoint3d_ros.nodes.diagnostics import Throttle
from clipoint3d_ros.nodes.node_config import NodeConfig
from clipoint3d_ros.nodes.parameters import ParameterError, declare, misspelt
from clipoint3d_ros.nodes.qos import publisher, subscription

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
TICK_S = 1.0  # between diagnostics


Config = TypeVar("Config", bound=NodeConfig)


class Lifecycle(LifecycleNode, Generic[Config]):
    """A lifecycle node of one configuration."""

    def __init__(self, name: str, config: type[Config], **options: Any) -> None:
        """Raises ParameterError where an override cannot be used."""
        super().__init__(name, **options)
        self._config: Config = declare(self, config)
        for each in misspelt(config, self._parameter_overrides):
            self.get_logger().warning(each)
        self._throttle = Throttle()
        self._inputs: list[Any] = []
        self.add_on_set_parameters_callback(self._on_set)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a paused bag must not stop the diagnostics
        self._tick = self.create_timer(TICK_S, self._on_tick, clock=steady)
        if self._config.autostart:
            self._starter = self.create_timer(0.0, self._autostart, clock=steady)

    def destroy_node(self) -> None:
        """Leave the graph. rclpy's own leaves the state machine, which holds the DDS participant and with it the shared
        memory that a process would leave behind in /dev/shm, 16 MB each time a node ends."""
        self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; FAILURE with a sentence where that cannot be."""
        try:
            self._configure()
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(f"cannot configure: {sentence(error)}")
            self._release()
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the gate; FAILURE with a sentence where a topic's quality of service cannot be used."""
        answer = super().on_activate(state)
        if answer == SUCCESS:
            try:
                self._open()
            except ParameterError as error:
                self.get_logger().error(f"cannot activate: {error}")
                self._close()
                super().on_deactivate(state)
                return FAILURE
        return answer

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the gate."""
        self._close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of what was loaded."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return SUCCESS

    def close(self) -> None:
        """Let go of everything, whatever the state; for the end of the program."""
        self._release()

    def _configure(self) -> None:
        raise NotImplementedError

    def _open(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError

    def _on_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        raise NotImplementedError

    def _on_tick(self) -> None:
        raise NotImplementedError

    def _on_set(self, parameters: Sequence[Any]) -> SetParametersResult:
        """ROS's own parameters, such as `qos_overrides`, which come before a node is whole, are no change of it."""
        if not own(self._config, parameters):
            return SetParametersResult(successful=True)
        return self._on_parameters(parameters)

    def _make_publisher(self, kind: type[Any], topic: str, profile: QoSProfile, managed: bool = False) -> Any:
        """Its quality of service is the parameter file's to change. `managed`: silent while the node is inactive."""
        return publisher(self.create_lifecycle_publisher if managed else self.create_publisher, kind, topic, profile)

    def _listen(
        self,
        kind: type[Any],
        topic: str,
        callback: Callable[[Any], object],
        profile: QoSProfile,
        newest: bool = False,
    ) -> None:
        """Subscribe an input, until `_drop_inputs`; likewise. `newest`: only the newest message is ever used."""
        self._inputs.append(subscription(self.create_subscription, kind, topic, callback, profile, newest))

    def _drop_inputs(self) -> None:
        for each in self._inputs:
            self.destroy_subscription(each)
        self._inputs = []

    def _autostart(self) -> None:
        self._starter.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _warn(self, reason: str, said: str) -> None:
        """A warning, once a period for each reason."""
        held = self._throttle.passes(reason, self._config.warning_period_s)
        if held is not None:
            self.get_logger().warning(said + (f" ({held} more like it before)" if held else ""))


def own(config: Any, parameters: Sequence[Any]) -> dict[str, Any]:
    """{name: value} of those ROS parameters that are fields of a configuration; ROS sets others of its own."""
    return {each.name: each.value for each in parameters if hasattr(config, each.name)}


def sentence(error: Exception) -> str:
    """Our own errors are sentences already; others are named."""
    ours = isinstance(error, ValueError | OSError | ImportError)
    return str(error) if ours and str(error) else f"{type(error).__name__}: {error}"
