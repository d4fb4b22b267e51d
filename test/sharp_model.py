"""A small CLIP that is sure of itself, and classes by which it tells two shapes apart: what a companion can learn from.

Its weights are random, but its logits are large. Of many words, two are chosen by which it names tall blocks and flat
ones differently; what it has seen of such blocks makes the source that its companion is judged by.
"""

from __future__ import annotations

import itertools
import json
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from small_model import SMALL

from clipoint3d_ros.adaptation import reference as reference_module
from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.adaptation.reference import Reference, ReferenceConfig, kept_reference
from clipoint3d_ros.adaptation.statistics import gather
from clipoint3d_ros.clip.backbone import CONFIG_FILE, WEIGHTS_FILE, build_model, load_backbone
from clipoint3d_ros.clip.descriptions import read_classes
from clipoint3d_ros.pretraining.training import open_clip_config
from clipoint3d_ros.recognition.classifier import Classifier

SURE = 60.0  # times the usual scale of logits
WORDS = [start + end for start in "bcdfgklmnprst" for end in ("all", "ook", "ar", "eel", "id")]
TALL, FLAT = (0.06, 0.06, 0.2), (0.2, 0.15, 0.03)  # metres


class Sharp(NamedTuple):
    """backbone: its name. classes: of tall blocks and of flat ones. reference: that its companion starts from."""

    backbone: str
    classes: tuple[str, str]
    reference: Reference


def blocks(count, seed=0):
    """`count` clouds (200, 3) of blocks on a floor before the sensor, every third of them tall; and which are."""
    rng = np.random.default_rng(seed)
    clouds, tall = [], np.arange(count) % 3 == 0
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
    for number, upright in enumerate(tall):
        size = np.array(TALL if upright else FLAT)
        centre = (0.8 + 0.3 * (number % 5), -0.5 + 0.25 * (number // 5), size[2] / 2 - 0.3)
        points = np.concatenate([corners, rng.uniform(-0.5, 0.5, (192, 3))])
        clouds.append((points * size + centre).astype(np.float32))
    return clouds, tall


def sharp_model(folder):
    """Write the model to a folder and find its classes."""
    config = open_clip_config(SMALL)
    torch.manual_seed(0)
    model, _ = build_model(config)
    with torch.no_grad():
        model.logit_scale += float(np.log(SURE))
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    classifier = Classifier.load(backbone=f"local-dir:{folder}", classes=WORDS, device="cpu")
    clouds, tall = blocks(40, seed=1)
    features, logits = _looked_at(classifier, clouds)

    def margin(pair):
        lead = (logits[:, pair[0]] - logits[:, pair[1]]).numpy()
        return min(lead[tall].min(), (-lead[~tall]).min())

    first, second = max(itertools.permutations(range(len(WORDS)), 2), key=margin)
    assert margin((first, second)) > 3, "no two words tell the blocks apart"
    labels = torch.from_numpy(np.where(tall, 0, 1))
    statistics = gather(features[::2], labels[::2], 2)
    statistics.weights[:] = torch.tensor([1.0, 1e-3])
    probe = Probe(logits[1::2][:, [first, second]], features[1::2], labels[1::2])
    return Sharp(classifier.name, (WORDS[first], WORDS[second]), Reference(statistics, True, probe, 1.0))


def keep_reference(sharp, monkeypatch, folder, classes, config=None):
    """Put the reference where a node of those classes and that `XDG_CACHE_HOME` finds it, so that it gathers none."""
    with monkeypatch.context() as patch:
        patch.setattr(reference_module, "gather_reference", lambda *_: sharp.reference)
        backbone = load_backbone(sharp.backbone, device="cpu")
        place = folder / "clipoint3d_ros" / "references"
        kept_reference(place, backbone, read_classes(classes), list, "procedural", config or ReferenceConfig())


@torch.no_grad()
def _looked_at(classifier, clouds):
    projection = classifier.project(clouds, (0, 0, 1), np.zeros(3))
    seen = classifier.encode(projection)
    return classifier.object_features(projection, seen).cpu(), classifier.logits(projection, seen).cpu()
