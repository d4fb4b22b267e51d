"""Tier 2: a few steps of the full loss at a time on LoRA or prompts, while the robot drives.

Source replay holds what was learned, remembered clouds of the robot are the target, and what is served is the running
mean of the weights. BatchNorm of the point encoder never sees the target. A candidate is a network with the class
statistics of the source through it; the guard judges it like any other, and a rejected one is left for the last that
was accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.adaptation.clouds import Clouds, levelled, scanned, worn
from clipoint3d_ros.adaptation.config import Recipe
from clipoint3d_ros.adaptation.priors import class_prior
from clipoint3d_ros.adaptation.probing import Probe, look_over
from clipoint3d_ros.adaptation.reference import Reference, ReferenceConfig, as_seen, split_source, viewpoints
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.adaptation.statistics import of_source
from clipoint3d_ros.adaptation.trainer import STORED_POINTS, Material, Run, begin, step
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.clip.text import class_prompts
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import random_subset
from clipoint3d_ros.recognition.calibration import fit_temperature
from clipoint3d_ros.recognition.streams import LAST, finish, stream

_BELIEF = 0.5  # in even classes, against one remembered object


@dataclass(frozen=True)
class Trained:
    """A candidate of tier 2.

    network: before the merge. served: merged.
    reference: the source through it: statistics, weighed, and the probe set.
    text: (C, D) its class features.
    step: of the run it was taken at.
    """

    network: Network
    served: Network
    reference: Reference
    text: Tensor
    step: int


class Gradient:
    """A training that goes on for as long as the robot drives."""

    def __init__(
        self,
        backbone: Backbone,
        classes: Descriptions,
        source: Objects,
        recipe: Recipe,
        config: ReferenceConfig | None = None,
    ) -> None:
        """
        Args:
            backbone: the frozen one.
            source: labelled, complete objects of every class; those the reference's probe set holds are left to it.
            recipe: `config/train/online.yaml`, or another.
            config: how the source is looked at.

        Raises:
            ValueError: a class of fewer than two objects.
        """
        self._backbone, self._classes, self._recipe = backbone, classes, recipe
        self._config = config or ReferenceConfig()
        shots, held = split_source(source, classes, self._config)
        seed = self._config.seed
        complete = levelled(shots, STORED_POINTS)
        scans = None
        if complete.scannable:
            scans = scanned(
                complete, viewpoints(self._config, seed), max(recipe.training.scans, 1), seed, self._config.misshape
            )
        # The very looks of the reference's probe set: a candidate is held against the anchor's answers row by row.
        self._probe = as_seen(held, self._config, seed + 1)
        self._looks = worn(complete if scans is None else scans, self._config.points, self._config.cut_share, seed)
        self._complete, self._scans = complete, scans
        self._run, self._learner = begin(backbone, classes, recipe)
        self._accepted = _state(self._run)
        finish(backbone.device)
        self._stream = stream(backbone.device, LAST)

    @property
    def steps(self) -> int:
        """Taken since the start."""
        return self._run.step

    def learn(self, sightings: Sequence[Sighting], logits: Tensor) -> dict[str, float]:
        """One step on remembered clouds; its figures.

        Args:
            sightings: what is remembered.
            logits: (M, C) calibrated ones of them, which tell the classes' shares.

        Raises:
            ValueError: no sighting holds a cloud.
            FloatingPointError: something is not finite; nothing has changed.
        """
        target = as_clouds(sightings)
        self._run.prior = class_prior(logits, strength=_BELIEF * len(logits)).float()
        with torch.cuda.stream(self._stream):
            figures = step(self._run, self._learner, Material(self._complete, self._scans, target, self._probe))
        self._run.step += 1
        return figures

    def candidate(self) -> Trained:
        """The running mean of the weights with its reference: looks at the source once."""
        network = Network(self._backbone, self._recipe.network)
        network.load_adapter(self._run.average)
        served = network.eval().merged()
        learned = self._look(served, self._looks)
        probe = self._look(served, self._probe)
        statistics = of_source(learned, probe, len(self._classes.names))
        prompts = class_prompts(self._backbone, self._classes, self._recipe.network.context)
        with torch.no_grad():
            text = served.text(prompts).cpu()
        return Trained(
            network,
            served,
            Reference(statistics, True, probe, fit_temperature(probe.logits, probe.labels)),
            text,
            self._run.step,
        )

    def features(self, served: Network, sightings: Sequence[Sighting]) -> Tensor:
        """(M, D) of remembered clouds through a network, as `ClassStatistics` takes them."""
        return self._look(served, as_clouds(sightings)).features

    def frozen(self, sightings: Sequence[Sighting]) -> Tensor:
        """(M, C) what the frozen model says of remembered clouds, at temperature 1."""
        return self._look(None, as_clouds(sightings)).logits

    def keep(self) -> None:
        """What was last made a candidate was accepted: a later rejection falls back to here."""
        self._accepted = _state(self._run)

    def adopt(self, network: Network) -> None:
        """Go on from a network that was accepted in an earlier life.

        Raises:
            ValueError: it is of another recipe.
        """
        if network.config != self._recipe.network:
            raise ValueError(f"what was live is of network {network.config}, the recipe's is {self._recipe.network}")
        self._run.network.load_adapter(network.adapter())
        self._run.average = {name: value.clone() for name, value in network.adapter().items()}
        self.keep()

    def fall_back(self) -> None:
        """Go on from what was last accepted."""
        average, step_ = self._accepted
        self._run.network.load_adapter(average)
        self._run.average = {name: value.clone() for name, value in average.items()}
        self._run.optimiser.state.clear()  # its momentum led astray
        self._run.step = max(step_, self._run.step)  # other batches than those that did

    def restart(self) -> None:
        """From the frozen model again."""
        taken = self._run.step
        self._run, self._learner = begin(self._backbone, self._classes, self._recipe)
        self._accepted = _state(self._run)
        self._run.step = taken

    def _look(self, served: Network | None, clouds: Clouds) -> Probe:
        return look_over(served, self._backbone, self._classes, clouds)


def as_clouds(sightings: Sequence[Sighting]) -> Clouds:
    """Remembered clouds as a training takes them; sightings without one are left out. Where it is not known where the
    sensor stood, none is invented: such objects are looked at from all sides.

    Raises:
        ValueError: none has one.
    """
    kept = [s for s in sightings if s.cloud is not None]
    if not kept:
        raise ValueError("no remembered object has its cloud; tier 2 needs them: let the memory keep clouds")
    points = np.zeros((len(kept), STORED_POINTS, 3), np.float32)
    for row, sighting in zip(points, kept, strict=True):
        assert sighting.cloud is not None
        row[:] = sighting.cloud[random_subset(len(sighting.cloud), STORED_POINTS)]
    return Clouds(
        torch.from_numpy(points - points.mean(1, keepdims=True)),
        torch.full((len(kept),), -1),
        torch.tensor([s.distance > 0 for s in kept]),
        torch.tensor([s.elevation for s in kept], dtype=torch.float32),
        torch.tensor([s.distance for s in kept], dtype=torch.float32),
        metric=True,
    )


def _state(run: Run) -> tuple[dict[str, Tensor], int]:
    return {name: value.clone() for name, value in run.average.items()}, run.step
