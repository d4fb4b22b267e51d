"""Backbones from disk: weights and preprocessing together, nothing downloaded, everything missing said in words."""

import json
import shutil
import socket

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipoint3d_ros.clip.backbone import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    MissingWeights,
    file_checksum,
    load_backbone,
)
from clipoint3d_ros.resources import EMBEDDED, asset

VIEWS = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_folder_gives_weights_and_preprocessing(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    assert backbone.preprocessing.size == 32
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.preprocessing.drop_empty
    assert backbone.checksum == file_checksum(small_model_folder / WEIGHTS_FILE)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training


def test_features_are_unit_and_do_not_depend_on_the_batch(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    features = backbone.encode_views(VIEWS)
    assert features.shape == (3, 32)
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
    assert (features[:1] - backbone.encode_views(VIEWS[:1])).abs().max() < 1e-5
    words = backbone.encode_sentences(["a mug", "a box", "a mug"])
    assert torch.equal(words[0], words[2])
    assert torch.allclose(words.norm(dim=1), torch.ones(3), atol=1e-5)
    assert backbone.encode_sentences([]).shape == (0, 32)


def test_views_of_another_size_are_resized(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    assert backbone.encode_views(torch.rand(2, 110, 110)).shape == (2, 32)


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_in_words(small_model_folder, device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
        load_backbone(f"local-dir:{small_model_folder}", device=device)


def test_patches_are_those_of_the_training_unless_told(small_model_folder):
    name = f"local-dir:{small_model_folder}"
    views = torch.ones(2, 32, 32)
    views[:, :10, :10] = 0.3
    found = {p: load_backbone(name, device="cpu", patches=p) for p in ("trained", "occupied", "all")}
    assert {p: b.preprocessing.drop_empty for p, b in found.items()} == {
        "trained": True,
        "occupied": True,
        "all": False,
    }
    assert torch.equal(found["trained"].encode_views(views), found["occupied"].encode_views(views))
    assert (found["all"].encode_views(views) - found["occupied"].encode_views(views)).abs().max() > 1e-4
    with pytest.raises(ValueError, match="'some' is none of trained, occupied, all"):
        load_backbone(name, device="cpu", patches="some")


def test_a_sentence_is_encoded_once(small_model_folder, monkeypatch):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    calls = []
    encode = backbone.model.encode_text
    monkeypatch.setattr(backbone.model, "encode_text", lambda tokens: calls.append(len(tokens)) or encode(tokens))
    backbone.encode_sentences(["a mug", "a box"])
    backbone.encode_sentences(["a box", "a tin", "a mug"])
    assert calls == [2, 1]


def test_architecture_and_checkpoint(tmp_path, no_network):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32", pretrained=None)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "weights.safetensors")
    backbone = load_backbone("ViT-S-32", str(tmp_path / "weights.safetensors"), device="cpu")
    assert backbone.preprocessing.size == 224
    assert backbone.preprocessing.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert not backbone.preprocessing.drop_empty
    images = backbone.preprocessing(torch.rand(2, 224, 224))
    own = torch.nn.functional.normalize(model.eval().encode_image(images), dim=-1)
    with torch.no_grad():
        views = torch.rand(2, 224, 224)
        ours = backbone.encode_views(views)
        own = torch.nn.functional.normalize(model.encode_image(backbone.preprocessing(views)), dim=-1)
    assert (ours - own).abs().max() < 1e-4, "without prompts and occupancy it is open_clip's own answer"


def test_a_download_without_a_network_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("clipoint3d_ros.clip.backbone._cached", lambda settings: None)
    monkeypatch.setattr("clipoint3d_ros.clip.backbone.getproxies", dict)

    def nobody(host, port):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(MissingWeights, match=r"does not find huggingface.co .* fetch timm/vit_base.* elsewhere"):
        load_backbone("ViT-B-16", "openai", download=True)


def test_missing_weights_say_how_to_get_them_and_try_no_network(tmp_path, no_network, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        MissingWeights, match=r"'openai' of ViT-B-16 are not on this machine; fetch them once .*--download"
    ):
        load_backbone("ViT-B-16", "openai")
    with pytest.raises(MissingWeights, match="neither a file nor a tag"):
        load_backbone("ViT-B-16", "/nowhere/weights.pt")
    with pytest.raises(MissingWeights, match=CONFIG_FILE):
        load_backbone(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="needs 'pretrained'"):
        load_backbone("ViT-B-16")
    with pytest.raises(ValueError, match=r"no backbone 'ViT-B-17' .*; near it are .*ViT-B-16"):
        load_backbone("ViT-B-17", "openai")
    with pytest.raises(ValueError, match=r"no backbone 'clipoint-tiny' .*; near it are clipoint3d-tiny, cli"):
        load_backbone("clipoint-tiny")
    with pytest.raises(ValueError, match="without a backbone"):
        load_backbone(None, "openai")


def test_a_folder_without_weights_or_with_a_broken_config_is_refused(small_model_folder, tmp_path):
    shutil.copy(small_model_folder / CONFIG_FILE, tmp_path / CONFIG_FILE)
    with pytest.raises(MissingWeights, match=f"put {WEIGHTS_FILE}"):
        load_backbone(f"local-dir:{tmp_path}")
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model": 1}))
    with pytest.raises(ValueError, match="'model_cfg'"):
        load_backbone(f"local-dir:{tmp_path}")
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ValueError, match="not an open_clip configuration"):
        load_backbone(f"local-dir:{tmp_path}")


# Results are compared across versions of this package: the weights are published once and stay.
PUBLISHED = {
    "clipoint3d-tiny": "9df82d165fcce3b0fadc5c2806b569a447f3edaaf111544afb9d7f12d847de85",
    "clipoint3d-tiny-cad": "485d9496d63b8288f4670f04b0577ad5e3b851ebc962f803d2d4221475dd0dc8",
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_models_are_small_and_whole(name):
    folder = asset(name)
    weights = folder / WEIGHTS_FILE
    assert weights.stat().st_size < 20_000_000
    assert all(torch.isfinite(v.float()).all() for v in load_file(weights).values())
    card = (folder / "README.md").read_text()
    assert file_checksum(weights) in card, "the model card names the weights it describes"
    backbone = load_backbone(name, device="cpu")
    assert backbone.name == name
    assert (folder / "SHA256SUMS").read_text().split()[0] == backbone.checksum == PUBLISHED[name]
    assert backbone.temperature > 0


def test_the_first_embedded_model_serves_where_none_is_named():
    assert load_backbone(device="cpu").name == EMBEDDED[0] == "clipoint3d-tiny"
