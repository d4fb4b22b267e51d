"""What the classifier says of one object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.recognition.familiarity import known

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Recognition:
    """One object's answer.

    label: a class, or "unknown" where no class reached the threshold or the cloud was too small.
    score: how sure the label is, in [0, 1]: the class's probability times that of being of any class at all
        (`known`); for "unknown", 1 minus the best class's.
    probabilities: (C,) float64 over `classes`, summing to 1: given that the object is of one of them.
    entropy: of `probabilities`, in nats.
    classes: the C names, in the order of `probabilities`.
    familiarity: how likely the object is of any of the classes, in [0, 1], where half of all objects are; 1 where the
        backbone does not judge that.
    share: of the objects met here that are of any of the classes; one half where nothing is known of it.
    frozen: the frozen model's own answer where an adapter is live, else None.
    """

    label: str
    score: float
    probabilities: np.ndarray
    entropy: float
    classes: tuple[str, ...]
    familiarity: float = 1.0
    share: float = 0.5
    frozen: Recognition | None = None

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        classes: tuple[str, ...],
        familiarity: float = 1.0,
        unknown_below: float | np.ndarray = 0.0,
        share: float = 0.5,
    ) -> Recognition:
        """The answer that follows from probabilities (C,), which are made to sum to 1: "unknown" where the best class's
        score is below the threshold: one for all, or (C,) one for each."""
        probabilities = probabilities / probabilities.sum()
        best = int(probabilities.argmax())
        top = min(1.0, float(probabilities[best]) * known(familiarity, share))
        entropy = float(-(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum())
        if top < (unknown_below if np.ndim(unknown_below) == 0 else np.asarray(unknown_below)[best]):
            return cls(UNKNOWN, 1 - top, probabilities, entropy, classes, familiarity, share)
        return cls(classes[best], top, probabilities, entropy, classes, familiarity, share)

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k best hypotheses as (name, score), best first; an unknown object has the one, "unknown"."""
        return [(UNKNOWN, self.score)] if self.label == UNKNOWN else self.best(k)

    def best(self, k: int) -> list[tuple[str, float]]:
        """The k best classes as (name, score), best first, whether or not they reach the threshold."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        certain = known(self.familiarity, self.share)
        return [(self.classes[i], float(self.probabilities[i] * certain)) for i in order]
