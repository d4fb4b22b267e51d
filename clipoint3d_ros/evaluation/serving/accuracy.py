"""What each saving costs in accuracy: the same objects, classified as every row serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.serving.rows import Row
from clipoint3d_ros.evaluation.serving.timing import SENSOR, UP, classifier_of
from clipoint3d_ros.evaluation.zero_shot import NamedObject


def measure(
    backbones: Mapping[str, Backbone],
    rows: Sequence[Row],
    classes: Descriptions,
    stream: Iterable[list[NamedObject]],
    told: Callable[[int], object] = lambda scenes: None,
) -> dict[str, dict[str, Any]]:
    """{row: `accuracy`, `macro_accuracy`, `views` looked at of an object, `agreement` with the first row's labels,
    `largest_difference` of a probability from the first row's, `objects`} of the objects named among the classes.

    Args:
        backbones: by `Row.patches`.
        rows: as they are timed, the most exact first.
        classes: to tell apart.
        stream: named objects, scene by scene, in the levelled sensor frame.
        told: called after each scene.

    Raises:
        ValueError: no object has a name among the classes.
    """
    served = {row.name: classifier_of(row, backbones[row.patches], classes) for row in rows}
    truth: list[int] = []
    said: dict[str, list[np.ndarray]] = {row.name: [] for row in rows}
    looked = dict.fromkeys(said, 0)
    for objects in stream:
        scored = [o for o in objects if o.name in classes.names]
        truth += [classes.names.index(o.name) for o in scored]
        for row in rows if scored else ():
            classifier = served[row.name]
            projection = classifier.project([o.points for o in scored], UP, SENSOR if row.viewpoint else None)
            features = classifier.encode(projection)
            looked[row.name] += int(features.any(-1).sum())
            said[row.name] += [answer.probabilities for answer in classifier.decide(projection, features)]
        told(1)
    if not truth:
        raise ValueError(f"no object's name is among the classes {', '.join(classes.names)}; choose other scenes")
    labels, first = np.array(truth), np.stack(said[rows[0].name])
    found = {}
    for name, answers in said.items():
        probabilities = np.stack(answers)
        predicted = probabilities.argmax(1)
        found[name] = {
            "accuracy": metrics.accuracy(labels, predicted),
            "macro_accuracy": metrics.macro_accuracy(labels, predicted, len(classes.names)),
            "views": looked[name] / len(labels),
            "agreement": float((predicted == first.argmax(1)).mean()),
            "largest_difference": float(np.abs(probabilities - first).max()),
            "objects": len(labels),
        }
    return found
