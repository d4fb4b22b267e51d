"""Pretraining in the small: generation and training resume with the same result, and training learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from small_model import SMALL

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import load_descriptions
from clipoint3d_ros.pretraining import heldout
from clipoint3d_ros.pretraining.config import CorpusConfig, PretrainConfig, TrainingConfig, load_pretrain_config
from clipoint3d_ros.pretraining.corpus import generate
from clipoint3d_ros.pretraining.training import publish, train
from clipoint3d_ros.resources import config_file

CPU = torch.device("cpu")
CORPUS = CorpusConfig(complete=30, tabletop_scenes=8, floor_scenes=0, points=512, min_points=100)
TRAINING = TrainingConfig(steps=12, objects=12, views=2, tokens=16, learning_rate=3e-3, warmup=4, checkpoint_every=4)
CONFIG = PretrainConfig("small", CORPUS, SMALL, replace(TRAINING, precision="fp32"))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "three.yaml"
    path.write_text("classes: {box: [six flat faces], bottle: [a narrow neck], plate: [a flat round disc]}\n")
    return load_descriptions(path)


@pytest.fixture(scope="module")
def corpus(classes, tmp_path_factory):
    return generate(classes.names, CORPUS, tmp_path_factory.mktemp("corpus"), workers=0, progress=False)


def test_training_stopped_and_resumed_equals_training_in_one_go(corpus, classes, tmp_path):
    whole = train(CONFIG, corpus, classes, tmp_path / "whole", CPU)
    train(CONFIG, corpus, classes, tmp_path / "parts", CPU, stop_at=5)
    resumed = train(CONFIG, corpus, classes, tmp_path / "parts", CPU)
    assert resumed.step == whole.step == 12
    for (name, a), b in zip(whole.average.named_parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(a, b), f"{name} differs after a resume"


def test_a_checkpoint_of_another_configuration_is_refused(corpus, classes, tmp_path):
    train(CONFIG, corpus, classes, tmp_path, CPU, stop_at=1)
    other = replace(CONFIG, training=replace(CONFIG.training, learning_rate=1e-4))
    with pytest.raises(ValueError, match="of another configuration"):
        train(other, corpus, classes, tmp_path, CPU)
    with pytest.raises(ValueError, match="of another configuration"):
        train(CONFIG, corpus, replace(classes, template="{class}, {description}"), tmp_path, CPU)


def test_classes_without_clouds_are_named(corpus, classes, tmp_path):
    with pytest.raises(ValueError, match="frequent classes sofa are none of the classes box, bottle, plate"):
        train(replace(CONFIG, corpus=replace(CORPUS, frequent=("sofa",))), corpus, classes, tmp_path, CPU)
    with pytest.raises(ValueError, match="no cloud of bottle"):
        train(CONFIG, replace(corpus, labels=np.where(corpus.labels == 1, 0, corpus.labels)), classes, tmp_path, CPU)


def test_training_learns_and_its_model_can_be_published_and_served(corpus, classes, tmp_path):
    figures = []
    config = replace(CONFIG, training=replace(CONFIG.training, steps=150, warmup=10, ema=0.9))
    run = train(config, corpus, classes, tmp_path, CPU, report=lambda _, told: figures.append(told))
    first, last = (np.mean([f["accuracy"] for f in part]) for part in (figures[:10], figures[-10:]))
    assert last > first + 0.15, f"accuracy went from {first:.2f} to {last:.2f}"
    publish(run, config, tmp_path / "small", {})
    told = heldout.measure(load_backbone(f"local-dir:{tmp_path / 'small'}", device="cpu"), classes, corpus)
    assert told.complete > 0.6
    publish(run, config, tmp_path / "small", {"temperature": 1.7, "unknown_logit": -0.5, "training": {"steps": 150}})
    backbone = load_backbone(f"local-dir:{tmp_path / 'small'}", device="cpu")
    assert (backbone.temperature, backbone.unknown_logit) == (1.7, -0.5)
    assert (tmp_path / "small" / "SHA256SUMS").read_text().startswith(backbone.checksum)
    with pytest.raises(ValueError, match="has the temperature"):
        heldout.measure(backbone, classes, corpus)
    embedding = backbone.model.token_embedding.weight
    unseen = backbone.tokenizer(["xylophone quasar"])[0, 1]
    assert (embedding[unseen] == 0).all(), "a word never met says nothing"
    assert json.loads((tmp_path / "small" / "open_clip_config.json").read_text())["clipoint3d"]["drop_empty"]


def test_published_configurations_are_readable_and_mistakes_are_named(tmp_path):
    config = load_pretrain_config(config_file("pretrain/clipoint3d-tiny.yaml"))
    assert config.name == "clipoint3d-tiny"
    for text, complaint in [
        ("name: a\ntraining: {stepps: 3}", "unknown key 'stepps'"),
        ("name: a\ntraining: {steps: many}", "'steps' of .* must be int"),
        ("corpus: {}", "'name'"),
        ("name: a\nmodle: {}", "unknown keys"),
        ("name: a\ntraining: {precision: fp16}", "'fp16'; it must be bf16 or fp32"),
    ]:
        path = tmp_path / "model.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=complaint):
            load_pretrain_config(path)
    path.write_text(yaml.safe_dump({"name": "a", "model": {"stem": [4, 8]}, "training": {"ema": 1}}))
    read = load_pretrain_config(path)
    assert read.model.stem == (4, 8)
    assert read.training.ema == 1.0
    changed = load_pretrain_config(path, ["training.steps=7", "model.stem=[]", "corpus.sensors=[tof]"])
    assert (changed.training.steps, changed.model.stem, changed.corpus.sensors) == (7, (), ("tof",))
    assert changed.training.ema == 1.0, "what is not changed is the file's"
    for change, complaint in [
        ("steps=7", "is no change"),
        ("training.steps", "is no change"),
        ("training.stepps=7", "unknown key 'stepps'"),
        ("training.steps=[", "no YAML value"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            load_pretrain_config(path, [change])
    with pytest.raises(FileNotFoundError, match="no pretraining configuration"):
        load_pretrain_config(tmp_path / "absent.yaml")
