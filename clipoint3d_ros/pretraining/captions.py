"""What a caption says: a class and words that are true of the object, its size among them, in varied wording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from clipoint3d_ros.clip.descriptions import NAME_TEMPLATES, Descriptions

Synonyms = Mapping[str, Sequence[str]]

_OPENINGS = (
    *NAME_TEMPLATES,
    "a point cloud of a {class}",
    "a {class}",
    "a depth image of a {class} on a table",
    "the {class}",
)
_NAMELESS = ("object", "thing")  # what a caption calls an object whose attributes alone are to tell it
_HEIGHTS = ("about {} tall", "{} high", "about {} high", "{} tall")
_LENGTHS = ("about {} long", "{} wide", "about {} across", "{} long")


def class_caption(classes: Descriptions, index: int, rng: np.random.Generator, synonyms: Synonyms) -> str:
    """One sentence that is true of every object of a class: its name or a synonym alone, or with a description."""
    name = _called(classes.names[index], rng, synonyms)
    told = classes.descriptions[index]
    if told and rng.random() < 0.5:
        description = told[int(rng.integers(len(told)))]
        return classes.template.replace("{class}", name).replace("{description}", description)
    return _opened(name, rng)


def object_caption(name: str, words: tuple[str, ...], size: str, rng: np.random.Generator, synonyms: Synonyms) -> str:
    """One sentence about one object: its class (in one of eight only "object"), and attributes, pose and size in
    random order and number.

    Args:
        name: the class.
        words: attributes, then the pose.
        size: its size in words; empty says nothing of it.
    """
    *attributes, pose = words
    count = int(rng.integers(1, len(attributes) + 1)) if attributes else 0
    chosen = [str(a) for a in rng.permutation(attributes)[:count]] if count else []
    if pose != "standing" or rng.random() < 0.2:
        chosen.append(pose)
    if size:
        chosen.insert(int(rng.integers(len(chosen) + 1)), size)
    called = str(rng.choice(_NAMELESS)) if chosen and rng.random() < 0.125 else _called(name, rng, synonyms)
    opening = _opened(called, rng)
    return f"{opening}, {', '.join(chosen)}" if chosen else opening


def size_phrase(dimensions: np.ndarray, rng: np.random.Generator) -> str:
    """A height or a length in words: "about 20 cm tall".

    Args:
        dimensions: (3,) metres: height, length, width.
    """
    upright = rng.random() < 0.5
    phrase = str(rng.choice(_HEIGHTS if upright else _LENGTHS))
    return phrase.format(_metric(float(dimensions[0 if upright else 1])))


def every_text(classes: Descriptions, words: Sequence[tuple[str, ...]], synonyms: Synonyms) -> Iterator[str]:
    """Texts that together hold every word a caption may have: the training's vocabulary."""
    names = [*classes.names, *_NAMELESS, *(s for name in classes.names for s in synonyms.get(name, ()))]
    yield from (o.replace("{class}", name) for o in _OPENINGS for name in names)
    yield from (classes.template.replace("{class}", n).replace("{description}", "") for n in names)
    yield from (d for told in classes.descriptions for d in told)
    yield from (f"a, {word}" for word in sorted({w for told in words for w in told}))
    yield from (p.format(_metric(size)) for p in (*_HEIGHTS, *_LENGTHS) for size in (0.12, 0.34, 0.56, 0.78, 0.9, 1.2))


def _called(name: str, rng: np.random.Generator, synonyms: Synonyms) -> str:
    others = synonyms.get(name, ())
    return str(rng.choice(list(others))) if others and rng.random() < 0.25 else name


def _opened(name: str, rng: np.random.Generator) -> str:
    return str(rng.choice(_OPENINGS)).replace("{class}", name)


def _metric(length: float) -> str:
    return f"{max(length * 100, 1):.0f} cm" if length < 1 else f"{length:.1f} m"
