"""What nodes that take clouds share: callbacks that take the newest and return, a worker that does the work, and what
is said where clouds are silent, late, too old or refused.

A node of these fills in what a lifecycle node does, `_work` (the data's whole way), `_let_go`, `_loaded` and
`_figures`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray

from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.nodes.ages import TooOld, from_future, refuse_old
from clipoint3d_ros.nodes.diagnostics import Statistics, as_message
from clipoint3d_ros.nodes.frames import Lookup, MissingTransform
from clipoint3d_ros.nodes.hardware import hardware
from clipoint3d_ros.nodes.health import Health, Lateness
from clipoint3d_ros.nodes.inbox import Worker
from clipoint3d_ros.nodes.lifecycle import RELIABLE, Lifecycle, sentence
from clipoint3d_ros.nodes.node_config import CloudNodeConfig
from clipoint3d_ros.nodes.stamps import Frame, Watch, nanoseconds
from clipoint3d_ros.nodes.transforms import Transforms, fitting
from clipoint3d_ros.nodes.transports import PROFILE, variable

Config = TypeVar("Config", bound=CloudNodeConfig)


class CloudNode(Lifecycle[Config]):
    """A lifecycle node whose first input is clouds.

    Attributes:
        purpose: of the node, the name of its diagnostics' status.
    """

    purpose = ""

    def __init__(self, name: str, config: type[Config], stages: Sequence[str], **options: Any) -> None:
        """
        Args:
            stages: of the work, whose latencies are told.

        Raises:
            ParameterError: an override cannot be used.
        """
        super().__init__(name, config, **options)
        self._statistics, self._health, self._lateness = Statistics(stages=stages), Health(), Lateness()
        self._worker: Worker[Frame] | None = None
        self._transforms: Transforms | None = None
        self._watch = Watch()
        self._heard_s = time.monotonic()
        self._age_s = 0.0
        self._released = threading.Lock()
        self._diagnostics = self._make_publisher(DiagnosticArray, "/diagnostics", RELIABLE)

    @property
    def at_work(self) -> bool:
        """Whether a frame is in hand just now."""
        worker = self._worker
        return worker is not None and worker.busy

    # For a node to fill in

    def _work(self, frame: Frame) -> None:
        """A frame from its first byte to its answer; raises MissingTransform or CloudError where it gets none."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Of what was loaded."""
        raise NotImplementedError

    @property
    def _loaded(self) -> bool:
        raise NotImplementedError

    @property
    def _device(self) -> Any:
        """Where the work is done."""
        return "cpu"

    def _figures(self) -> dict[str, str]:
        """What diagnostics tell besides what all these nodes tell."""
        raise NotImplementedError

    # Data

    def _put(self, frame: Frame | None) -> None:
        if frame is not None and self._worker is not None:
            self._worker.inbox.put(frame)  # newest wins

    def _attend(self, frame: Frame) -> None:
        """Work on a frame whose turn has come; where it gets no answer, that is counted and said in words."""
        try:
            self._check_age(frame.cloud.header.stamp)
            self._work(frame)
        except TooOld as error:
            self._skip("skipped_old", f"cloud skipped: {error}")
        except MissingTransform as error:
            self._skip("skipped_no_transform", f"cloud skipped: {error}")
        except CloudError as error:
            reason = getattr(error, "reason", "cloud")
            self._statistics.malformed(reason, str(error))
            self._warn(f"cloud {reason}", f"cloud on {self._points_topic} refused: {error}")

    def _check_age(self, stamp: Any) -> None:
        """Raises TooOld; a stamp of the future is counted and said, and its cloud answered."""
        now_ns, simulated = self.get_clock().now().nanoseconds, bool(self.get_parameter("use_sim_time").value)
        self._age_s = (now_ns - nanoseconds(stamp)) / 1e9
        ahead = from_future(self._age_s, simulated, started=now_ns > 0)
        if ahead:
            self._statistics.count("from_future")
            self._statistics.trouble(ahead)
            self._warn("future", ahead)
        refuse_old(self._age_s, self._config.max_age_s)

    def _skip(self, name: str, said: str) -> None:
        self._statistics.refused(name, said)
        self._warn(name, said)

    def _follow_time(self, stamp: Any) -> None:
        if self._watch.jumped_back(nanoseconds(stamp)):
            self._statistics.count("time_jumps")
            self._forget()
            if self._transforms is not None:
                self._transforms.restart()
            self.get_logger().info("time jumped back (a bag that starts again?): what was seen is forgotten")

    def _forget(self) -> None:
        """What was seen is of another run of time, or not wanted any more."""
        self._statistics.forget()
        if self._worker is not None:
            self._worker.inbox.clear()

    def _lookup(self) -> Lookup | None:
        return self._transforms.lookup if self._transforms is not None else None

    def _work_failed(self, error: Exception) -> None:
        if not rclpy.ok(context=self.context):
            return  # the program ends; publishers are gone
        self._statistics.refused("failed", sentence(error))
        self._warn(f"failure {type(error).__name__}", f"cloud not answered: {sentence(error)}")

    # Lifecycle

    def _begin_work(self) -> None:
        self._worker = Worker(self._attend, self._work_failed)
        self._watch, self._heard_s = Watch(), time.monotonic()
        self._lonely_s: float | None = self._heard_s  # since when nobody publishes, until that was said or is over

    def _close(self) -> None:
        """The frame in hand is finished first."""
        self._drop_inputs()
        worker, self._worker = self._worker, None
        if worker is not None:
            self._statistics.count("dropped", worker.inbox.dropped)
            if not worker.stop():
                self.get_logger().warning("the cloud in hand is not finished after 30 s; going on without it")
        self._statistics.forget()

    def _release(self) -> None:
        with self._released:
            self._close()
            self._transforms = fitting(self._transforms, self, asks=False, timeout_s=0.0)
            self._let_go()

    # What the node says of itself

    def _announced(self, number: int) -> int:
        """Publishers of an input."""
        return self.count_publishers(self._inputs[number].topic_name) if self._inputs else 0

    @property
    def _points_topic(self) -> str:
        return self._inputs[0].topic_name if self._inputs else "~/input/points"

    def _silence(self) -> str:
        """A sentence where clouds are announced and none arrives; else ""."""
        publishers = self._announced(0)
        if not publishers:
            self._heard_s = time.monotonic()  # silence begins when there is somebody to hear
        limit, silent_s = self._config.silence_s, time.monotonic() - self._heard_s
        if not limit or silent_s < limit or not publishers:
            return ""
        return (
            f"{publishers} publisher(s) on {self._points_topic}, but no cloud for {silent_s:.0f} s: large "
            f"clouds are lost over Fast DDS's default transports; set {variable()}=.../{PROFILE}, a file of this "
            "package's config folder, for the publisher as for this node"
        )

    def _solitude(self) -> str:
        """A sentence where nobody publishes clouds; else "". No trouble: a camera may be started later. It is logged
        once, as soon as it has lasted."""
        if self._worker is None or self._announced(0):
            self._lonely_s = None
            return ""
        said = f"nobody publishes {self._points_topic}; publish there, or remap '~/input/points' to the clouds' topic"
        limit = self._config.silence_s
        if self._lonely_s is not None and limit and time.monotonic() - self._lonely_s > limit:
            self._lonely_s = None
            self.get_logger().info(said)
        return said

    def _troubles(self) -> dict[str, str]:
        """What is wrong now, by kind; "" for what is not."""
        config = self._config
        silence, unanswered = self._silence(), self._statistics.unanswered(config.silence_s)
        late = self._lateness.judge(config.latency_limit_ms, *self._statistics.slowest_ms())
        for kind, said in (("silence", silence), ("latency", late)):
            if said:
                self._warn(kind, said)
        return {"silence": silence, "unanswered": unanswered, "latency": late}

    def _on_tick(self) -> None:
        judged = self._health.judge(
            self._troubles(), self._config.error_after_s, passing=self._statistics.take_trouble()
        )
        worker = self._worker
        values = self._statistics.values(dropped=worker.inbox.dropped if worker else 0)
        values |= {
            "state": "active" if worker else "inactive" if self._loaded else "unconfigured",
            "age_s": f"{self._age_s:.3f}",
            **self._figures(),
            **hardware(self._device),
        }
        summary = judged.why or self._solitude() or f"{values['rate_hz']} clouds/s, {values['total_ms_p50']} ms"
        name = f"{self.get_fully_qualified_name().lstrip('/')}: {self.purpose}"
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(as_message(name, str(self._device), summary, values, stamp, judged.level))
