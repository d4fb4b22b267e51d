"""The adaptation node: perception's companion, which learns from what the sensor really sees.

A thin shell. Perception publishes detections, features and evidence of one stamp; together they make sightings, which
the companion (`adaptation.companion`) remembers, learns from and judges. What it accepts goes to a RAM-backed folder as
a bundle and is announced by setting perception's `bundle`. Perception never waits for any of this, and goes on as it is
when this node ends, however it ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterEvent, SetParametersResult
from rclpy.qos import qos_profile_parameter_events
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection3DArray, VisionInfo

from clipoint3d_ros.adaptation.budget import Budget
from clipoint3d_ros.adaptation.companion import Candidate, Companion
from clipoint3d_ros.adaptation.guard import Verdict
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.adaptation.store import StoreError
from clipoint3d_ros.clip.bundle import BundleError
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.adapting import Adapting, load
from clipoint3d_ros.nodes.diagnostics import as_message, figures, learning
from clipoint3d_ros.nodes.frames import MissingTransform, to_fixed_frame
from clipoint3d_ros.nodes.hand_over import CLASSES_CHANGED
from clipoint3d_ros.nodes.hardware import hardware
from clipoint3d_ros.nodes.health import Health, Level, Troubles
from clipoint3d_ros.nodes.inbox import Worker
from clipoint3d_ros.nodes.judgements import Judgements
from clipoint3d_ros.nodes.lifecycle import LATCHED, RELIABLE, Lifecycle, own, sentence
from clipoint3d_ros.nodes.parameters import ParameterError, changed
from clipoint3d_ros.nodes.pauses import Pauses
from clipoint3d_ros.nodes.program import leave, run
from clipoint3d_ros.nodes.qos import subscription
from clipoint3d_ros.nodes.sightings import Gathering, Parts, log_sighting, sightings
from clipoint3d_ros.nodes.stamps import nanoseconds
from clipoint3d_ros.nodes.succession import Succession
from clipoint3d_ros.nodes.training_thread import TrainingThread
from clipoint3d_ros.nodes.transforms import Transforms, fitting
from clipoint3d_ros.nodes.versions import FROZEN
from clipoint3d_ros.recognition.recognition import UNKNOWN
from clipoint3d_ros.recognition.tracks import Clock, Tracker

_STEP_S = 1.0  # that a deactivation waits for a training step, which else ends by itself, and nothing comes of it
_END_S = 30.0  # that the program's end does


class AdaptationNode(Lifecycle[AdaptationConfig]):
    """`adaptation`: see the ROS interface in the README."""

    def __init__(self, alone: bool = False, yields: Callable[[], bool] = lambda: False, **options: Any) -> None:
        """
        Args:
            alone: in a process of its own, where it may decide how many threads torch uses.
            yields: whether perception has a frame in hand; known in one process with it alone.

        Raises:
            ParameterError: an override cannot be used.
        """
        super().__init__("adaptation", AdaptationConfig, **options)
        self._alone, self._yields = alone, yields
        self._adapting: Adapting | None = None
        self._worker: Worker[Parts] | None = None
        self._transforms: Transforms | None = None
        self._training: TrainingThread | None = None
        self._tracker, self._time = Tracker(), Clock()
        self._lock = threading.Lock()  # of the companion: the worker learns, services ask
        self._judgements, self._health = Judgements(), Health()
        self._troubles = Troubles(self._warn)
        self._pauses = Pauses(self.get_logger().warning, self.get_logger().info)
        self._handed_s = self._saved_s = 0.0
        self._unsaved = False  # something was handed over since
        self._unheld = ""  # which limit cannot be held here
        self._choices: list[Any] = []  # subscriptions by which perception's are heard
        self._heard_of: str | None = None  # the perception that these are of
        self._frames = self._jumps = self._failed_until = 0
        self._budget = Budget(self._config.duty_cycle)
        self._verdicts = self._make_publisher(DiagnosticArray, "~/output/verdicts", RELIABLE)
        self._learned = self._make_publisher(Header, "~/output/learned", RELIABLE)
        self._diagnostics = self._make_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_service(SetBool, "~/pause", self._on_pause)
        for name, answer in (("adapt", self._on_adapt), ("save", self._on_save), ("reset", self._on_reset)):
            self.create_service(Trigger, f"~/{name}", partial(self._on_trigger, answer))
        self._succession = Succession(
            self, self._config.perception, lambda: self._silent, self._leave, partial(self._troubles.say, "hand-over")
        )
        self._versions = self._succession.versions
        self._parts: dict[str, Any] = {}
        self._gathering = Gathering(self._parts)

    # Data: from perception's parts to sightings

    def _on_part(self, name: str, message: Any) -> None:
        parts = self._gathering.add(name, message)
        if parts is not None:
            self._frames += 1
            if self._worker is not None:
                self._worker.inbox.put(parts)

    def _work(self, parts: Parts) -> None:
        try:
            self._learn(parts)
            self._troubles.say("frames", "")
        except Exception as error:  # one bad frame must not end the node
            self._work_failed(error)
        self._learned.publish(parts.detections.header)  # whoever waits for it need not know what came of it

    def _learn(self, parts: Parts) -> None:
        adapting = self._adapting
        if adapting is None:
            return
        self._follow_time(adapting.companion, nanoseconds(parts.detections.header.stamp) / 1e9)
        if self._pauses.why:
            return
        names = adapting.classes.names
        strange = {d.results[0].hypothesis.class_id for d in parts.detections.detections if d.results}
        strange -= {*names, UNKNOWN}
        if strange:
            self._troubles.say(
                "classes",
                f"'{min(strange)}' is none of this node's classes {', '.join(names)}, but perception "
                "answers it; give both nodes the same",
            )
        else:
            self._troubles.say("classes", "")
        header, transforms = parts.detections.header, self._transforms
        lookup = None if transforms is None else transforms.lookup
        try:
            place = to_fixed_frame(header.frame_id, header.stamp, self._config.fixed_frame, lookup)
        except MissingTransform as error:
            return self._troubles.say("transform", f"nothing is learned from a frame without its transform: {error}")
        self._troubles.say("transform", "")
        with self._budget.spending(work=time.thread_time), self._lock:
            for sighting in sightings(parts, names, adapting.companion, self._tracker, self._versions.known, place):
                self._log(adapting, sighting, adapting.companion.observe(sighting))
            due = adapting.companion.due and time.monotonic() - self._handed_s >= self._config.hand_over_s
            candidate = adapting.companion.propose() if due and self._budget.allows() else None
        if candidate is not None:
            self._conclude(adapting, candidate)

    def _follow_time(self, companion: Companion, stamp_s: float) -> None:
        """A jump back in time forgets both memories and all tracks at once, whichever of them is seen into next."""
        with self._lock:
            if self._time.jumped_back(stamp_s):
                self._jumps += 1
                companion.forget_objects()
                self._tracker.clear()
                self.get_logger().info("time jumped back (a bag that starts again?): what was remembered is forgotten")

    def _forget_transforms(self) -> None:
        """Of another run of time; in the executor's thread, whose subscriptions they are."""
        if self._transforms is not None:
            self._transforms.restart()

    # Hand-over

    def _conclude(self, adapting: Adapting, candidate: Candidate) -> None:
        """Tell the verdict, and hand over what was accepted, or the frozen model where it was given up."""
        self._judgements.add(candidate.verdict)
        self._announce(candidate.verdict)
        if candidate.verdict.accepted:
            self._hand_over(adapting, candidate)
        elif adapting.companion.live is None and (self._versions.wanted != FROZEN or self._versions.network):
            self.get_logger().warning("rejected too often in a row: the frozen model is taken back")
            with self._lock:
                if self._training is not None:
                    adapting.companion.forget()  # features of the trained network
                wanted = self._back_to_frozen()
                try:
                    adapting.give_up()  # else the next start would go on from what was given up
                except StoreError as error:
                    self._troubles.say("store", f"what was given up may come back at the next start: {error}")
            self._succession.give(wanted)

    def _back_to_frozen(self) -> tuple[str, int]:
        """Give up what was trained, and learn from the frozen model's features; what perception is to be given."""
        self._versions.give_up()
        if self._training is not None:
            self._training.restart()
        return self._versions.want("", FROZEN)

    def _hand_over(self, adapting: Adapting, candidate: Candidate) -> None:
        version = self._versions.made + 1
        try:
            with self._lock:
                if adapting.companion.live is not candidate.statistics:
                    return  # forgotten in the meantime, by ~/reset
                path = adapting.write(version, self._versions.live, candidate, self._versions.network)
                self._versions.put(version)
                wanted = self._versions.want(str(path), version)
        except (StoreError, BundleError) as error:
            self._troubles.say("store", f"an accepted adapter could not be written, so nothing changes: {error}")
            return
        self._troubles.say("store", "")
        self._handed_s, self._unsaved = time.monotonic(), True
        self._succession.give(wanted)
        if self._to_be_saved:
            self._save(adapting)

    def _on_vision_info(self, info: VisionInfo) -> None:
        """Perception that was started anew answers by the frozen model; it gets what was live."""
        self._versions.say(int(info.database_version))

    def _on_parameter_event(self, event: ParameterEvent) -> None:
        """Somebody else gave perception a bundle or other classes: that is respected, not overwritten."""
        theirs = self._succession.set_by_others(event)
        if theirs is not None and theirs.bundle is None:
            self._pauses.leave(theirs.why)
        elif theirs is not None:
            self._leave(theirs.why)

    def _leave(self, why: str) -> None:
        """Perception answers by somebody else's choice: pause, and after a restart, too, until ~/pause ends it."""
        self._pauses.leave(why)
        self._keep_pause()

    def _keep_pause(self) -> None:
        try:
            if self._adapting is not None:
                self._adapting.keep_pause(*self._pauses.lasting)
        except OSError as error:
            self._troubles.say("save", f"the pause will not outlast this node: {error}")

    # Lifecycle

    def _configure(self) -> None:
        """Load the reference, or gather it."""
        began = time.monotonic()
        self._follow_by(self._config)
        self._tracker.clear()  # what is remembered from before is of no living track
        name = self.get_fully_qualified_name().strip("/").replace("/", ".")
        logger = self.get_logger()
        self._hear_perception()
        adapting, told = load(self._config, name, self._versions, logger.warning, logger.info)
        if self._pauses.left == CLASSES_CHANGED:
            self._pauses.left = ""  # these are the classes now
        self._adapting = adapting
        lacking = adapting.store.without_disk
        self._troubles.say("save", f"nothing is kept for the next start: {lacking}" if lacking else "")
        self._unsaved = bool(lacking)  # so that it is tried again
        asked, left = adapting.kept_pause()
        self._pauses.asked = self._pauses.asked or asked
        if left and left != CLASSES_CHANGED:
            self._pauses.leave(left)
        if self._pauses.lasting != (asked, left):
            self._keep_pause()
        self._time = Clock()
        for sighting in (*adapting.companion.learned.sightings()[-1:], *adapting.companion.held.sightings()[-1:]):
            self._time.newest_s = max(self._time.newest_s, sighting.stamp_s)  # time that starts again is seen
        if adapting.gradient is not None:
            assert adapting.backbone is not None
            self._training = TrainingThread(
                adapting.gradient,
                adapting.companion,
                self._lock,
                self._budget,
                config=lambda: self._config,
                idle=lambda: bool(self._pauses.why),
                accepted=self._versions.follow,
                concluded=partial(self._conclude, adapting),
                failed=self._training_failed,
                cores=self._cores(adapting.backbone.device),
                work=time.thread_time if adapting.backbone.device.type == "cpu" else time.monotonic,
                yields=self._yields,
            )
        self.get_logger().info(f"{told} ({time.monotonic() - began:.1f} s)")

    @property
    def _mode(self) -> str:
        """What it does: class statistics alone where there is no probe set, whatever was asked for."""
        without = self._adapting is not None and self._adapting.gradient is None
        return "statistics" if without else self._config.mode

    def _hear_perception(self) -> None:
        """What it serves and what others choose for it, from the first configuring on: that counts whatever state this
        node is in."""
        if self._heard_of == self._config.perception:
            return
        for each in self._choices:
            self.destroy_subscription(each)
        self._heard_of, self._versions.served = self._config.perception, None
        self._succession.address(self._config.perception)
        topic = f"{self._config.perception}/output/vision_info"
        self._choices = [
            subscription(self.create_subscription, VisionInfo, topic, self._on_vision_info, LATCHED),
            # ROS's own topic, on which all nodes speak; whose quality of service nobody changes.
            self.create_subscription(
                ParameterEvent, "/parameter_events", self._on_parameter_event, qos_profile_parameter_events
            ),
        ]

    def _cores(self, device: torch.device) -> int:
        """How many a training step takes; one where that can be decided here."""
        if self._alone:
            torch.set_num_threads(1)  # of the whole process, so perception's must not be set
        return 1 if device.type != "cpu" else torch.get_num_threads()

    def _open(self) -> None:
        """Listen to perception; what was live when this node last ran is handed over once perception is heard."""
        self._hear_perception()  # where no model was loaded first, as for docs/topics.md
        self._forget_transforms()  # time may have started again while nobody watched it
        self._worker = Worker(self._work, self._work_failed)
        if self._training is not None:
            self._training.start()
        base = f"{self._config.perception}/output"
        self._parts = {"detections": Detection3DArray, "features": Image, "evidence": Image}
        if self._mode == "gradient":
            self._parts["objects"] = Image
        self._gathering = Gathering(self._parts, jumped=self._forget_transforms)
        for name, kind in self._parts.items():
            self._listen(kind, f"{base}/{name}", partial(self._on_part, name), RELIABLE)
        self.get_logger().info(f"learning from {self._inputs[0].topic_name}")

    def _close(self) -> None:
        """Stop learning, at once; what is live stays live."""
        self._drop_inputs()
        worker, self._worker = self._worker, None
        with self._succession.hand.hurried():
            if self._training is not None:
                self._training.stop(_STEP_S)
            if worker is not None and not worker.stop():
                self.get_logger().warning("the frame in hand is not finished after 30 s; going on without it")

    def _release(self) -> None:
        """Keep what was learned."""
        self._close()
        self._transforms = fitting(self._transforms, self, asks=False, timeout_s=0.0)
        adapting, self._adapting, self._training = self._adapting, None, None
        if adapting is not None:
            self._save(adapting)
            adapting.close()

    def close(self) -> None:
        """Stop, and keep what was learned; the step in hand ends before the program does."""
        training = self._training
        self._release()
        if training is not None:
            training.stop(_END_S)

    @property
    def _to_be_saved(self) -> bool:
        """Whether something handed over is to be copied to disk now: `save_s` after the last copy at the soonest."""
        return self._unsaved and time.monotonic() - self._saved_s >= self._config.save_s

    def _save(self, adapting: Adapting) -> str:
        """Copy the live bundle and the memories to disk; what went wrong in words, or ""."""
        self._saved_s, self._unsaved = time.monotonic(), False
        try:
            adapting.save(self._config.keep_clouds, self._versions.network)
        except (OSError, ValueError) as error:
            self._unsaved = True  # tried again when the next copy is due
            self._troubles.say("save", f"not saved: {error}")
            return str(error)
        self._troubles.say("save", "")
        return ""

    # Services and parameters

    def _on_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        try:
            config = changed(self._config, own(self._config, parameters), configured=self._adapting is not None)
            if self._adapting is not None:
                self._follow_by(config)
        except (ParameterError, ImportError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._config = config
        self._budget.share = self._config.duty_cycle
        if self._adapting is not None:
            companion = self._adapting.companion
            companion.config = replace(companion.config, every=self._config.every)
        return SetParametersResult(successful=True)

    def _follow_by(self, config: AdaptationConfig) -> None:
        """Follow objects as a configuration says; ImportError, changing nothing, where tf2 is wanted and missing."""
        self._transforms = fitting(self._transforms, self, bool(config.fixed_frame), config.tf_timeout_s)
        self._tracker.config = config.tracker
        if config.fixed_frame != self._config.fixed_frame:
            self._tracker.clear()  # places of another frame

    @property
    def _silent(self) -> str:
        """Why no adapter is handed over just now; "" while one may be."""
        return self._pauses.why or ("" if self._worker is not None else "not active")

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = True
        if request.data:
            self._pauses.asked = "asked to"
            response.message = "nothing is learned until ~/pause is called with false"
        else:
            self._pauses.end()
            if self._versions.strange and self._adapting is not None:
                self._succession.take_back(self._adapting.latest)
            response.message = "learning goes on" + (f" below the {limit}" if (limit := self._pauses.limit) else "")
        self._keep_pause()
        return response

    def _on_trigger(
        self, answer: Callable[[Adapting], tuple[bool, str]], request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Answers by what is loaded; a service that fails must not end the node."""
        response.success, response.message = False, "nothing is loaded yet; configure the node"
        if self._adapting is not None:
            try:
                response.success, response.message = answer(self._adapting)
            except Exception as error:
                response.message = sentence(error)
        return response

    def _on_adapt(self, adapting: Adapting) -> tuple[bool, str]:
        with self._lock:
            candidate = adapting.companion.propose()
        self._succession.errand(self._conclude, adapting, candidate)
        return candidate.verdict.accepted, str(candidate.verdict)

    def _on_save(self, adapting: Adapting) -> tuple[bool, str]:
        wrong = self._save(adapting)
        return not wrong, wrong or f"saved in {adapting.folder}"

    def _on_reset(self, adapting: Adapting) -> tuple[bool, str]:
        wrong = ""
        with self._lock:
            adapting.companion.forget()
            self._tracker.clear()
            wanted = self._back_to_frozen()
            try:
                adapting.remove()
            except OSError as error:  # the next start may find what was learned
                wrong = str(error)
        self._pauses.left, self._versions.restart = "", None  # what the user asked for holds
        self._keep_pause()
        self._succession.errand(self._succession.give, wanted)  # after a hand-over that may be under way
        forgotten = "everything learned is forgotten; perception goes back to the frozen model"
        return not wrong, wrong or forgotten + (f"; paused: {why}" if (why := self._pauses.why) else "")

    # What the node says of itself

    def _announce(self, verdict: Verdict) -> None:
        version = str(self._versions.made + verdict.accepted)
        values = {"accepted": str(verdict.accepted).lower(), "version": version, **figures(verdict)}
        summary = "accepted" if verdict.accepted else "; ".join(verdict.reasons)
        self._verdicts.publish(self._message("verdict", summary, values, Level.OK if verdict.accepted else Level.WARN))
        self.get_logger().info(f"candidate {verdict}")

    def _on_tick(self) -> None:
        limits = (self._config.max_power_w, self._config.max_memory_mb)
        self._pauses.hold(self._budget.over(*limits))
        self._doubt_limits(self._budget.unheld(*limits))
        adapting, versions = self._adapting, self._versions
        if self._worker is not None and adapting is not None:
            self._succession.go_on(adapting.store, adapting.latest)
            if self._to_be_saved:  # a slow disk must not keep services waiting
                threading.Thread(target=self._save, args=(adapting,), name="save", daemon=True).start()
        values = {
            "state": "active" if self._worker else "inactive" if adapting else "unconfigured",
            "mode": self._mode,
            "steps": str(adapting.gradient.steps if adapting is not None and adapting.gradient is not None else 0),
            "paused": self._pauses.why or "no",
            "version": str(versions.live),
            "frames": str(self._frames),
            "incomplete": str(self._gathering.missed),
            "failed": str(self._troubles.failures),
            "time_jumps": str(self._jumps),
            "duty_cycle": f"{self._budget.spent:.3f}",
            "limits": self._unheld or "held",
            **hardware("cpu" if adapting is None or adapting.backbone is None else adapting.backbone.device),
            **({} if adapting is None else learning(adapting.companion, adapting.classes.names)),
            **self._judgements.rows(),
        }
        if self._training is not None and self._training.gradient.steps > self._failed_until:
            self._troubles.say("training", "")
        troubles = self._wrong()
        values |= {f"trouble.{kind}": said for kind, said in troubles.items() if said}
        paused = f"paused: {self._pauses.why}" if self._pauses.why else ""
        judged = self._health.judge(troubles, self._config.error_after_s, passing=paused or self._unheld)
        summary = judged.why or f"adapter version {versions.live}"
        self._diagnostics.publish(self._message("adaptation", summary, values, judged.level))

    def _doubt_limits(self, unheld: str) -> None:
        """A limit that cannot be held is warned of for as long as it is wanted, and never an error: it learns on."""
        if unheld and unheld != self._unheld:
            self.get_logger().warning(unheld)
        self._unheld = unheld

    def _wrong(self) -> dict[str, str]:
        """{kind: sentence} of what is wrong now."""
        if self._pauses.why:
            return {}
        versions, troubles = self._versions, self._troubles.there
        if versions.strange:
            troubles["strange"] = (
                f"perception serves version {versions.served}, not of this node: nothing is learned from its features; "
                "empty perception's 'bundle' to go on from the frozen model"
            )
        if self._inputs and not self.count_publishers(self._inputs[0].topic_name):
            troubles["perception"] = (
                f"nobody publishes {self._inputs[0].topic_name}, so there is nothing to learn from; start perception, "
                "or set 'perception' to its name"
            )
        return troubles

    def _message(self, what: str, summary: str, values: dict[str, str], level: Level) -> DiagnosticArray:
        name = f"{self.get_fully_qualified_name().lstrip('/')}: {what}"
        return as_message(name, "", summary, values, self.get_clock().now().to_msg(), level)

    def _log(self, adapting: Adapting, sighting: Sighting, reason: str) -> None:
        """One line a sighting: what was learned from and what was not, without any cloud."""
        if not self._config.learned_log:
            return
        path = Path(self._config.learned_log)
        name = adapting.classes.names[sighting.label] if sighting.label >= 0 else UNKNOWN
        try:
            log_sighting(path, sighting, name, reason)
        except OSError as error:
            self._troubles.say("log", f"cannot write {path}: {error}")
        else:
            self._troubles.say("log", "")

    def _work_failed(self, error: Exception) -> None:
        self._failed("frames", f"nothing learned from a frame: {sentence(error)}")

    def _training_failed(self, error: Exception) -> None:
        """A step or a candidate failed: a trouble until a whole burst has gone well."""
        if self._training is not None:
            self._failed_until = self._training.gradient.steps + self._config.burst
        self._failed("training", f"a training step came to nothing: {sentence(error)}")

    def _failed(self, kind: str, said: str) -> None:
        if rclpy.ok(context=self.context):
            self._troubles.fail(kind, said)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`ros2 run clipoint3d_ros adaptation_node`; SIGINT and SIGTERM end it cleanly."""
    os.nice(5)  # perception comes first
    leave(run("adaptation_node", (partial(AdaptationNode, alone=True),), arguments))


if __name__ == "__main__":
    main()
