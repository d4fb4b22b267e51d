"""The adaptation node's parameters and its file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import yaml

from clipoint3d_ros.adaptation.companion import CompanionConfig
from clipoint3d_ros.adaptation.reference import ReferenceConfig
from clipoint3d_ros.nodes.adaptation_config import MODES, AdaptationConfig, default_file
from clipoint3d_ros.nodes.parameters import ParameterError, build, changed, constraints
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.recognition.tracks import TrackerConfig

PERCEPTION_FILE = Path(__file__).parents[2] / "config" / "perception.yaml"
FILE = Path(__file__).parents[2] / "config" / "adaptation.yaml"


def test_the_file_is_what_the_node_declares():
    assert FILE.read_text() == default_file(), "run: python -m clipoint3d_ros.nodes.adaptation_config"


def test_the_file_s_values_are_the_defaults():
    sections = yaml.safe_load(FILE.read_text())
    assert list(sections) == ["/**", "/**/adaptation"]
    read = {name: value for each in sections.values() for name, value in each["ros__parameters"].items()}
    fields = {field.name for field in dataclasses.fields(AdaptationConfig)}
    assert set(read) == fields - {"stable_ids"}, "it is the launch file's to set, until a user's own file does"
    assert "    # stable_ids: false" in FILE.read_text().splitlines()
    assert build(AdaptationConfig, read) == AdaptationConfig()


@pytest.mark.parametrize("field", dataclasses.fields(AdaptationConfig), ids=lambda field: field.name)
def test_every_parameter_has_a_description_and_every_number_a_range(field):
    assert len(field.metadata["description"]) > 10
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        assert " to " in constraints(field)


def test_defaults_agree_with_the_rooms_below():
    assert AdaptationConfig().companion == CompanionConfig()
    assert AdaptationConfig().reference == ReferenceConfig()


def test_every_setting_of_memory_gate_and_guard_reaches_the_companion():
    values = {
        "objects": 10, "per_class": 5, "memory_mb": 2.0, "max_age_s": 30.0, "max_entropy": 0.1, "min_agreement": 0.2,
        "min_points": 3, "min_familiarity": 0.4, "every": 7, "anchor": 8.0, "probe_loss": 0.05, "least_variety": 0.06,
        "entropy_rise": 0.07, "most_drift": 0.08, "rejections": 9,
    }  # fmt: skip
    told = build(AdaptationConfig, values).companion
    assert (told.memory.objects, told.memory.per_class, told.memory.megabytes, told.memory.max_age_s) == (10, 5, 2, 30)
    assert dataclasses.astuple(told.gate) == (0.1, 0.2, 3, 0.4)
    assert (told.guard.probe_loss, told.guard.least_variety, told.guard.entropy_rise) == (0.05, 0.06, 0.07)
    assert (told.guard.most_drift, told.guard.rejections) == (0.08, 9)
    assert (told.every, told.follow.anchor) == (7, 8)


@pytest.mark.parametrize(
    ("values", "forget_s", "ids_last_s"),
    [({}, 2, 0), ({"fixed_frame": "odom"}, 60, 0), ({"stable_ids": True}, 2, 60),
     ({"fixed_frame": "odom", "stable_ids": True}, 60, 60)],
)  # fmt: skip
def test_objects_are_known_again_for_long_only_by_what_stays(values, forget_s, ids_last_s):
    assert build(AdaptationConfig, values).tracker == TrackerConfig(forget_s=forget_s, ids_last_s=ids_last_s)


def test_shots_and_probe_reach_the_reference():
    told = build(AdaptationConfig, {"shots": 3, "probe": 2}).reference
    assert (told.shots, told.probe) == (3, 2)


@pytest.mark.parametrize("name", ["backbone", "pretrained", "classes", "device", "autostart"])
def test_what_both_nodes_share_has_the_same_default(name):
    assert getattr(AdaptationConfig(), name) == getattr(PerceptionConfig(), name)


@pytest.mark.parametrize(
    ("classes", "source"), [("", None), (["mug", "box"], ["mug", "box"]), ("/a/b.yaml", "/a/b.yaml")]
)
def test_classes_are_names_or_a_path_as_perception_s(classes, source):
    assert build(AdaptationConfig, {"classes": classes}).class_source == source
    assert build(PerceptionConfig, {"classes": classes}).class_source == source


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "offline"}, "'mode' is 'offline'; it must be one of statistics, gradient"),
        ({"duty_cycle": 0.0}, "'duty_cycle' is 0.0; it must be 0.001 to 1"),
        ({"duty_cycle": math.nan}, "'duty_cycle' is nan; it must be 0.001 to 1"),
        ({"every": 0}, "'every' is 0; it must be 1 to 100000"),
        ({"most_drift": 1.5}, "'most_drift' is 1.5; it must be 0 to 1"),
        ({"keep": 0}, "'keep' is 0"),
    ],
)
def test_values_outside_their_limits_are_refused(values, words):
    with pytest.raises(ParameterError, match=words):
        build(AdaptationConfig, values)


def test_every_mode_is_one_of_the_choices():
    assert [build(AdaptationConfig, {"mode": mode}).mode for mode in MODES] == ["statistics", "gradient"]


@pytest.mark.parametrize("name", ["mode", "classes", "objects", "anchor", "rejections", "state_folder"])
def test_what_the_companion_is_made_from_does_not_change_while_configured(name):
    value = {"mode": "gradient", "classes": ["mug"], "state_folder": "/elsewhere"}.get(name, 11)
    with pytest.raises(ParameterError, match=f"'{name}' cannot change while the node is configured"):
        changed(AdaptationConfig(), {name: value}, configured=True)
    assert changed(AdaptationConfig(), {name: value}, configured=False) != AdaptationConfig()


def test_budget_and_pace_change_while_it_runs():
    values = {"duty_cycle": 0.5, "max_power_w": 12.0, "max_memory_mb": 900.0, "hand_over_s": 0.0}
    told = changed(AdaptationConfig(), values, configured=True)
    assert [getattr(told, name) for name in values] == list(values.values())


def test_every_number_within_its_range_makes_a_companion():
    fields = [f for f in dataclasses.fields(AdaptationConfig) if f.metadata["low"] is not None]
    for end in ("low", "high"):
        told = build(AdaptationConfig, {f.name: type(f.default)(f.metadata[end]) for f in fields})
        assert told.companion.every >= 1
        assert told.reference.shots >= 1


def test_what_both_nodes_have_is_the_same_or_given_by_name():
    """The launch file gives one parameter file to both."""
    ours, theirs = (set(yaml.safe_load(f.read_text())["/**"]["ros__parameters"]) for f in (FILE, PERCEPTION_FILE))
    shared = {"backbone", "pretrained", "patches", "classes", "device", "autostart", "warning_period_s"}
    shared |= {"error_after_s", "fixed_frame", "tf_timeout_s"}
    assert ours & theirs == shared
    for name in ours & theirs:
        assert getattr(AdaptationConfig(), name) == getattr(PerceptionConfig(), name)
