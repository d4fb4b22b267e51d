"""Recipes: those of the package load, and mistakes are named."""

import pytest
import yaml

from clipoint3d_ros.adaptation.config import LossConfig, Recipe, load_recipe
from clipoint3d_ros.resources import config_dir, config_file

OWN = sorted(path.name for path in (config_dir() / "train").glob("*.yaml"))


def recipe_file(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", OWN)
def test_the_packages_own_recipes_load(name):
    path = config_file(f"train/{name}")
    recipe = load_recipe(path)
    for section, values in yaml.safe_load(path.read_text()).items():
        for key, value in values.items():
            assert getattr(getattr(recipe, section), key) == value, f"{section}.{key}"


def test_an_empty_recipe_is_the_defaults_and_changes_come_last(tmp_path):
    path = recipe_file(tmp_path, "")
    assert load_recipe(path) == Recipe()
    path = recipe_file(tmp_path, "training: {steps: 7, seed: 3}")
    changed = load_recipe(path, ["training.steps=9", "losses.conf=0", "transport.unbalanced=0.3", "network.variant=T"])
    assert (changed.training.steps, changed.training.seed) == (9, 3)
    assert changed.losses.conf == 0.0
    assert changed.transport.unbalanced == 0.3
    assert changed.network.variant == "T"
    assert load_recipe(path, ["training.learning_rate=1e-4"]).training.learning_rate == 1e-4, "a number without a point"
    assert load_recipe(path, ["transport.unbalanced=null"]).transport.unbalanced is None
    assert changed.seeded(5).training.seed == 5
    assert changed.seeded(3) == changed


def test_a_recipe_that_is_not_there_is_answered_with_where_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="config/train holds this package's own"):
        load_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("training: {stepps: 3}", "unknown key 'stepps'; known are shots, probe, steps"),
        ("trainings: {steps: 3}", r"unknown keys \['trainings'\]; sections are network, losses, transport, training"),
        ("training: {steps: many}", "'steps' of .* must be int"),
        ("training: {steps: 1.5}", "'steps' of .* must be int"),
        ("training: {steps: true}", "'steps' of .* must be int"),
        ("training: {ema: true}", "'ema' of .* must be float"),
        ("training: {target_statistics: 1}", "'target_statistics' of .* must be bool"),
        ("training: {steps: null}", "'steps' of .* must be int"),
        ("training: {statistics: true}", "'statistics' of .* must be int"),
        ("training: {misshape: some}", "'misshape' of .* must be float"),
        ("training: {encoder_points: 64}", "unknown key 'encoder_points'"),
        ("network: {tuning: none, context: 0}", "trains nothing; choose lora, or a context of 4"),
        ("losses: {conf: [1]}", "'conf' of .* must be float"),
        ("network: {variant: 3}", "'variant' of .* must be str"),
        ("training: 5", "'training' of .* must be a mapping"),
        ("training: [steps]", "'training' of .* must be a mapping"),
        ("[training]", "must be a mapping"),
        ("training: {", "is not YAML"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_recipe(recipe_file(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("training.stepps=3", "unknown key 'stepps'"),
        ("steps=3", "is no change"),
        ("training.steps", "is no change"),
        ("training.steps=[", "no YAML value"),
        ("losses.conf=much", "'conf' of .* must be float"),
        *[
            (f"training.{name}=0", f"training.{name} must be at least 1")
            for name in ("shots", "probe", "steps", "views", "points", "probe_every")
        ],
        ("training.objects=1", "batch statistics of one object"),
        ("training.views=11", "training.views is 11, but there are 10 views"),
        ("training.scans=-1", "must be 0 or more"),
        ("training.views_at_once=-1", "must be 0 or more"),
        ("training.checkpoint_every=0", "checkpoint_every at least 1"),
        ("training.scan_share=1.5", r"training.scan_share must lie in \[0, 1\]"),
        ("training.ema=-0.1", r"training.ema must lie in \[0, 1\]"),
        ("training.cut_share=.nan", r"training.cut_share must lie in \[0, 1\]"),
        ("training.patches=-1", "must be 0 or more"),
        ("training.certain=-1", "training.certain must be 0 or more"),
        ("training.certain=.nan", "training.certain must be 0 or more"),
        ("training.statistics=-1", "training.statistics must be 0 or more looks, but is -1"),
        *[
            (f"training.misshape={value}", rf"misshape {value.strip('.')} must lie in \[0, 1\)")
            for value in ("-0.1", "1.0", ".nan")
        ],
        *[
            (f"training.keep_margin={value}", rf"keep_margin {value.strip('.')} in \[0, 1\]")
            for value in ("-0.1", "1.1", ".nan")
        ],
        ("training.precision=fp16", "precision is one of fp32, bf16"),
        ("training.optimiser=adam", "optimiser one of adamw, sgd"),
        ("training.learning_rate=0", "learning_rate must be above 0"),
        ("training.learning_rate=.nan", "learning_rate must be above 0"),
        ("losses.conf=-1", "loss weights conf must be 0 or more"),
        ("losses.ce=.nan", "loss weights ce must be 0 or more"),
        ("losses.transport=.inf", "loss weights transport must be 0 or more"),
        ("losses.proto_temperature=0", "proto_temperature must be above 0"),
        ("losses.smoothing=1", r"smoothing in \[0, 1\)"),
        ("network.variant=X", "variant 'X' is none of T, V, B"),
        ("network.tuning=full", "tuning 'full' is none of"),
        ("network.points=0", "heads and points must be at least 1, but are 8 and 0"),
        ("transport.epsilon=0", "epsilon is 0"),
    ],
)
def test_values_beyond_their_range_are_refused_by_name(tmp_path, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_recipe(recipe_file(tmp_path, ""), [change])


@pytest.mark.parametrize(
    "change", ["training.misshape=0", "training.statistics=0", "training.keep_margin=0", "training.keep_margin=1"]
)
def test_values_at_the_ends_of_their_range_are_taken(tmp_path, change):
    key, value = change.removeprefix("training.").split("=")
    assert getattr(load_recipe(recipe_file(tmp_path, ""), [change]).training, key) == float(value)


def test_a_recipe_without_losses_of_the_target_does_not_look_at_it():
    assert LossConfig().sees_target
    blind = {"conf": 0.0, "transport": 0.0, "proto": 0.0, "agree": 0.0}
    assert not LossConfig(**blind).sees_target
    for name in blind:
        assert LossConfig(**{**blind, name: 0.1}).sees_target, name
