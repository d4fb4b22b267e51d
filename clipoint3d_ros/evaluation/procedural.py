"""A frozen model on procedural objects that no training saw.

| key of a model's figures | meaning |
|---|---|
| `checksum` | sha256 of its weights |
| `complete` | macro accuracy of complete clouds over the household classes, ten views |
| `sensors` | the same of cleanly cut clouds as simulated sensors see them, sensor-facing views: `all`, and by name; a lidar sees furniture only |
| `visibility` | the same of those `whole` in sight (at least 99 % of the silhouette) and `partly` hidden by neighbours or the frame |
| `selections` | the same with the views chosen by `sensor`, `entropy` or not at all (`all`) |
| `faulty` | the same of the sensors' clouds whose segments have a segmenter's fault |
| `unseen` | classes that no training saw, `complete` and seen by `sensors` (see `open_vocabulary.unseen_classes`) |
| `synonyms` | trained classes by another word (see `open_vocabulary.synonyms`), complete clouds |
| `rejection` | the same clouds against the tabletop classes: unknown are `household` objects of other classes, and those of `unseen` classes (see `rejection`) |
| `speed` | one object with ten views on one thread against a ViT-B-16 (see `speed`); null where it was not timed |

Every macro accuracy comes with its 95 % bootstrap interval over objects. Those that a sensor saw share scenes, a few
each, so their intervals are a little too narrow.
"""  # noqa: E501  (table)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions, load_descriptions, read_classes
from clipoint3d_ros.evaluation.open_vocabulary import macro, read_synonyms, synonyms, unseen_classes
from clipoint3d_ros.evaluation.rejection import logit_scores, rejection
from clipoint3d_ros.pretraining.config import CorpusConfig
from clipoint3d_ros.pretraining.corpus import SENSOR_NAMES, Corpus, generate
from clipoint3d_ros.pretraining.tower_pass import Judgement, TowerPass, judge, look
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.resources import config_file

SEED = 770_001  # that no training uses, nor the held-out clouds on which its temperature is fitted
WHOLE = 0.99  # share of its silhouette in sight from which an object counts as whole
FAULTS = 0.3  # share of the sensors' clouds with a segmenter's fault


@dataclass(frozen=True)
class Vocabulary:
    """The classes of the benchmark: trained, among them the tabletop ones, and unseen; and other words for trained."""

    trained: Descriptions
    tabletop: Descriptions
    unseen: Descriptions
    synonyms: dict[str, str]


@dataclass(frozen=True)
class HeldOutObjects:
    """Corpora of the trained and of the unseen classes."""

    trained: Corpus
    unseen: Corpus


def vocabulary() -> Vocabulary:
    """The class files of this package; ValueError where an unseen class is a trained one."""
    trained = load_descriptions(config_file("classes/household.yaml"))
    unseen = load_descriptions(config_file("classes/unseen.yaml"))
    both = [name for name in unseen.names if name in trained.names]
    if both:
        raise ValueError(f"classes/unseen.yaml names {', '.join(both)}, which household.yaml trains on; take them out")
    return Vocabulary(
        trained, read_classes(None), unseen, read_synonyms(config_file("classes/synonyms.yaml"), trained.names)
    )


def held_out_objects(words: Vocabulary, count: int, cache: Path, workers: int) -> HeldOutObjects:
    """Generate or read the benchmark's objects.

    Args:
        words: the classes.
        count: complete clouds of each class; the sensors' scenes grow in proportion.
        cache: a folder for corpora.
        workers: processes that generate; 0 works in this one.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"--count must be at least 1, but is {count}")
    return HeldOutObjects(
        generate(words.trained.names, _config(count, 16, 8), cache, workers),
        generate(words.unseen.names, _config(count, 5, 2), cache, workers),
    )


def figures(
    backbone: Backbone,
    words: Vocabulary,
    objects: HeldOutObjects,
    told: Callable[[int], object] = lambda objects: None,
) -> dict[str, Any]:
    """One model's figures but `speed` (the module's table says what each means).

    Args:
        backbone: the model.
        words: the classes.
        objects: of these classes.
        told: called with the number of objects that went through the tower since the last call.
    """
    clean, spoilt = (objects.trained.camera & (objects.trained.faulty == faulty) for faulty in (False, True))
    complete = look(backbone, objects.trained, ~objects.trained.camera, told)
    sensed = look(backbone, objects.trained, clean, told)
    faulty = look(backbone, objects.trained, spoilt, told)
    ten = look(backbone, objects.trained, clean, selection="all")
    whole = look(backbone, objects.unseen, ~objects.unseen.camera, told)
    unseen = look(backbone, objects.unseen, objects.unseen.camera & ~objects.unseen.faulty, told)
    by_selection = {
        "sensor": judge(sensed, words.trained),
        "entropy": judge(replace(ten, config=ClassifierConfig(selection="entropy")), words.trained),
        "all": judge(ten, words.trained),
    }
    return {
        "checksum": backbone.checksum,
        "complete": _macro(complete, judge(complete, words.trained)),
        "sensors": {
            "all": _macro(sensed, by_selection["sensor"]),
            **_by_sensor(sensed, by_selection["sensor"], objects.trained.sensor[clean]),
        },
        "visibility": _by_visibility(sensed, by_selection["sensor"], objects.trained.visible[clean]),
        "selections": {name: _macro(sensed, said) for name, said in by_selection.items()},
        "faulty": _macro(faulty, judge(faulty, words.trained)),
        "unseen": {
            "classes": list(words.unseen.names),
            "complete": unseen_classes(whole, words.unseen, words.trained),
            "sensors": unseen_classes(unseen, words.unseen, words.trained),
        },
        "synonyms": synonyms(complete, words.synonyms),
        "rejection": _rejection(sensed, unseen, words),
    }


def _config(count: int, tabletop_scenes: int, floor_scenes: int) -> CorpusConfig:
    """A corpus of `count` complete clouds a class, and so many scenes for each of them."""
    return CorpusConfig(
        complete=count,
        tabletop_scenes=tabletop_scenes * count,
        floor_scenes=floor_scenes * count,
        faults=FAULTS,
        seed=SEED,
    )


def _macro(seen: TowerPass, said: Judgement) -> dict[str, Any]:
    return macro(seen.labels, said.predicted, len(seen.classes))


def _by_sensor(seen: TowerPass, said: Judgement, sensor: np.ndarray) -> dict[str, dict[str, Any]]:
    """{name: figures} of the sensors that saw anything; `sensor` (M,) indexes SENSOR_NAMES."""
    return _by_part(seen, said, {name: sensor == i for i, name in enumerate(SENSOR_NAMES)})


def _by_visibility(seen: TowerPass, said: Judgement, visible: np.ndarray) -> dict[str, dict[str, Any]]:
    """Figures of objects `whole` in sight and of those `partly` hidden; `visible` (M,) is the share in sight."""
    return _by_part(seen, said, {"whole": visible >= WHOLE, "partly": visible < WHOLE})


def _by_part(seen: TowerPass, said: Judgement, parts: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """{name: figures} of the parts (M,) bool that have any object."""
    count = len(seen.classes)
    return {name: macro(seen.labels[p], said.predicted[p], count) for name, p in parts.items() if p.any()}


def _rejection(sensed: TowerPass, unseen: TowerPass, words: Vocabulary) -> dict[str, Any]:
    """Against the tabletop classes: objects of theirs are known, all others unknown."""
    among = np.array([name in words.tabletop.names for name in sensed.classes])[sensed.labels]
    household = _scores(judge(sensed, words.tabletop))
    known = {name: score[among] for name, score in household.items()}
    return {
        "household": rejection(known, {name: score[~among] for name, score in household.items()}),
        "unseen": rejection(known, _scores(judge(unseen, words.tabletop))),
    }


def _scores(said: Judgement) -> dict[str, np.ndarray]:
    return {"score": said.scores, **logit_scores(said.logits), "max_cosine": said.cosines.max(1)}
