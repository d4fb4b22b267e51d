"""A frozen model on scene folders: what `evaluate --offline` says of the recorded bag, without a bag.

Every named object is cut out of its scene in the levelled sensor frame (z up, the sensor at the origin) and classified
as the perception node classifies it, once with the views that face the sensor, once with all ten views, which then
decide by entropy or all together.

| key of a model's figures | meaning |
|---|---|
| `checksum` | sha256 of its weights |
| `selection` | the views that decided in all that follows but `selections` |
| `accuracy`, `macro_accuracy` | of the objects whose name is among the classes, as fractions; one too small to be judged counts as wrong; `…_interval`: 95 % bootstrap over scenes |
| `ece` | expected calibration error, 15 bins |
| `per_class` | by name: `n` objects, `accuracy` (null where n is 0) |
| `confusion` | `classes`, `matrix`: rows truth, columns what was named |
| `confusions` | its entries off the diagonal, the largest share of their class first: `truth`, `answer`, `count` of `n` |
| `selections` | by name sensor, entropy, all: accuracies with their intervals, `ece` |
| `unknown` | objects whose name is not among the classes: `n`, and by the score that rejects them `auroc` (see `rejection`); null without such objects |
"""  # noqa: E501  (table)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.scenes import Scene
from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.rejection import probability_scores, rejection
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition

SELECTIONS = ("sensor", "entropy", "all")
UP, SENSOR = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)  # of the levelled frame


@dataclass(frozen=True)
class NamedObject:
    """One labelled object: the scene's name, the object's, and its points (N, 3) metres in the levelled frame."""

    scene: str
    name: str
    points: np.ndarray


@dataclass(frozen=True)
class Answers:
    """M objects with what one model said of each, by selection.

    scenes, names: M of the truth. recognitions: {selection: M answers}.
    """

    scenes: tuple[str, ...]
    names: tuple[str, ...]
    recognitions: Mapping[str, tuple[Recognition, ...]]


def read_objects(folder: str | Path, only: str = "*") -> Iterator[list[NamedObject]]:
    """The named objects of one scene after another; errors as `scenes.read_scenes`."""
    for scene in scenes.read_scenes(folder, only):
        yield named_objects(scene)


def named_objects(scene: Scene) -> list[NamedObject]:
    """A scene's objects that have a name, by id; one none of whose points came back has no points."""
    xyz = scenes.level_points(scene)
    seen = np.isfinite(xyz).all(-1)
    return [
        NamedObject(scene.name, name, xyz[seen & (scene.instance == i)]) for i, name in sorted(scene.classes.items())
    ]


def answer(classifiers: Mapping[str, Classifier], stream: Iterable[list[NamedObject]]) -> dict[str, Answers]:
    """What each model says of every object, with every selection; the scenes are read once."""
    truth: list[NamedObject] = []
    said: dict[str, dict[str, list[Recognition]]] = {name: {s: [] for s in SELECTIONS} for name in classifiers}
    for objects in stream:
        truth += objects
        for name, classifier in classifiers.items():
            for selection, recognitions in _every_selection(classifier, [o.points for o in objects]).items():
                said[name][selection] += recognitions
    where, what = tuple(o.scene for o in truth), tuple(o.name for o in truth)
    return {name: Answers(where, what, {s: tuple(r) for s, r in by.items()}) for name, by in said.items()}


def figures(classifier: Classifier, answers: Answers) -> dict[str, Any]:
    """One model's figures (the module's table says what each means).

    Args:
        classifier: the model that answered; its own selection decides the headline.
        answers: of all scenes.

    Raises:
        ValueError: no object has a name among the classes, so that there is nothing to score.
    """
    classes = classifier.classes
    known = np.array([name in classes for name in answers.names], bool)
    if not known.any():
        there = ", ".join(sorted(set(answers.names))) or "none"
        raise ValueError(
            f"no object's name is among the classes {', '.join(classes)}; the scenes name {there}: "
            "choose other --classes or other --scenes"
        )
    selection = "sensor" if classifier.config.selection == "auto" else classifier.config.selection
    truth = np.array([classes.index(name) for name in answers.names if name in classes])
    place = {name: i for i, name in enumerate(dict.fromkeys(answers.scenes))}
    scene = np.array([place[name] for name in answers.scenes])[known]
    predicted = {s: _named(said, classes)[known] for s, said in answers.recognitions.items()}
    scores = {s: np.array([r.score for r in said])[known] for s, said in answers.recognitions.items()}
    by_selection = {s: _accuracies(truth, predicted[s], scores[s], scene, len(classes)) for s in predicted}
    matrix = metrics.confusion(truth, predicted[selection], len(classes))
    counts = metrics.class_counts(truth, len(classes))
    right = metrics.class_accuracies(truth, predicted[selection], len(classes))
    return {
        "checksum": classifier.backbone.checksum,
        "selection": selection,
        **by_selection[selection],
        "per_class": {
            name: {"n": int(n), "accuracy": float(a) if n else None}
            for name, n, a in zip(classes, counts, right, strict=True)
        },
        "confusion": {"classes": list(classes), "matrix": matrix.tolist()},
        "confusions": confusions(matrix, counts, classes),
        "selections": by_selection,
        "unknown": _unknown(answers.recognitions[selection], known),
    }


def confusions(matrix: np.ndarray, counts: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of a confusion matrix off its diagonal, the largest share of its class first.

    Args:
        matrix: (C, C) rows truth, columns what was named.
        counts: (C,) objects of each class.
    """
    wrong = [(matrix[t, a] / counts[t], t, a) for t, a in zip(*np.nonzero(matrix), strict=True) if t != a]
    return [
        {"truth": classes[t], "answer": classes[a], "count": int(matrix[t, a]), "n": int(counts[t])}
        for _, t, a in sorted(wrong, key=lambda entry: (-entry[0], entry[1], entry[2]))
    ]


def _every_selection(classifier: Classifier, clouds: list[np.ndarray]) -> dict[str, list[Recognition]]:
    """Two passes through the tower: the views that face the sensor, and all ten, which two selections share."""
    served = {s: classifier.with_config(replace(classifier.config, selection=s)) for s in SELECTIONS}
    facing = served["sensor"].project(clouds, UP, SENSOR)
    ten = served["all"].project(clouds, UP, SENSOR)
    features = served["all"].encode(ten)
    return {
        "sensor": served["sensor"].decide(facing, served["sensor"].encode(facing)),
        "entropy": served["entropy"].decide(ten, features),
        "all": served["all"].decide(ten, features),
    }


def _named(recognitions: Sequence[Recognition], classes: Sequence[str]) -> np.ndarray:
    """(M,) class indices, NONE where the object was too small to be judged."""
    place = {name: i for i, name in enumerate(classes)}
    return np.array([metrics.NONE if r.label == UNKNOWN else place[r.label] for r in recognitions], int)


def _accuracies(
    truth: np.ndarray, predicted: np.ndarray, score: np.ndarray, scene: np.ndarray, classes: int
) -> dict[str, Any]:
    named = predicted != metrics.NONE
    intervals = metrics.bootstrap_intervals(truth, predicted, scene, classes)
    return {
        "accuracy": metrics.accuracy(truth, predicted),
        "accuracy_interval": list(intervals.accuracy),
        "macro_accuracy": metrics.macro_accuracy(truth, predicted, classes),
        "macro_accuracy_interval": list(intervals.macro_accuracy),
        "ece": metrics.expected_calibration_error((truth == predicted)[named], score[named]) if named.any() else None,
    }


def _unknown(recognitions: Sequence[Recognition], known: np.ndarray) -> dict[str, Any] | None:
    if known.all():
        return None
    probabilities = np.stack([r.probabilities for r in recognitions])
    # An "unknown" one's score is 1 minus that of its best class.
    score = np.array([1 - r.score if r.label == UNKNOWN else r.score for r in recognitions])
    scores = {"score": score, **probability_scores(probabilities)}
    return rejection({s: v[known] for s, v in scores.items()}, {s: v[~known] for s, v in scores.items()})
