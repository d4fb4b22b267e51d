"""Which adapter version is made, given and served, and of which ones features may be learned from."""

from __future__ import annotations

from pathlib import Path

from clipoint3d_ros.clip.network import Network

FROZEN = 0


class Versions:
    """One companion's count of its versions.

    Attributes:
        made: the last one written. live: the one perception was given last, and took.
        pending: (bundle, version) that perception is to be given and has not taken yet; ("", FROZEN): the frozen one.
        served: the one perception says it serves; None until it has.
        restart: (bundle, version) that was live when the node last ran, until perception has been asked what it serves.
        theirs: what perception serves is somebody else's choice.
        unsure: perception says a number that was not given to it just now: whose bundle that is, it must be asked.
        network: the trained one whose features are learned from, before its merge; None for the frozen one.
    """

    def __init__(self) -> None:
        self.made = self.live = FROZEN
        self.served: int | None = None
        self.pending: tuple[str, int] | None = None
        self.restart: tuple[Path, int] | None = None
        self.network: Network | None = None
        self.unsure = False
        self._known = {FROZEN}
        self._awaited: int | None = None  # taken, and perception will still say so
        self.theirs = False

    @property
    def known(self) -> frozenset[int]:
        """Those whose features are of the network that is learned from."""
        return frozenset(self._known & {FROZEN} if self.theirs or self.unsure else self._known)

    @property
    def strange(self) -> bool:
        """Whether perception serves one whose features are another network's."""
        return self.served is not None and not self.unsure and self.served not in self.known

    def begin(self, made: int) -> None:
        """Count on from the highest version that was found; nothing is live, the frozen features are learned from."""
        self.made = made
        self.leave()
        self.restart, self.theirs = None, False
        self.unsure = self.served not in (None, FROZEN)
        self.give_up()

    def go_on(self, bundle: Path, version: int, network: Network | None) -> None:
        """From what was accepted in an earlier life."""
        self.restart, self.network = (bundle, version), network
        self._known = {version} if network is not None else {FROZEN, version}

    def put(self, version: int) -> None:
        """A version of the network that is learned from is written."""
        self.made = version
        self._known.add(version)

    @property
    def wanted(self) -> int:
        """The one that is live, or is to be."""
        return self.live if self.pending is None else self.pending[1]

    def want(self, bundle: str, version: int) -> tuple[str, int]:
        """Perception is to be given this, whatever it was to be given before."""
        self.pending = (bundle, version)
        return self.pending

    def take(self, version: int) -> None:
        """Perception took it."""
        self.live, self.restart, self.theirs, self.unsure = version, None, False, False
        self._awaited = version if self.served != version else None
        if self.pending is not None and self.pending[1] == version:
            self.pending = None

    def refuse(self, given: tuple[str, int]) -> None:
        """Perception will not have it: what it serves stays."""
        if self.restart is not None and (str(self.restart[0]), self.restart[1]) == given:
            self.restart = None
        if self.pending == given:
            self.pending = None

    def leave(self) -> None:
        """What perception serves is somebody else's choice, and nothing is given against it.

        Until it takes a version of this companion again its number says nothing: others count from 1, too.
        """
        self.live, self.pending, self.theirs, self.unsure = FROZEN, None, True, False

    def follow(self, network: Network) -> None:
        """Learn from a trained network's features from now on; no version so far has them."""
        self.network, self._known = network, set()

    def give_up(self) -> None:
        """Learn from the frozen model's features again."""
        self.network, self._known = None, {FROZEN}

    def say(self, version: int) -> None:
        """Perception says what it serves: after every change, and when it starts.

        Others' versions count from 1 as these do, so a number says who made a bundle only right after it was given.
        """
        awaited, self._awaited = self._awaited, None
        self.served = version
        if self.pending is not None and self.pending[1] == version:
            self.take(version)
        else:
            self.unsure = version not in (FROZEN, awaited) and not self.theirs
