"""What the adaptation node works with, made from its parameters and from what it kept on disk when it last ran."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from clipoint3d_ros.adaptation.companion import Candidate, Companion
from clipoint3d_ros.adaptation.config import load_recipe
from clipoint3d_ros.adaptation.gradient import Gradient
from clipoint3d_ros.adaptation.memory import Memory
from clipoint3d_ros.adaptation.memory_file import MemoryFileError
from clipoint3d_ros.adaptation.reference import Reference, kept_reference, words_alone
from clipoint3d_ros.adaptation.store import Store, absent, ram_folder
from clipoint3d_ros.clip.backbone import Backbone, Card, load_backbone
from clipoint3d_ros.clip.bundle import (
    Adapter,
    BundleError,
    check_backbone,
    load_network,
    read_meta,
    save_bundle,
    save_statistics,
)
from clipoint3d_ros.clip.descriptions import Descriptions, read_classes
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.clip.text import class_features
from clipoint3d_ros.datasets.domains import domain_key, read_domain
from clipoint3d_ros.datasets.objects import LacksClasses, Objects
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.versions import FROZEN, Versions
from clipoint3d_ros.resources import config_file

_LONGEST = 1000  # characters of a sentence that is read from disk


class Adapting(NamedTuple):
    """Everything that belongs to one backbone and one list of classes.

    folder: of what outlives the node.
    backbone, gradient: where LoRA (and prompts, by the recipe) is trained as well, else None: its weights are needed
        no more.
    claims: files whose locks keep the folders from a second node. disk: one thread writes there at a time.
    """

    classes: Descriptions
    card: Card
    companion: Companion
    store: Store
    folder: Path
    disk: threading.Lock
    backbone: Backbone | None = None
    gradient: Gradient | None = None
    claims: tuple[TextIO, ...] = ()

    def close(self) -> None:
        """Leave the folders to another node."""
        for claim in self.claims:
            claim.close()

    def latest(self, backbone: Backbone | None = None) -> Path | None:
        """The newest bundle that this can go on with; with a backbone, one whose weights have been read, too. None
        without a probe set: nothing would tell when it fails."""
        if self.companion.reference.probe is None:
            return None

        def usable(path: Path) -> None:
            self._check(path)
            if backbone is not None:
                load_network(path, backbone)

        return self.store.latest(usable)

    def write(self, version: int, parent: int, candidate: Candidate, network: Network | None) -> Path:
        """Put an accepted candidate among the live bundles; its folder.

        Args:
            version, parent: its number, and that of what is live before it.
            network: whose features its statistics are of; None for the frozen one.

        Raises:
            StoreError, BundleError: in words, where it cannot be written.
        """
        told: dict[str, Any] = {
            "version": version,
            "parent": parent,
            "probe": {name: value for name, (value, _) in candidate.verdict.numbers.items()},
            "training": {"by": "adaptation", "objects": len(self.companion.learned)},
            "temperature": 1.0,  # the statistics' weights calibrate
            "classes": self.classes,
            "statistics": candidate.statistics,
        }
        if network is not None and self.backbone is not None:
            adapter = Adapter(network, **told)
            write = partial(save_bundle, network=network, frozen=self.backbone, adapter=adapter)
        else:
            write = partial(save_statistics, card=self.card, **told)
        return self.store.put(version, write)

    def save(self, clouds: bool, network: Network | None) -> None:
        """Copy the live bundle and the memories to disk. OSError or ValueError in words where it cannot.

        network: whose features are remembered; None for the frozen one.
        """
        with self.disk:
            self.store.persist()  # which says in words where the folder cannot be made
            self.folder.mkdir(parents=True, exist_ok=True)
            for memory, path in self._memories():
                memory.save(path, clouds, self._meaning(network))

    def give_up(self) -> None:
        """Remove bundles, live and on disk: the next start does not go on from them. StoreError where it cannot."""
        with self.disk:
            self.store.clear()

    def restore(self, network: Network | None, warn: Callable[[str], object]) -> None:
        """Take over what was remembered of that network's features, where it can be; `warn` is told where not."""
        for memory, path in self._memories():
            if not os.path.isfile(path):  # nor where nobody may look
                continue
            try:
                memory.restore(path, self._meaning(network))
                if self.gradient is not None and any(s.cloud is None for s in memory.sightings()):
                    memory.clear()  # saved without clouds, which tier 2 learns from
            except MemoryFileError as error:
                warn(f"what was remembered is not taken over: {error}")

    def remove(self) -> None:
        """Remove bundles and memories, live and on disk. OSError in words where it cannot."""
        with self.disk:  # a copy that is being written ends first
            self.store.clear()
            for _, path in self._memories():
                _remove(path)

    def keep_pause(self, asked: str, left: str) -> None:
        """Keep for the next start why nothing may be learned or handed over. OSError where it cannot.

        Args:
            asked, left: what the user asked for, and what somebody else chose; "" where nothing.
        """
        if asked or left:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self._pause.with_suffix(".part")  # a kill leaves the file of before, or this one whole
            part.write_text(f"{asked}\n{left}")
            part.replace(self._pause)
        else:
            _remove(self._pause)

    def kept_pause(self) -> tuple[str, str]:
        """What `keep_pause` kept: what was asked, what was chosen."""
        with suppress(OSError, ValueError):
            asked, _, left = self._pause.read_text()[:_LONGEST].partition("\n")
            return asked, left
        return "", ""

    @property
    def _pause(self) -> Path:
        return self.folder / "paused.txt"

    def _meaning(self, network: Network | None) -> str:
        """What remembered features and labels mean."""
        return " ".join([self.card.checksum, *self.classes.names, *([] if network is None else [_digest(network)])])

    def _memories(self) -> Iterator[tuple[Memory, Path]]:
        for memory, name in ((self.companion.learned, "learned"), (self.companion.held, "held")):
            yield memory, self.folder / f"{name}.safetensors"

    def _check(self, path: Path) -> None:
        """Raises BundleError where a bundle is of another backbone or of other classes, or cannot be read; and, unless
        trained networks can be gone on with, where it has one."""
        meta = read_meta(path)
        if self.gradient is None and (meta["network"].get("tuning"), meta["network"].get("context")) != ("none", 0):
            raise BundleError(f"{path} has a trained network, which mode statistics cannot go on with")
        check_backbone(meta, self.card, path)
        if meta["classes"] != list(self.classes.names):
            raise BundleError(f"{path} is of other classes")


def load(
    config: AdaptationConfig,
    name: str,
    versions: Versions,
    warn: Callable[[str], object],
    tell: Callable[[str], object],
) -> tuple[Adapting, str]:
    """Load the model and the reference, or gather it, and go on from what was accepted last.

    Args:
        name: the node's, for folders of its own.
        versions: are set to what was found.
        warn: told what of an earlier life is not taken over, and why.
        tell: told what takes long.

    Returns:
        What the node works with, and a sentence about it.

    Raises:
        ValueError, OSError: in words, where something cannot be loaded.
    """
    folder = Path(config.state_folder) if config.state_folder else Path.home() / ".ros" / "clipoint3d_ros" / name
    live = Path(config.live_folder) if config.live_folder else ram_folder("clipoint3d_ros") / name
    claims = claimed(folder, live)
    try:
        return _load(config, folder, live, claims, versions, warn, tell)
    except BaseException:
        for claim in claims:
            claim.close()
        raise


def claimed(*folders: Path) -> tuple[TextIO, ...]:
    """Files that lock folders for this process for as long as they are open: two nodes would take each other's bundles
    for their own. However a process ends, its locks go with it.

    Raises:
        OSError: another node has one of them, in words.
    """
    claims: list[TextIO] = []
    for folder in folders:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            claims.append((folder.parent / f".{folder.name}.in_use").open("w"))
            fcntl.flock(claims[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            for claim in claims:
                claim.close()
            raise OSError(
                f"another adaptation node of this name uses {folder}; give each robot on this machine its own "
                "state_folder and live_folder, or a namespace"
            ) from error
        except OSError:
            pass  # without locks, or not to be written, of which saving tells: one node is then the user's to see to
    return tuple(claims)


def _load(
    config: AdaptationConfig,
    folder: Path,
    live: Path,
    claims: tuple[TextIO, ...],
    versions: Versions,
    warn: Callable[[str], object],
    tell: Callable[[str], object],
) -> tuple[Adapting, str]:
    classes = read_classes(config.class_source)
    backbone = load_backbone(
        config.backbone or None, config.pretrained or None, config.device or None, patches=config.patches
    )
    text, scale = class_features(backbone, classes), backbone.scale * backbone.temperature
    try:
        reference = _reference(config, backbone, classes, tell)
    except LacksClasses as error:
        reference = words_alone(text, scale, backbone.temperature, str(error))
        warn(_unvouched(config.mode, str(error)))
    gradient = None
    if config.mode == "gradient" and reference.probe is not None:
        source = read_domain(config.source, classes, count=config.shots + config.probe, seed=0)
        recipe = load_recipe(config.recipe or config_file("train/online.yaml"))
        gradient = Gradient(backbone, classes, source, recipe, config.reference)
    companion = Companion(reference, text, scale, config.companion)
    store = Store(live, folder / "bundles", config.keep)
    kept = None if gradient is None else backbone
    adapting = Adapting(classes, backbone.card, companion, store, folder, threading.Lock(), kept, gradient, claims)
    versions.begin(max(store.versions(), default=FROZEN))
    latest = adapting.latest(backbone)
    if latest is not None:
        _go_on(adapting, latest, backbone, versions, warn)
    adapting.restore(versions.network, warn)
    told = "gain on the probe set" if reference.helpful else "gain nothing certain on the probe set, and stay unused"
    if reference.missing:
        told = "are missing, and words alone answer"
    going = "no version yet" if latest is None else f"going on from {latest.name}"
    return adapting, (
        f"{backbone.name}: class statistics of {config.source} {told}; {len(companion.learned)} objects remembered, "
        f"{going}"
    )


def _reference(
    config: AdaptationConfig, backbone: Backbone, classes: Descriptions, tell: Callable[[str], object]
) -> Reference:
    """Of the source, kept or gathered. LacksClasses where that has too few objects of some class."""
    count = config.shots + config.probe

    def read_source() -> Objects:
        source = read_domain(config.source, classes, count=count, seed=0)
        tell(
            f"looking at {count} objects of each class of '{config.source}', which takes minutes; once for this model "
            f"and these classes, kept in {reference_folder()}"
        )
        return source

    told = domain_key(config.source)
    return kept_reference(reference_folder(), backbone, classes, read_source, told, config.reference)


def _unvouched(mode: str, why: str) -> str:
    """What a companion without a probe set does, and the way out."""
    trained = ", and mode gradient trains nothing" if mode == "gradient" else ""
    return (
        f"there is no probe set: {why}. Objects are remembered, and candidates of class statistics judged, but none "
        f"goes live, so words alone answer{trained}; set 'source' to a folder of CAD that has these classes, as "
        "folders:FOLDER (docs/training.md)"
    )


def _remove(path: Path) -> None:
    """A file, where it is there; so it is not where its folder could never be made."""
    if not absent(path):
        path.unlink()


def _digest(network: Network) -> str:
    """What tells a trained network from any other."""
    told = hashlib.sha256()
    for name, tensor in sorted(network.adapter().items()):
        told.update(name.encode() + tensor.cpu().numpy().tobytes())
    return told.hexdigest()


def reference_folder() -> Path:
    """Where references are kept, of all nodes of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipoint3d_ros" / "references"


def _go_on(
    adapting: Adapting, latest: Path, backbone: Backbone, versions: Versions, warn: Callable[[str], object]
) -> None:
    """From what was accepted last when the node ran before."""
    network, adapter = load_network(latest, backbone)
    companion, gradient = adapting.companion, adapting.gradient
    if adapter.statistics is None:
        return
    if adapter.network.config.frozen:
        companion.live = adapter.statistics
        versions.go_on(latest, adapter.version, None)
        return
    assert gradient is not None  # else it is not usable
    try:
        gradient.adopt(network)
    except ValueError as error:
        warn(f"training begins anew: {error}")
        return
    again = gradient.candidate()
    companion.adopt(again.reference, again.text, adapter.statistics)
    versions.go_on(latest, adapter.version, network)
