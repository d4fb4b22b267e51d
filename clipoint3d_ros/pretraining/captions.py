"""What a caption says: a class and words that are true of the object, in varied wording."""

from __future__ import annotations

import numpy as np

from clipoint3d_ros.clip.descriptions import NAME_TEMPLATES, Descriptions

_OPENINGS = (
    *NAME_TEMPLATES,
    "a point cloud of a {class}",
    "a {class}",
    "a depth image of a {class} on a table",
    "the {class}",
)


def class_caption(classes: Descriptions, index: int, rng: np.random.Generator) -> str:
    """One sentence that is true of every object of a class: its name alone, or with one of its descriptions."""
    name = classes.names[index]
    told = classes.descriptions[index]
    if told and rng.random() < 0.5:
        description = told[int(rng.integers(len(told)))]
        return classes.template.replace("{class}", name).replace("{description}", description)
    return str(rng.choice(_OPENINGS)).replace("{class}", name)


def object_caption(name: str, words: tuple[str, ...], rng: np.random.Generator) -> str:
    """One sentence about one object: its class, and its attributes and pose in random order and number.

    Args:
        name: the class.
        words: attributes, then the pose.
    """
    *attributes, pose = words
    count = int(rng.integers(1, len(attributes) + 1)) if attributes else 0
    chosen = [str(a) for a in rng.permutation(attributes)[:count]] if count else []
    if pose != "standing" or rng.random() < 0.2:
        chosen.append(pose)
    opening = str(rng.choice(_OPENINGS)).replace("{class}", name)
    return f"{opening}, {', '.join(chosen)}" if chosen else opening
