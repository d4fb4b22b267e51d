"""What a training leaves: an adapter with its calibration, probe figures and source statistics, ready to be saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from clipoint3d_ros.adaptation.clouds import worn
from clipoint3d_ros.adaptation.config import Recipe, TrainingConfig
from clipoint3d_ros.adaptation.probing import Probe, gain, look_over
from clipoint3d_ros.adaptation.statistics import fused, gather, weighed
from clipoint3d_ros.adaptation.trainer import Material, Run
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.bundle import Adapter, ClassStatistics
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.recognition.calibration import fit_temperature

_EARLY = 1  # looks at each source object for the statistics of an early answer


def adapter_of(
    run: Run,
    backbone: Backbone,
    classes: Descriptions,
    material: Material,
    recipe: Recipe,
    told: dict[str, Any],
    early: bool = False,
) -> tuple[Network, Adapter]:
    """The run's network, and the adapter to be served and saved.

    Args:
        run: under way or finished.
        told: where source and target came from; kept with the recipe.
        early: an early answer, whose statistics are of fewer looks.

    Returns:
        The network before the merge, for `save_bundle`; and the adapter, its statistics and temperature fitted on the
        probe set, its version one more than the step it comes from.
    """
    config = recipe.training
    network = Network(backbone, recipe.network)
    network.load_adapter(run.kept)
    served = network.eval().merged()
    frozen = look_over(None, backbone, classes, material.probe)
    probe = look_over(served, backbone, classes, material.probe)
    looks = min(_EARLY, config.statistics) if early else config.statistics
    statistics = None
    if looks:
        # Whatever was trained is better than the frozen model already; beside that itself they must gain for certain.
        certain = 0.0 if run.kept_step else config.certain
        statistics = helpful(source_statistics(served, backbone, classes, material, config, looks), probe, certain)
    said = probe if statistics is None else fused(probe, statistics)
    changed = run.kept_step or statistics is not None
    figures = {
        "objects": len(probe.labels),
        "macro_accuracy": round(said.macro_accuracy, 4),
        "frozen_macro_accuracy": round(frozen.macro_accuracy, 4),
    }
    adapter = Adapter(
        served,
        classes,
        # Of a training that gained nothing the answers are to be the frozen model's.
        fit_temperature(said.logits, said.labels) if changed else backbone.temperature,
        version=run.kept_step + 1,
        probe=figures,
        training={**told, "step": run.kept_step, "recipe": asdict(recipe)},
        statistics=statistics,
    )
    return network, adapter


def source_statistics(
    served: Network | None,
    backbone: Backbone,
    classes: Descriptions,
    material: Material,
    config: TrainingConfig,
    looks: int,
) -> ClassStatistics:
    """Of the source objects as the target's sensor would see them, from `looks` places each; of the objects as they
    are where there are no scans."""
    if material.scans is None:
        return gathered(look_over(served, backbone, classes, material.source), classes)
    each = len(material.scans) // len(material.source)
    rows = torch.arange(len(material.source)).repeat_interleave(min(looks, each)) * each
    rows += torch.arange(min(looks, each)).repeat(len(material.source))
    scans = worn(material.scans.take(rows), config.points, config.cut_share, config.seed)
    return gathered(look_over(served, backbone, classes, scans), classes)


def gathered(seen: Probe, classes: Descriptions) -> ClassStatistics:
    return gather(seen.features, seen.labels, len(classes.names))


def helpful(statistics: ClassStatistics, probe: Probe, certain: float) -> ClassStatistics | None:
    """The statistics weighed against the words on the probe set; None where both together are not better there than
    the words alone by `certain` standard errors."""
    both = weighed(statistics, probe.logits, probe.features, probe.labels)
    rise, error = gain(probe, fused(probe, both))
    return both if rise > certain * error else None
