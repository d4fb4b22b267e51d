"""What a table's methods learn from, adapt to, and are scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.datasets.domains import domain_key, read_domain
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.pretraining.config import fingerprint


@dataclass(frozen=True, eq=False)
class Protocol:
    """One column of a table: a source, a target, and the objects scored.

    name: of the column ("learn*", "modelnet → scannet").
    classes: what is to be told apart.
    source: gives the labelled source of a seed; its repr says which, and of files which state of them, for results
        on disk.
    target: what adaptation may see, unlabelled.
    scored: labelled; its labels are looked at in the table only.
    """

    name: str
    classes: Descriptions
    source: Callable[[int], Objects]
    target: Objects
    scored: Objects

    def __post_init__(self) -> None:
        if not len(self.scored):
            raise ValueError(
                f"nothing to score of '{self.name}': {self.scored.domain} has no object, or none left, of the classes "
                f"{', '.join(self.classes.names)}"
            )

    @cached_property
    def digest(self) -> str:
        """A short hash of the data, for results on disk; of the source's, only which it is."""
        told = hashlib.sha256()
        for objects in (self.target, self.scored):
            told.update(repr((objects.domain, len(objects), objects.up, objects.metric)).encode())
            eyes = () if objects.viewpoints is None else (objects.viewpoints,)
            for array in (*objects.clouds, objects.labels, *eyes):
                told.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return fingerprint(self.name, self.classes, repr(self.source), told.hexdigest())


@dataclass(frozen=True)
class DomainSource:
    """The labelled source of a seed, drawn from a domain: fresh shapes for each seed, the same files for all."""

    spec: str
    classes: Descriptions
    count: int

    def __repr__(self) -> str:
        told = f"spec={domain_key(self.spec)!r}, classes={self.classes!r}, count={self.count!r}"
        return f"{type(self).__name__}({told})"

    def __call__(self, seed: int) -> Objects:
        return read_domain(self.spec, self.classes, count=self.count, seed=seed)


def scenes_protocol(
    classes: Descriptions, folder: str, adapt_on: str, score_on: str, source: str = "procedural", count: int = 96
) -> Protocol:
    """Clean shapes → a folder of real scenes.

    Args:
        classes: what is to be told apart.
        folder: of the scenes.
        adapt_on, score_on: globs over scene names, separated by commas.
        source: a domain, as `read_domain` takes it.
        count: source objects of each class: the most that are asked for, shots and probe together.
    """
    target = read_domain(f"scenes:{folder}:{adapt_on}", classes, count=0, seed=0)
    scored = read_domain(f"scenes:{folder}:{score_on}", classes, count=0, seed=0).labelled()
    return Protocol(adapt_on, classes, DomainSource(source, classes, count), target.unlabelled(), scored)


def halves_protocols(
    classes: Descriptions, folder: str, adapt_on: str, score_on: str, source: str = "procedural", count: int = 96
) -> tuple[Protocol, Protocol]:
    """The same with half of the scored scenes among those adapted to, scored on the other half; both ways round."""
    target = read_domain(f"scenes:{folder}:{adapt_on}", classes, count=0, seed=0)
    scored = read_domain(f"scenes:{folder}:{score_on}", classes, count=0, seed=0)
    made = []
    for half in (0, 1):
        own = scored.scenes % 2 == half
        joined = join(target, scored.take(own)).unlabelled()
        name = f"{adapt_on} and {('even', 'odd')[half]} scenes of {score_on}"
        made.append(Protocol(name, classes, DomainSource(source, classes, count), joined, scored.take(~own).labelled()))
    return made[0], made[1]


def domains_protocol(classes: Descriptions, kind: str, root: str, source: str, target: str, count: int) -> Protocol:
    """One domain of PointDA-10 or GraspNetPC-10 to another: trained on their train splits, scored on the target's test
    split."""
    seen = read_domain(f"{kind}:{root}:{target}", classes, count=0, seed=0)
    scored = read_domain(f"{kind}:{root}:{target}", classes, count=0, seed=0, split="test")
    labelled = DomainSource(f"{kind}:{root}:{source}", classes, count)
    return Protocol(f"{source} → {target}", classes, labelled, seen.unlabelled(), scored.labelled())


def join(first: Objects, second: Objects) -> Objects:
    """Both domains' objects as one, scenes kept apart.

    Raises:
        ValueError: other classes, another direction of up, or viewpoints of one only.
    """
    eyes = None
    if (first.classes, first.up, first.metric) != (second.classes, second.up, second.metric) or (
        (first.viewpoints is None) != (second.viewpoints is None)
    ):
        raise ValueError(f"{first.domain} and {second.domain} differ in classes, frame or unit and cannot be joined")
    if first.viewpoints is not None and second.viewpoints is not None:
        eyes = np.concatenate([first.viewpoints, second.viewpoints])
    return Objects(
        f"{first.domain} and {second.domain}",
        first.classes,
        (*first.clouds, *second.clouds),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.scenes, second.scenes + first.scenes.max(initial=-1) + 1]),
        first.up,
        eyes,
        first.metric,
    )
