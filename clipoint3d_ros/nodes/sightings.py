"""From perception's messages of one stamp to what the companion may remember, and a log of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.adaptation.companion import Companion
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.nodes.evidence import COLUMNS, read_rows
from clipoint3d_ros.nodes.stamps import Watch, nanoseconds
from clipoint3d_ros.recognition.recognition import UNKNOWN
from clipoint3d_ros.recognition.tracks import Tracker

HERE = (np.eye(3), np.zeros(3))  # no move
_LOG_BYTES = 50 << 20  # of a log, which then starts again beside its predecessor


class Parts(NamedTuple):
    """What perception says of one stamp: a Detection3DArray and Images of its rows; clouds where these are needed."""

    detections: Any
    features: Any
    evidence: Any
    objects: Any = None


class Gathering:
    """Messages that wait for the others of their stamp; the oldest leave when more than `depth` stamps wait.

    missed: stamps that left incomplete.
    """

    def __init__(self, names: Collection[str], depth: int = 20, jumped: Callable[[], object] = lambda: None) -> None:
        """names: of the fields of `Parts` that make a frame. jumped: told of every jump back in time."""
        self._names, self._depth, self._jumped = frozenset(names), depth, jumped
        self._waiting: dict[int, dict[str, Any]] = {}
        self._watch = Watch()
        self.missed = 0

    def add(self, name: str, message: Any) -> Parts | None:
        """The frame that this message completes, if it does. A jump back in time forgets all that waits: a bag that
        starts again has the same stamps."""
        stamp = nanoseconds(message.header.stamp)
        if name == "detections" and self._watch.jumped_back(stamp):
            self._waiting.clear()
            self._jumped()
        parts = self._waiting.setdefault(stamp, {})
        parts[name] = message
        if parts.keys() == self._names:
            return Parts(**self._waiting.pop(stamp))
        while len(self._waiting) > self._depth:
            self._waiting.pop(next(iter(self._waiting)))
            self.missed += 1
        return None


def sightings(
    parts: Parts,
    names: tuple[str, ...],
    companion: Companion,
    tracker: Tracker,
    versions: Collection[int],
    place: tuple[np.ndarray, np.ndarray] = HERE,
) -> list[Sighting]:
    """The objects of one stamp that were answered, as one of the classes or as unknown, by a model whose features the
    companion knows.

    Args:
        names: the classes.
        tracker: sees every object of the stamp.
        versions: of adapters that leave the features as the companion takes them.
        place: R (3, 3) and t (3,) that take the detections' frame into the one in which objects are followed.

    Raises:
        ValueError: the parts do not belong together, or are of another backbone; the message says what to do.
    """
    features, evidence = read_rows(parts.features), read_rows(parts.evidence)
    detections = parts.detections.detections
    if not len(features) == len(evidence) == len(detections) or evidence.shape[1:] != (len(COLUMNS),):
        raise ValueError(
            f"perception sent {len(detections)} detections, {len(features)} features and evidence of shape "
            f"{evidence.shape}; it must be of the same version of clipoint3d_ros as this node"
        )
    if not detections:
        return []
    text = companion.text
    if features.shape[1] != text.shape[1]:
        raise ValueError(
            f"perception's features have {features.shape[1]} channels, this node's backbone {text.shape[1]}; give "
            "both nodes the same backbone"
        )
    clouds = None if parts.objects is None else read_rows(parts.objects).reshape(len(detections), -1, 3)
    stamp_s = nanoseconds(parts.detections.header.stamp) / 1e9
    boxes = [detection.bbox for detection in detections]
    centres = np.reshape([(b.center.position.x, b.center.position.y, b.center.position.z) for b in boxes], (-1, 3))
    sizes = np.reshape([(b.size.x, b.size.y, b.size.z) for b in boxes], (-1, 3))
    turn, shift = place
    tracks = tracker.update(stamp_s, [d.id for d in detections], centres @ turn.T + shift, sizes)
    logits = companion.scale * features @ text.numpy().T
    found = []
    for row, (detection, track) in enumerate(zip(detections, tracks, strict=True)):
        told = dict(zip(COLUMNS, evidence[row].tolist(), strict=True))
        name = detection.results[0].hypothesis.class_id if detection.results else ""
        if name not in (*names, UNKNOWN) or int(told["version"]) not in versions:
            continue  # of classes that have just changed, or by a model whose features are others
        found.append(
            Sighting(
                stamp_s=stamp_s,
                track=track,
                id=detection.id,
                label=-1 if name == UNKNOWN else names.index(name),
                feature=features[row],
                logits=logits[row],
                entropy=told["entropy"],
                agreement=told["agreement"],
                familiarity=told["familiarity"],
                points=int(told["points"]),
                elevation=told["elevation"],
                distance=told["distance"],
                frozen=text is companion.frozen_text,
                cloud=None if clouds is None else clouds[row],
            )
        )
    return found


def log_sighting(path: Path, sighting: Sighting, name: str, reason: str) -> None:
    """Add one line to a log: what was learned from, and what was not and why; no clouds. OSError where it cannot."""
    line = {
        "stamp": sighting.stamp_s,
        "id": sighting.id,
        "track": sighting.track,
        "class": name,
        "entropy": round(sighting.entropy, 4),
        "agreement": round(sighting.agreement, 4),
        "familiarity": round(sighting.familiarity, 4),
        "points": sighting.points,
        "kept": not reason,
        "reason": reason,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
