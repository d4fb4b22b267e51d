"""Backbones from disk: weights and preprocessing together, nothing downloaded, everything missing said in words."""

import gc
import json
import logging
import shutil
import socket
import weakref

import open_clip
import pytest
import torch
from quick_gelu import CONFIG, NAME, TAG, quick_gelu_weights
from safetensors.torch import load_file, save_file

from clipoint3d_ros.clip import backbone as backbone_module
from clipoint3d_ros.clip.backbone import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    MissingWeights,
    file_checksum,
    load_backbone,
    share_backbones,
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


def test_a_sentence_longer_than_the_text_tower_reads_is_named(small_model_folder, caplog):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    limit = backbone.tokenizer.context_length
    full = " ".join(["box"] * (limit - 2))
    backbone.encode_sentences(["a mug", full])
    assert "tokens of a sentence" not in caplog.text, "a sentence that just fits was doubted"
    backbone.encode_sentences([f"{full} {word}" for word in ("lid", "spout")])
    assert f"reads {limit} tokens of a sentence and leaves the end of '{full} lid' out" in caplog.text
    assert f"which has {limit + 1} (and of 1 more): shorten its description" in caplog.text


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


@pytest.fixture
def weights(tmp_path, monkeypatch, no_network):
    """A file of weights that were trained with QuickGELU."""
    (tmp_path / "weights").mkdir()
    return quick_gelu_weights(tmp_path / "weights", monkeypatch)


def beside(weights, **told):
    """Writes the configuration that open_clip's models on Hugging Face have beside their weights."""
    content = {"model_cfg": {**CONFIG, **told.pop("model_cfg", {})}, **told}
    (weights.parent / CONFIG_FILE).write_text(json.dumps(content))


def test_weights_of_quick_gelu_are_the_same_model_by_tag_by_path_and_as_a_folder(weights):
    tagged = load_backbone(NAME, TAG, device="cpu")
    named = load_backbone(f"{NAME}-quickgelu", str(weights), device="cpu")
    beside(weights, model_cfg={"quick_gelu": True})
    told = [load_backbone(NAME, str(weights), "cpu"), load_backbone(f"local-dir:{weights.parent}", device="cpu")]
    own = open_clip.create_model(NAME, pretrained=str(weights), force_quick_gelu=True).eval()
    with torch.no_grad():
        right = torch.nn.functional.normalize(own.encode_image(tagged.preprocessing(VIEWS)), dim=-1)
    for backbone in (tagged, named, *told):
        assert (backbone.encode_views(VIEWS) - right).abs().max() < 1e-5
        assert backbone.checksum == f"{file_checksum(weights)}-quickgelu"
        assert (backbone.card.weights, backbone.card.activation) == (file_checksum(weights), "quick_gelu")


def test_a_file_of_which_nothing_is_told_runs_as_the_architecture_does_and_says_so_once(weights, caplog):
    with caplog.at_level(logging.WARNING):
        guessed = load_backbone(NAME, str(weights), device="cpu")
        load_backbone(NAME, str(weights), device="cpu")
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"nothing says which activation {weights} was trained with" in told
    assert "runs with GELU" in told
    assert "OpenAI, MetaCLIP and DFN were trained with QuickGELU and give wrong features so" in told
    assert told.endswith(f"name the backbone {NAME}-quickgelu for them")
    tagged = load_backbone(NAME, TAG, device="cpu")
    assert (guessed.encode_views(VIEWS) - tagged.encode_views(VIEWS)).abs().max() > 1e-3
    assert guessed.checksum == guessed.card.weights == file_checksum(weights)
    assert guessed.checksum != tagged.checksum, "other features are another backbone"
    assert guessed.card.activation == "gelu"


@pytest.mark.parametrize("how", ["quick", "told", "tag", "no other"])
def test_nothing_is_said_where_nothing_is_guessed(weights, caplog, monkeypatch, how):
    name, pretrained = NAME, str(weights)
    if how == "quick":
        name = f"{NAME}-quickgelu"
    elif how == "told":
        beside(weights)
    elif how == "tag":
        pretrained = TAG
    else:
        monkeypatch.delitem(open_clip.factory._MODEL_CONFIGS, f"{NAME}-quickgelu")
    with caplog.at_level(logging.WARNING):
        load_backbone(name, pretrained, device="cpu")
    assert not caplog.records


def test_the_configuration_beside_a_file_says_its_normalisation_too(weights):
    beside(weights, preprocess_cfg={"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3], "size": [32, 32]})
    backbone = load_backbone(NAME, str(weights), device="cpu")
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert backbone.card.activation == "gelu", "the configuration does not name the other"


def test_a_configuration_that_contradicts_the_name_or_cannot_be_read_is_refused(weights):
    beside(weights)
    with pytest.raises(ValueError, match=rf"not trained with QuickGELU, which {NAME}-quickgelu has; name .* {NAME}$"):
        load_backbone(f"{NAME}-quickgelu", str(weights), device="cpu")
    (weights.parent / CONFIG_FILE).write_text('{"model_cfg": 3}')
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} is not an open_clip configuration with 'model_cfg'"):
        load_backbone(NAME, str(weights), device="cpu")


def test_a_download_without_a_network_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("clipoint3d_ros.clip.backbone._cached", lambda settings: None)
    monkeypatch.setattr("clipoint3d_ros.clip.backbone.getproxies", dict)

    def nobody(host, port):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    told = r"does not find huggingface.co .* fetch timm/vit_base.* elsewhere, open_clip_config.json and .* local-dir:F"
    with pytest.raises(MissingWeights, match=told):
        load_backbone("ViT-B-16", "openai", download=True)


def test_missing_weights_say_how_to_get_them_and_try_no_network(tmp_path, no_network, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    told = r"'openai' of ViT-B-16 are not on this machine; fetch them once .*--download.* open_clip_config.* local-dir"
    with pytest.raises(MissingWeights, match=told):
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


def test_a_shared_backbone_lives_as_long_as_somebody_holds_it(small_model_folder, monkeypatch):
    monkeypatch.setattr(backbone_module, "_shared", None)
    share_backbones()
    first = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    assert load_backbone(f"local-dir:{small_model_folder}", device="cpu") is first
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is None, "nodes that were cleaned up keep it"
