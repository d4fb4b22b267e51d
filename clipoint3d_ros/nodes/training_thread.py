"""Tier 2 in a thread of its own: a step at a time, within the budget, and behind perception.

The thread's own scheduling priority is low wherever it runs. Where perception is in the same process, a step is held
back while that has a frame in hand as well: the two share torch's threads, and the interpreter.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipoint3d_ros.adaptation.budget import Budget
from clipoint3d_ros.adaptation.companion import Candidate, Companion
from clipoint3d_ros.adaptation.gradient import Gradient, Trained
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig

_IDLE_S = 0.5  # from one look for work to the next
_AFTER_FAILURE_S = 1.0  # until it is tried again
_HELD_BACK_S = 1.0  # at most, from one piece of work to the next: else busy perception would end learning for good
_GLANCE_S = 0.002  # from one look whether perception is at work to the next
_NICE = 10  # of the thread; the companion's process has 5


@dataclass
class TrainingThread:
    """Step after step, as far as the budget allows; every `burst` steps a candidate.

    gradient: it alone touches this, once started. companion: which `lock` guards.
    budget: what it spends from.
    config: as it is now; `burst` and `least_objects` may change.
    idle: whether nothing may be learned now.
    accepted: told of a network that the companion accepted, while the lock is held.
    concluded: told of every candidate. failed: told of what failed; the thread goes on all the same.
    cores: that a step takes: what torch may use on a CPU, or 1 beside a GPU. work: the clock of its seconds.
    yields: whether perception has a frame in hand, where that can be known: work is held back then, for a second.
    """

    gradient: Gradient
    companion: Companion
    lock: threading.Lock
    budget: Budget
    config: Callable[[], AdaptationConfig]
    idle: Callable[[], bool]
    accepted: Callable[[Network], None]
    concluded: Callable[[Candidate], None]
    failed: Callable[[Exception], None]
    cores: int = 1
    work: Callable[[], float] = time.thread_time
    yields: Callable[[], bool] = lambda: False
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _anew: threading.Event = field(default_factory=threading.Event)
    _astray: bool = False  # the weights are to fall back before another step

    def start(self) -> None:
        """Go on training, after a step that has outlived its stop."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop, self._thread), name="tier 2", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End after the step in hand, of which nothing comes any more; False where that outlasts the time-out."""
        self._stop.set()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def restart(self) -> None:
        """From the frozen model again; nothing comes of the step in hand."""
        self._anew.set()

    @property
    def thread(self) -> int | None:
        """The system's number of the thread, by which its time is told."""
        return None if self._thread is None else self._thread.native_id

    def _run(self, stop: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        step_back()  # before torch's first parallel step: its threads take this one's priority
        while not stop.is_set():
            try:
                wait_s = self._turn(stop)
            except Exception as error:  # whatever fails, and setting it right too, must not end the thread
                self._astray = True
                self.failed(error)
                wait_s = _AFTER_FAILURE_S
            stop.wait(wait_s)

    def _turn(self, stop: threading.Event) -> float:
        """A step, where one may be taken, and every `burst` steps a candidate; seconds to wait for the next turn."""
        self._set_right()
        if self.idle():
            return _IDLE_S
        if wait_s := self.budget.wait(_IDLE_S):
            return wait_s
        self._hold_back(stop)
        self._ask()
        seen = self.companion.learned.sightings()
        if len(seen) < self.config().least_objects:
            return _IDLE_S
        with self.budget.spending(self.cores, self.work):
            self.gradient.learn(seen, self.companion.calibrated(seen))
        if self.gradient.steps % self.config().burst == 0 and not stop.is_set():
            self._hold_back(stop)
            candidate = self._candidate(stop)
            if candidate is not None:
                self.concluded(candidate)
        return 0.0

    def _hold_back(self, stop: threading.Event) -> None:
        """Let perception finish the frame in hand; go on after `_HELD_BACK_S` however busy it is."""
        end = time.monotonic() + _HELD_BACK_S
        while self.yields() and time.monotonic() < end and not stop.wait(_GLANCE_S):
            pass

    def _set_right(self) -> None:
        """Leave weights that were reset or led astray; where that fails it is tried again before any step."""
        if self._anew.is_set():
            self.gradient.restart()
            self._anew.clear()
            self._astray = False
        if self._astray:
            self.gradient.fall_back()
            self._astray = False

    def _ask(self) -> None:
        """Ask the frozen model of held-out objects that another network saw; perception's sightings do not wait."""
        unasked = self.companion.unasked
        if unasked:
            with self.budget.spending(self.cores, self.work):
                logits = self.gradient.frozen(unasked)
            with self.lock:
                self.companion.answered(unasked, logits)

    def _candidate(self, stop: threading.Event) -> Candidate | None:
        """Judge the weights' running mean; None while too little is remembered to judge by, or where that has been
        overtaken by a stop or a reset.

        What is remembered is looked at before the lock is taken: perception's sightings do not wait for a vision tower.
        """
        if self.companion.waits_for:
            return None
        with self.budget.spending(self.cores, self.work):
            trained = self.gradient.candidate()
            features: dict[Sighting, Tensor] = {}
            self._look(trained, features, *self._remembered())
            with self.lock:
                if stop.is_set() or self._anew.is_set() or self.companion.waits_for:
                    return None
                learned, held = self._remembered()
                self._look(trained, features, learned, held)  # those that came meanwhile
                rows = [_rows(features, part, trained.text.shape[1]) for part in (learned, held)]
                candidate = self.companion.consider(trained.reference, trained.text, *rows)
                if candidate.verdict.accepted:
                    self.gradient.keep()
                    self.accepted(trained.network)
                else:
                    self._astray = True
        return candidate

    def _remembered(self) -> tuple[list[Sighting], list[Sighting]]:
        return self.companion.learned.sightings(), self.companion.held.sightings()

    def _look(self, trained: Trained, features: dict[Sighting, Tensor], *parts: Sequence[Sighting]) -> None:
        """Add the features of those that have none yet."""
        fresh = [sighting for part in parts for sighting in part if sighting not in features]
        if fresh:
            features.update(zip(fresh, self.gradient.features(trained.served, fresh), strict=True))


def step_back(niceness: int = _NICE) -> None:
    """Lower this thread's scheduling priority, where the system has one for a thread (Linux); it never raises it."""
    thread = threading.get_native_id()
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def _rows(features: dict[Sighting, Tensor], sightings: Sequence[Sighting], width: int) -> Tensor:
    """(M, D) of sightings in their order."""
    return torch.stack([features[each] for each in sightings]) if sightings else torch.zeros(0, width)
