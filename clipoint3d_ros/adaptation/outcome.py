"""What a training leaves: an adapter with its calibration, probe figures and source statistics, ready to be saved."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch

from clipoint3d_ros.adaptation.config import Recipe
from clipoint3d_ros.adaptation.probing import look_over
from clipoint3d_ros.adaptation.trainer import Material, Run
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.bundle import Adapter, ClassStatistics
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.recognition.calibration import fit_temperature

_COUNTED = 16  # objects; every early answer looks at them


def adapter_of(
    run: Run, backbone: Backbone, classes: Descriptions, material: Material, recipe: Recipe, told: dict[str, Any]
) -> tuple[Network, Adapter]:
    """The run's network, and the adapter to be served and saved.

    Args:
        run: under way or finished.
        told: where source and target came from; kept with the recipe.

    Returns:
        The network before the merge, for `save_bundle`; and the adapter, its temperature fitted on the probe set, its
        version one more than the step it comes from.
    """
    network = Network(backbone, recipe.network)
    network.load_adapter(run.kept)
    served = network.eval().merged()
    probe = look_over(served, backbone, classes, material.probe)
    frozen = backbone.temperature  # of a training that gained nothing, whose answers are to be the frozen model's
    temperature = fit_temperature(probe.logits, probe.labels) if run.kept_step else frozen
    figures = {
        "objects": len(probe.labels),
        "macro_accuracy": round(probe.macro_accuracy, 4),
        "frozen_macro_accuracy": round(look_over(None, backbone, classes, material.probe).macro_accuracy, 4),
    }
    adapter = Adapter(
        served,
        classes,
        temperature,
        version=run.kept_step + 1,
        probe=figures,
        training={**told, "step": run.kept_step, "recipe": asdict(recipe)},
    )
    return network, replace(adapter, statistics=_statistics(adapter, backbone, classes, material))


def _statistics(adapter: Adapter, backbone: Backbone, classes: Descriptions, material: Material) -> ClassStatistics:
    """Of up to `_COUNTED` source objects a class, as the target's sensor sees them where there are scans."""
    labels = material.source.labels
    rows = torch.cat([torch.nonzero(labels == c)[:_COUNTED, 0] for c in labels.unique()])
    source = material.source.take(rows)
    if material.scans is not None:
        source = material.scans.take(rows * (len(material.scans) // len(labels)))
    seen = look_over(adapter.network, backbone, classes, source)
    groups = [seen.features[seen.labels == c] for c in range(len(classes.names))]
    return ClassStatistics(
        torch.stack([g.mean(0) for g in groups]),
        torch.stack([g.var(0, correction=0) for g in groups]),
        torch.tensor([float(len(g)) for g in groups]),
    )
