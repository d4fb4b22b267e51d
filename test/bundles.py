"""Small adapters: networks whose every trained number has been moved a little, as bundles."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file

from clipoint3d_ros.clip.backbone import file_checksum
from clipoint3d_ros.clip.bundle import META_FILE, WEIGHTS_FILE, Adapter, save_bundle
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import Network, NetworkConfig


def moved_network(backbone, config=None, seed=0, step=0.05):
    """A network as if trained: parameters and running means of normalisation off where they began."""
    torch.manual_seed(seed)
    network = Network(backbone, config or NetworkConfig(rank=4)).eval()
    generator = torch.Generator().manual_seed(seed)
    for value in network.adapter().values():
        if value.is_floating_point():
            value += step * torch.rand(value.shape, generator=generator)  # never below, as variances must stay
    return network


def small_bundle(folder, backbone, classes=("mug", "box", "tin"), version=1, seed=0, config=None, **more):
    """Write a bundle; returns its folder."""
    network = moved_network(backbone, config, seed)
    adapter = Adapter(network, describe(list(classes)), temperature=1.5, version=version, **more)
    return save_bundle(folder, network, backbone, adapter)


def change_meta(folder, change):
    """Let `change` alter a bundle's description in place."""
    path = folder / META_FILE
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def change_weights(folder, change):
    """Let `change` alter a bundle's tensors in place, as who wrote such a bundle would: with their checksum."""
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)
    change_meta(folder, lambda meta: meta.update(weights=file_checksum(folder / WEIGHTS_FILE)))
