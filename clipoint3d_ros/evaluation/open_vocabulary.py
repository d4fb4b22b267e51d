"""Classes that no training saw, and other words for trained ones.

Other words may have been met in training: as synonyms in a model's own recipe, or in other captions. `saw_word` tells
only whether their tokens were met at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions, describe
from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.pretraining.tower_pass import TowerPass, judge


def read_synonyms(path: str | Path, classes: tuple[str, ...]) -> dict[str, str]:
    """{class: another word for it} of a YAML mapping.

    Raises:
        ValueError: no such mapping, a class that is none of `classes`, or a word that is one of them.
    """
    content = yaml.safe_load(Path(path).read_text())
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError(f"{path} must map class names to one synonym each, but it is {content!r:.120}")
    foreign = [name for name in content if name not in classes]
    if foreign:
        raise ValueError(f"{path} has synonyms of {', '.join(map(str, foreign))}; the classes are {', '.join(classes)}")
    taken = [word for word in content.values() if word in classes]
    if taken:
        raise ValueError(f"{path} calls {', '.join(taken)} a synonym, but it is a class itself")
    return {str(name): word for name, word in content.items()}


def saw_word(backbone: Backbone, word: str) -> bool:
    """Whether every token of a word was in the training's vocabulary: published weights have zero rows for all others.

    Not whether it was said of the class: a recipe's own synonym and a word from some other caption both count as seen.
    """
    rows = backbone.model.token_embedding.weight[backbone.tokenizer.encode(word)]
    return bool((rows != 0).any(1).all())


def unseen_classes(seen: TowerPass, unseen: Descriptions, trained: Descriptions) -> dict[str, Any]:
    """Objects of classes that no training saw, told apart by their names alone, and by names with descriptions.

    Args:
        seen: objects whose classes are `unseen.names`, in that order.
        unseen: those classes.
        trained: the classes of training, as distractors.

    Returns:
        `n`; `chance`; macro accuracies with their intervals `by_name` and `by_description` among the unseen classes
        and, much harder, `among_trained`: by description among the unseen and the trained ones together.
    """
    everything = Descriptions(unseen.names + trained.names, unseen.descriptions + trained.descriptions, unseen.template)
    return {
        "n": len(seen.labels),
        "chance": 1 / len(unseen.names),
        "by_name": macro(seen.labels, judge(seen, describe(unseen.names)).predicted, len(unseen.names)),
        "by_description": macro(seen.labels, judge(seen, unseen).predicted, len(unseen.names)),
        "among_trained": macro(seen.labels, judge(seen, everything).predicted, len(everything.names)),
    }


def synonyms(seen: TowerPass, others: Mapping[str, str]) -> dict[str, Any]:
    """Each class called by its trained name and by another word, all the other classes by their names alone.

    Args:
        seen: objects of the trained classes.
        others: {class: another word for it}.

    Returns:
        `words`: by class `synonym`, `n`, the share of the class's own objects named rightly `by_name` and `by_synonym`
        (what else is called so does not count), `seen` (see `saw_word`); and the means over classes: `by_name`,
        `by_synonym`, and the latter where the word was seen and where it was not.
    """
    plain = judge(seen, describe(seen.classes)).predicted
    words = {}
    for name, other in others.items():
        index = seen.classes.index(name)
        own = seen.labels == index
        if not own.any():
            continue
        renamed = tuple(other if c == name else c for c in seen.classes)
        called = judge(seen, describe(renamed)).predicted
        words[name] = {
            "synonym": other,
            "n": int(own.sum()),
            "by_name": metrics.accuracy(seen.labels[own], plain[own]),
            "by_synonym": metrics.accuracy(seen.labels[own], called[own]),
            "seen": saw_word(seen.backbone, other),
        }
    return {
        "words": words,
        "by_name": _mean(row["by_name"] for row in words.values()),
        "by_synonym": _mean(row["by_synonym"] for row in words.values()),
        "by_seen_synonym": _mean(row["by_synonym"] for row in words.values() if row["seen"]),
        "by_unseen_synonym": _mean(row["by_synonym"] for row in words.values() if not row["seen"]),
    }


def macro(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    """`n` objects, their `macro_accuracy` and its 95 % bootstrap interval over objects."""
    intervals = metrics.bootstrap_intervals(labels, predicted, np.arange(len(labels)), classes)
    return {
        "n": len(labels),
        "macro_accuracy": metrics.macro_accuracy(labels, predicted, classes),
        "macro_accuracy_interval": list(intervals.macro_accuracy),
    }


def _mean(values: Any) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None
