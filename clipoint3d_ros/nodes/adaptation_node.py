"""The adaptation node: perception's companion, which learns from what the sensor really sees.

A thin shell. Perception publishes detections, features and evidence of one stamp; together they make sightings, which
the companion (`adaptation.companion`) remembers, learns from and judges. What it accepts goes to a RAM-backed folder as
a bundle and is announced by setting perception's `bundle`. Perception never waits for any of this, and goes on as it is
when this node ends, however it ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterEvent, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection3DArray, VisionInfo

from clipoint3d_ros.adaptation.budget import Budget
from clipoint3d_ros.adaptation.companion import Candidate, Companion
from clipoint3d_ros.adaptation.config import load_recipe
from clipoint3d_ros.adaptation.gradient import Gradient
from clipoint3d_ros.adaptation.guard import Verdict
from clipoint3d_ros.adaptation.memory import MemoryFileError, Sighting
from clipoint3d_ros.adaptation.reference import kept_reference
from clipoint3d_ros.adaptation.store import Store, StoreError, ram_folder
from clipoint3d_ros.clip.backbone import Backbone, Card, load_backbone
from clipoint3d_ros.clip.bundle import Adapter, BundleError, load_network, read_meta, save_bundle, save_statistics
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.clip.text import class_features
from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.diagnostics import Throttle, as_message, memory
from clipoint3d_ros.nodes.hand_over import HandOver
from clipoint3d_ros.nodes.inbox import Worker
from clipoint3d_ros.nodes.parameters import ParameterError, changed, declare
from clipoint3d_ros.nodes.perception_node import LATCHED, RELIABLE, sentence
from clipoint3d_ros.nodes.program import run
from clipoint3d_ros.nodes.sightings import Parts, log_sighting, sightings
from clipoint3d_ros.nodes.stamps import nanoseconds
from clipoint3d_ros.recognition.classifier import read_classes
from clipoint3d_ros.recognition.recognition import UNKNOWN
from clipoint3d_ros.recognition.tracks import Tracker
from clipoint3d_ros.resources import config_file

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
FROZEN = 0
_WAITING = 20  # frames whose parts may be on their way


class Adapting(NamedTuple):
    """Everything that belongs to one backbone and one list of classes.

    backbone, gradient: where prompts and LoRA are trained as well, else None: its weights are needed no more.
    """

    classes: Descriptions
    card: Card
    companion: Companion
    store: Store
    folder: Path
    backbone: Backbone | None = None
    gradient: Gradient | None = None


class AdaptationNode(LifecycleNode):
    """`adaptation`: see the ROS interface in the README."""

    def __init__(self, **options: Any) -> None:
        """Raises ParameterError where an override cannot be used."""
        super().__init__("adaptation", **options)
        self._config = declare(self, AdaptationConfig)
        self._adapting: Adapting | None = None
        self._worker: Worker[Parts] | None = None
        self._tracker, self._throttle = Tracker(), Throttle()
        self._lock = threading.Lock()  # of the companion: the worker learns, services ask
        self._waiting: dict[int, dict[str, Any]] = {}
        self._version, self._live = FROZEN, FROZEN  # the last one made, and the one perception was given
        self._served: int | None = None  # the one perception says it serves
        self._mine: set[int] = {FROZEN}
        self._verdict: Verdict | None = None
        self._paused = ""
        self._handed_s = self._saved_s = 0.0
        self._frames = self._missed = self._trouble_count = 0
        self._restart: tuple[str, int] | None = None  # what was live when this node last ran
        self._budget = Budget(self._config.duty_cycle)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._verdicts = self.create_publisher(DiagnosticArray, "~/output/verdicts", RELIABLE)
        self._learned = self.create_publisher(Header, "~/output/learned", RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_service(SetBool, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/adapt", self._on_adapt)
        self.create_service(Trigger, "~/save", self._on_save)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._hand = HandOver(self, self._config.perception)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._tick = self.create_timer(1.0, self._on_tick, clock=steady)
        self._inputs: list[Any] = []
        self._inputs_of_frame = {"detections": Detection3DArray, "features": Image, "evidence": Image}
        if self._config.mode == "gradient":
            self._inputs_of_frame["objects"] = Image
        self._network: Network | None = None  # the trained one that is live, before its merge
        self._trainer: threading.Thread | None = None
        self._stop = threading.Event()
        if self._config.autostart:
            self._starter = self.create_timer(0.0, self._autostart, clock=steady)

    # Data: from perception's parts to sightings

    def _on_part(self, name: str, message: Any) -> None:
        stamp = nanoseconds(message.header.stamp)
        parts = self._waiting.setdefault(stamp, {})
        parts[name] = message
        if len(parts) == len(self._inputs_of_frame):
            self._frames += 1
            if self._worker is not None:
                self._worker.inbox.put(Parts(**self._waiting.pop(stamp)))
        while len(self._waiting) > _WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self._missed += 1

    def _work(self, parts: Parts) -> None:
        try:
            self._learn(parts)
        finally:  # whoever waits for it need not know what came of it
            self._learned.publish(parts.detections.header)

    def _learn(self, parts: Parts) -> None:
        adapting = self._adapting
        if adapting is None or self._paused:
            return
        names = adapting.classes.names
        strange = {d.results[0].hypothesis.class_id for d in parts.detections.detections if d.results}
        strange -= {*names, UNKNOWN}
        if strange:
            self._warn(
                "classes",
                f"'{min(strange)}' is none of this node's classes {', '.join(names)}, but perception "
                "answers it; give both nodes the same",
            )
        seen = sightings(parts, names, adapting.companion, self._tracker, self._mine)
        with self._budget.spending(), self._lock:
            for sighting in seen:
                self._log(adapting, sighting, adapting.companion.observe(sighting))
            due = adapting.companion.due and time.monotonic() - self._handed_s >= self._config.hand_over_s
            candidate = adapting.companion.propose() if due and self._budget.allows() else None
        if candidate is not None:
            self._conclude(adapting, candidate)

    # Tier 2, in a thread of its own

    def _train(self, adapting: Adapting) -> None:
        """Step after step, as far as the budget allows; every `burst` steps a candidate."""
        gradient, companion = adapting.gradient, adapting.companion
        assert gradient is not None
        torch.set_num_threads(1)  # perception comes first
        while not self._stop.is_set():
            if self._paused or len(companion.learned) < self._config.least_objects:
                self._stop.wait(0.5)
                continue
            if self._stop.wait(self._budget.wait(1.0)) or not self._budget.allows():
                continue
            try:
                self._train_once(adapting, gradient, companion)
            except Exception as error:  # one bad step must not end the node
                self._work_failed(error)
                gradient.fall_back()
                self._stop.wait(1.0)

    def _train_once(self, adapting: Adapting, gradient: Gradient, companion: Companion) -> None:
        with self._budget.spending():
            gradient.learn(companion.learned.sightings())
        if gradient.steps % self._config.burst:
            return
        with self._budget.spending():
            trained = gradient.candidate()
            with self._lock:
                learned, held = companion.learned.sightings(), companion.held.sightings()
                features = [gradient.features(trained.served, part) for part in (learned, held) if part]
                none = torch.zeros(0, adapting.companion.text.shape[1])
                features += [none] * (2 - len(features))
                candidate = companion.consider(trained.reference, trained.text, features[0], features[1])
                if candidate.verdict.accepted:
                    gradient.keep()
                    self._network, self._mine = trained.network, set()  # features of before are another network's
                else:
                    gradient.fall_back()
        self._conclude(adapting, candidate)

    # Hand-over

    def _conclude(self, adapting: Adapting, candidate: Candidate) -> None:
        """Tell the verdict, and hand over what was accepted, or the frozen model where it was given up."""
        self._verdict = candidate.verdict
        self._announce(candidate.verdict)
        if candidate.verdict.accepted:
            self._hand_over(adapting, candidate)
        elif adapting.companion.live is None and self._live != FROZEN:
            self.get_logger().warning("rejected too often in a row: the frozen model is taken back")
            self._back_to_frozen(adapting)
            self._set_bundle("", FROZEN)

    def _back_to_frozen(self, adapting: Adapting) -> None:
        """What was trained is given up; features of the frozen model may be learned from."""
        self._network, self._mine = None, {FROZEN}
        if adapting.gradient is not None:
            adapting.companion.forget()
            adapting.gradient.restart()

    def _hand_over(self, adapting: Adapting, candidate: Candidate) -> None:
        version = self._version + 1
        told: dict[str, Any] = {
            "version": version,
            "parent": self._live,
            "probe": {name: value for name, (value, _) in candidate.verdict.numbers.items()},
            "training": {"by": "adaptation", "objects": len(adapting.companion.learned)},
            "temperature": 1.0,  # the statistics' weights calibrate
            "classes": adapting.classes,
            "statistics": candidate.statistics,
        }
        network, backbone = self._network, adapting.backbone
        if network is not None and backbone is not None:
            adapter = Adapter(network, **told)
            write = partial(save_bundle, network=network, frozen=backbone, adapter=adapter)
        else:
            write = partial(save_statistics, card=adapting.card, **told)
        try:
            with self._lock:
                if adapting.companion.live is not candidate.statistics:
                    return  # forgotten in the meantime, by ~/reset
                path = adapting.store.put(version, write)
                self._version = version
                self._mine.add(version)
        except (StoreError, BundleError) as error:
            self._warn("store", f"an accepted adapter could not be written, so nothing changes: {error}")
            return
        self._handed_s = time.monotonic()
        self._set_bundle(str(path), version)
        if time.monotonic() - self._saved_s >= self._config.save_s:
            self._save(adapting)

    def _set_bundle(self, path: str, version: int) -> bool:
        """Set perception's `bundle`; whether it took it."""
        refused = self._hand.give(path)
        if refused:
            what = f"adapter version {version}" if version else "the frozen model"
            self._warn("hand-over", f"{what} was not handed over: {refused}")
            return False
        self._live, self._restart = version, None
        self.get_logger().info(f"perception answers by {'adapter version ' + str(version) if version else 'frozen'}")
        return True

    def _on_vision_info(self, info: VisionInfo) -> None:
        """Perception that was started anew answers by the frozen model; it gets what was live. One that still answers
        by what this node gave it in an earlier life is known to."""
        self._served = int(info.database_version)
        if self._served != FROZEN and self._served in self._mine:
            self._live, self._restart = self._served, None

    def _on_parameter_event(self, event: ParameterEvent) -> None:
        """Somebody else gave perception a bundle or other classes: that is respected, not overwritten."""
        why = self._hand.set_by_others(event)
        if why:
            self._live = self._live if "classes" in why else FROZEN
            self._pause(why)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the reference, or gather it; FAILURE with a sentence where that cannot be."""
        try:
            self._adapting = self._load(self._config)
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(f"cannot configure: {sentence(error)}")
            self._adapting = None
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to perception, and hand over what was live when this node last ran."""
        answer = super().on_activate(state)
        if answer != SUCCESS:
            return answer
        self._worker = Worker(self._work, self._work_failed)
        if self._adapting is not None and self._adapting.gradient is not None:
            self._stop.clear()
            self._trainer = threading.Thread(target=self._train, args=(self._adapting,), name="tier 2", daemon=True)
            self._trainer.start()
        base = f"{self._config.perception}/output"
        make = self.create_subscription
        self._inputs = [
            *(
                make(kind, f"{base}/{name}", partial(self._on_part, name), RELIABLE)
                for name, kind in self._inputs_of_frame.items()
            ),
            make(VisionInfo, f"{base}/vision_info", self._on_vision_info, LATCHED),
            make(ParameterEvent, "/parameter_events", self._on_parameter_event, RELIABLE),
        ]
        self.get_logger().info(f"learning from {self._inputs[0].topic_name}")
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop learning; what is live stays live."""
        self._close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return SUCCESS

    def close(self) -> None:
        """Stop, and keep what was learned; for the end of the program."""
        self._release()

    def _autostart(self) -> None:
        self._starter.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _load(self, config: AdaptationConfig) -> Adapting:
        began = time.monotonic()
        name = self.get_fully_qualified_name().strip("/").replace("/", ".")
        folder = Path(config.state_folder) if config.state_folder else Path.home() / ".ros" / "clipoint3d_ros" / name
        live = Path(config.live_folder) if config.live_folder else ram_folder("clipoint3d_ros") / name
        classes = read_classes(config.class_source)
        backbone = load_backbone(
            config.backbone or None, config.pretrained or None, config.device or None, patches=config.patches
        )
        count = config.shots + config.probe
        reference = kept_reference(
            reference_folder(),
            backbone,
            classes,
            lambda: read_domain(config.source, classes, count=count, seed=0),
            config.source,
            config.reference,
        )
        gradient = None
        if config.mode == "gradient":
            source = read_domain(config.source, classes, count=count, seed=0)
            recipe = load_recipe(config.recipe or config_file("train/online.yaml"))
            gradient = Gradient(backbone, classes, source, recipe, config.reference)
        text = class_features(backbone, classes)
        companion = Companion(reference, text, backbone.scale * backbone.temperature, config.companion)
        store = Store(live, folder / "bundles", config.keep)
        self._restore(companion, folder, _meaning(backbone.card, classes))
        self._version = max(store.versions(), default=FROZEN)
        latest = store.latest(partial(_of, backbone.card, classes, config.mode == "gradient"))
        self._restart, self._network, self._mine = None, None, {FROZEN}
        if latest is not None:
            self._go_on(latest, backbone, companion, gradient)
        told = (
            "gain on the probe set" if reference.helpful else "gain nothing certain on the probe set, and stay unused"
        )
        going = "no version yet" if latest is None else f"going on from {latest.name}"
        self.get_logger().info(
            f"{backbone.name}: class statistics of {config.source} {told}; {len(companion.learned)} objects "
            f"remembered, {going} ({time.monotonic() - began:.1f} s)"
        )
        kept = None if gradient is None else backbone
        return Adapting(classes, backbone.card, companion, store, folder, kept, gradient)

    def _go_on(self, latest: Path, backbone: Backbone, companion: Companion, gradient: Gradient | None) -> None:
        """From what was accepted last when this node ran before."""
        network, adapter = load_network(latest, backbone)
        if adapter.statistics is None:
            return
        if adapter.network.config.frozen:
            companion.live = adapter.statistics
            self._mine.add(adapter.version)
        elif gradient is not None:
            try:
                gradient.adopt(network)
            except ValueError as error:
                self.get_logger().warning(f"training begins anew: {error}")
                return
            again = gradient.candidate()
            companion.adopt(again.reference, again.text, adapter.statistics)
            self._network, self._mine = network, {adapter.version}
        self._restart = (str(latest), adapter.version)

    def _restore(self, companion: Companion, folder: Path, meaning: str) -> None:
        for memory_, name in ((companion.learned, "learned"), (companion.held, "held")):
            path = folder / f"{name}.safetensors"
            if not path.is_file():
                continue
            try:
                memory_.restore(path, meaning)
                if self._config.mode == "gradient" and any(s.cloud is None for s in memory_.sightings()):
                    memory_.clear()  # saved without clouds, which tier 2 learns from
            except MemoryFileError as error:
                self.get_logger().warning(f"what was remembered is not taken over: {error}")

    def _close(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._stop.set()
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            trainer.join(30.0)
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop():
            self.get_logger().warning("the frame in hand is not finished after 30 s; going on without it")

    def _release(self) -> None:
        self._close()
        adapting, self._adapting = self._adapting, None
        if adapting is not None:
            self._save(adapting)

    def _save(self, adapting: Adapting) -> str:
        """Copy the live bundle and the memories to disk; what went wrong in words, or ""."""
        self._saved_s = time.monotonic()
        try:
            adapting.folder.mkdir(parents=True, exist_ok=True)
            adapting.store.persist()
            meaning = _meaning(adapting.card, adapting.classes)
            for memory_, name in ((adapting.companion.learned, "learned"), (adapting.companion.held, "held")):
                memory_.save(adapting.folder / f"{name}.safetensors", self._config.keep_clouds, meaning)
        except (OSError, ValueError) as error:
            self._warn("save", f"not saved: {error}")
            return str(error)
        return ""

    # Services and parameters

    def _on_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        ours = {each.name: each.value for each in parameters if hasattr(self._config, each.name)}
        try:
            self._config = changed(self._config, ours, configured=self._adapting is not None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._budget.share = self._config.duty_cycle
        return SetParametersResult(successful=True)

    def _pause(self, why: str) -> None:
        if not self._paused:
            self.get_logger().warning(f"adaptation pauses: {why}")
        self._paused = why

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = "asked to" if request.data else ""
        response.success = True
        response.message = (
            "nothing is learned until ~/pause is called with false" if request.data else "learning goes on"
        )
        return response

    def _on_adapt(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        adapting = self._adapting
        if adapting is None:
            response.success, response.message = False, "nothing is loaded yet; configure the node"
            return response
        try:
            with self._lock:
                candidate = adapting.companion.propose()
        except Exception as error:  # a service that fails must not end the node
            response.success, response.message = False, sentence(error)
            return response
        # Perception answers through this node's executor, which is busy with this very call.
        threading.Thread(target=self._conclude, args=(adapting, candidate), daemon=True).start()
        response.success, response.message = candidate.verdict.accepted, str(candidate.verdict)
        return response

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        adapting = self._adapting
        if adapting is None:
            response.success, response.message = False, "nothing is loaded yet; configure the node"
            return response
        wrong = self._save(adapting)
        response.success, response.message = not wrong, wrong or f"saved in {adapting.folder}"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        adapting = self._adapting
        if adapting is None:
            response.success, response.message = False, "nothing is loaded yet, so there is nothing to reset"
            return response
        wrong = ""
        with self._lock:
            adapting.companion.forget()
            self._tracker.clear()
            self._back_to_frozen(adapting)
            try:
                adapting.store.clear()
                for name in ("learned", "held"):
                    (adapting.folder / f"{name}.safetensors").unlink(missing_ok=True)
            except OSError as error:  # the next start may find what was learned
                wrong = str(error)
        self._paused, self._restart = "", None
        threading.Thread(
            target=self._set_bundle, args=("", FROZEN), daemon=True
        ).start()  # a hand-over may be under way
        response.success = not wrong
        response.message = wrong or "everything learned is forgotten; perception answers by the frozen model"
        return response

    # What the node says of itself

    def _announce(self, verdict: Verdict) -> None:
        values = {"accepted": str(verdict.accepted).lower(), "version": str(self._version + verdict.accepted)}
        values |= {name: f"{value:.4g} (limit {limit:.4g})" for name, (value, limit) in verdict.numbers.items()}
        summary = "accepted" if verdict.accepted else "; ".join(verdict.reasons)
        self._verdicts.publish(self._message("verdict", summary, values, warn=not verdict.accepted))
        self.get_logger().info(f"candidate {verdict}")

    def _on_tick(self) -> None:
        adapting = self._adapting
        if self._worker is not None and adapting is not None:
            self._give_again(adapting)
        values = {
            "state": "active" if self._worker else "inactive" if adapting else "unconfigured",
            "mode": self._config.mode,
            "steps": str(adapting.gradient.steps if adapting is not None and adapting.gradient is not None else 0),
            "paused": self._paused or "no",
            "version": str(self._live),
            "frames": str(self._frames),
            "incomplete": str(self._missed),
            "failed": str(self._trouble_count),
            "duty_cycle": f"{self._budget.spent:.3f}",
            **memory("cpu"),
        }
        if adapting is not None:
            companion = adapting.companion
            values |= {
                "remembered": f"{len(companion.learned)} of {self._config.objects}",
                "held_out": str(len(companion.held)),
                "waits_for": companion.waits_for or "nothing",
                "anchored": "yes" if companion.reference.helpful else "words alone answer",
            }
            counts = companion.learned.counts(len(adapting.classes.names))
            values |= {f"remembered.{n}": str(int(c)) for n, c in zip(adapting.classes.names, counts, strict=True)}
            values |= {f"refused.{reason}": str(count) for reason, count in sorted(companion.refused.items())}
        values["verdict"] = "none yet" if self._verdict is None else str(self._verdict)
        self._hold_limits()
        summary = (self._paused and f"paused: {self._paused}") or f"adapter version {self._live}"
        if not self._paused and self._served is not None and self._served not in self._mine:
            summary = (
                f"perception serves version {self._served}, not of this node: nothing is learned from its features"
            )
        self._diagnostics.publish(self._message("adaptation", summary, values, warn=bool(self._paused)))

    def _give_again(self, adapting: Adapting) -> None:
        """Hand over once more: after this node's restart, or perception's."""
        if self._paused or self._served is None or self._worker is None:
            return
        restart = self._restart
        if restart is not None and self._served == FROZEN:
            self._restart = None
            threading.Thread(target=self._set_bundle, args=restart, daemon=True).start()
        elif self._live != FROZEN and self._served == FROZEN and time.monotonic() - self._handed_s > 2:
            trained = adapting.gradient is not None
            path = adapting.store.latest(partial(_of, adapting.card, adapting.classes, trained))
            if path is not None:
                self._handed_s = time.monotonic()
                threading.Thread(target=self._set_bundle, args=(str(path), self._live), daemon=True).start()

    def _hold_limits(self) -> None:
        """Pause above the user's limits of power and memory, and go on below them."""
        over = self._budget.over(self._config.max_power_w, self._config.max_memory_mb)
        if over:
            self._pause(over)
        elif self._paused.startswith("limit"):
            self._paused = ""
            self.get_logger().info("below its limits again: adaptation goes on")

    def _message(self, what: str, summary: str, values: dict[str, str], warn: bool) -> DiagnosticArray:
        name = f"{self.get_fully_qualified_name().lstrip('/')}: {what}"
        return as_message(name, "", summary, values, self.get_clock().now().to_msg(), warn)

    def _log(self, adapting: Adapting, sighting: Sighting, reason: str) -> None:
        """One line a sighting: what was learned from and what was not, without any cloud."""
        if not self._config.learned_log:
            return
        path = Path(self._config.learned_log)
        try:
            log_sighting(path, sighting, adapting.classes.names[sighting.label], reason)
        except OSError as error:
            self._warn("log", f"cannot write {path}: {error}")

    def _work_failed(self, error: Exception) -> None:
        if rclpy.ok(context=self.context):
            self._trouble_count += 1
            self._warn(f"failure {type(error).__name__}", f"nothing learned from a frame: {sentence(error)}")

    def _warn(self, reason: str, said: str) -> None:
        held = self._throttle.passes(reason, self._config.warning_period_s)
        if held is not None:
            self.get_logger().warning(said + (f" ({held} more like it before)" if held else ""))


def _meaning(card: Card, classes: Descriptions) -> str:
    """What remembered features and labels mean."""
    return " ".join([card.checksum, *classes.names])


def reference_folder() -> Path:
    """Where references are kept, of all nodes of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipoint3d_ros" / "references"


def _of(card: Card, classes: Descriptions, trained: bool, path: Path) -> None:
    """Raises BundleError where a bundle is of another backbone or of other classes, or cannot be read; and, unless
    `trained` networks can be gone on with, where it has one."""
    meta = read_meta(path)
    if not trained and (meta["network"].get("tuning"), meta["network"].get("context")) != ("none", 0):
        raise BundleError(f"{path} has a trained network, which mode statistics cannot go on with")
    if meta["backbone"]["checksum"] != card.checksum or meta["classes"] != list(classes.names):
        raise BundleError(f"{path} is of another backbone or of other classes")


def main(arguments: Sequence[str] | None = None) -> int:
    """`ros2 run clipoint3d_ros adaptation_node`; SIGINT and SIGTERM end it cleanly."""
    os.nice(5)  # perception comes first
    return run("adaptation_node", (AdaptationNode,), arguments)


if __name__ == "__main__":
    sys.exit(main())
