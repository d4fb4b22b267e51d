"""Bringing perception to serve what is wanted of it: given, given again where it did not answer, never against
somebody else's choice.

Perception answers through the executor of the node that asks, so whoever keeps that busy must not wait here: `errand`
runs what asks in a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import ParameterEvent

from clipoint3d_ros.adaptation.store import Store
from clipoint3d_ros.clip.bundle import read_meta
from clipoint3d_ros.nodes.hand_over import HandOver, Theirs, by_others
from clipoint3d_ros.nodes.versions import FROZEN, Versions

_AGAIN_S = 2.0  # from one try to the next


class Succession:
    """Which version answers next.

    Attributes:
        versions: made, wanted, live. hand: by which perception is asked.
    """

    def __init__(
        self,
        node: Any,
        perception: str,
        idle: Callable[[], object],
        left: Callable[[str], object],
        trouble: Callable[[str], object],
    ) -> None:
        """
        Args:
            node: through which perception is asked. perception: its name.
            idle: whether no adapter may be handed over now; the frozen model always may.
            left: told, in words, of a choice of somebody else's that was found at perception.
            trouble: told why something was not handed over, and "" once something was.
        """
        self.versions, self.hand = Versions(), HandOver(node, perception)
        self._node, self._idle, self._left, self._trouble = node, idle, left, trouble
        self._theirs: str | None = None  # the bundle that somebody else gave perception since the last try from here
        self._tried_s = 0.0
        self._errand = threading.Thread()

    def address(self, perception: str) -> None:
        """Ask the node of that name from now on."""
        if self.hand.perception != perception:
            self.hand.close()
            self.hand = HandOver(self._node, perception)

    def errand(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do something that asks perception in a thread."""
        self._errand = threading.Thread(target=work, args=arguments, daemon=True)
        self._errand.start()

    def give(self, wanted: tuple[str, int]) -> bool:
        """Set perception's `bundle` to what is wanted, (path, version); whether perception took it.

        Where perception does not answer it is tried again by `go_on`, and so is an adapter that is wanted in a pause.
        An adapter that crosses with a bundle of somebody else's gives way to it.
        """
        (path, version), self._theirs, self._tried_s = wanted, None, time.monotonic()
        answer = self.hand.give(path, lambda: self._may(wanted))
        if self._theirs is not None and not answer.why:
            if self.hand.given() == path:  # theirs came first, and was overridden
                self.hand.give(self._theirs)
            return False
        what = f"adapter version {version}" if version else "the frozen model"
        if answer.why:
            if not self._may(wanted):
                return False
            if answer.decided:
                self.versions.refuse(wanted)
            self._trouble(f"{what} was not handed over: {answer.why}")
            return False
        self._trouble("")
        self.versions.take(version)
        self._node.get_logger().info(f"perception answers by {what}")
        return True

    def go_on(self, store: Store, latest: Callable[[], Path | None]) -> None:
        """Hand over once more: after this node's restart, or perception's, and what perception has not answered for.

        Args:
            store: of this node's bundles. latest: the newest of them that can be handed over.
        """
        versions = self.versions
        waits = time.monotonic() - self._tried_s < _AGAIN_S
        if waits or versions.served is None or self.hand.busy or self._errand.is_alive():
            return
        if versions.unsure and (versions.pending is not None or versions.restart is None or self._idle()):
            self.errand(self._find_out, store)
        elif versions.pending is not None:
            if self._may(versions.pending):
                self.errand(self.give, versions.pending)
        elif versions.restart is not None and not self._idle():
            self.errand(self._take_up, store, *versions.restart)
        elif versions.live != FROZEN and versions.served == FROZEN and (path := latest()) is not None:
            self.errand(self.give, versions.want(str(path), int(read_meta(path)["version"])))

    def _may(self, wanted: tuple[str, int]) -> bool:
        """Whether this is still wanted, and may be given now."""
        return self.versions.pending == wanted and (wanted[1] == FROZEN or not self._idle())

    def set_by_others(self, event: ParameterEvent) -> Theirs | None:
        """What somebody else has changed of perception, if they have; nothing is given against it."""
        theirs = self.hand.set_by_others(event)
        if theirs is not None and theirs.bundle is not None:
            self._theirs = theirs.bundle
            self.versions.leave()
        return theirs

    def take_back(self, latest: Callable[[], Path | None]) -> None:
        """Somebody else's bundle gives way to the newest of this node's, or else to the frozen model."""
        path = latest()
        wanted = ("", FROZEN) if path is None else (str(path), int(read_meta(path)["version"]))
        self.errand(self.give, self.versions.want(*wanted))

    def _find_out(self, store: Store) -> None:
        """Whose bundle it is that perception serves.

        One of this node's that it cannot go on from, as after a change of classes, gives way to the frozen model.
        """
        self._tried_s = time.monotonic()
        versions, served = self.versions, self.versions.served
        there = self.hand.given()
        if not there or not versions.unsure or versions.served != served:
            return  # asked again at the next tick; or something newer is there
        if not store.holds(there):
            versions.restart = None
            versions.leave()
            self._left(by_others(there))
            return
        versions.unsure = False
        if versions.pending is not None or versions.restart is not None:
            return  # the next tick sees to these
        if versions.strange:
            self.give(versions.want("", FROZEN))
        elif served:
            versions.take(served)

    def _take_up(self, store: Store, bundle: Path, version: int) -> None:
        """After this node's restart: perception gets what was live, unless somebody else gave it a bundle meanwhile.

        It may still serve an earlier version, where this node was killed between writing one and handing it over.
        """
        self._tried_s = time.monotonic()
        there = self.hand.given()
        if there is None or self.versions.restart != (bundle, version):
            return  # asked again at the next tick; or something newer is there
        if there == str(bundle):
            self.versions.take(version)
        elif there and not store.holds(there):
            self.versions.restart = None
            self.versions.leave()
            self._left(by_others(there))
        else:
            self.give(self.versions.want(str(bundle), version))
