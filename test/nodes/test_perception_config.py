"""The perception node's parameters and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from clipoint3d_ros.nodes.parameters import ParameterError, build, changed, constraints
from clipoint3d_ros.nodes.perception_config import PerceptionConfig, default_file
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.tracks import TrackerConfig

FILE = Path(__file__).parents[2] / "config" / "perception.yaml"


def test_the_file_is_what_the_node_declares():
    assert FILE.read_text() == default_file(), "run: python -m clipoint3d_ros.nodes.perception_config"


def test_the_file_s_values_are_the_defaults():
    sections = yaml.safe_load(FILE.read_text())
    assert list(sections) == ["/**", "/**/perception"]
    read = {name: value for each in sections.values() for name, value in each["ros__parameters"].items()}
    fields = {field.name for field in dataclasses.fields(PerceptionConfig)}
    assert set(read) == fields - {"stable_ids"}, "it is the launch file's to set, until a user's own file does"
    assert "    # stable_ids: false" in FILE.read_text().splitlines()
    assert build(PerceptionConfig, read) == PerceptionConfig()


@pytest.mark.parametrize("field", dataclasses.fields(PerceptionConfig), ids=lambda field: field.name)
def test_every_parameter_has_a_description_and_every_number_a_range(field):
    assert len(field.metadata["description"]) > 10
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        assert " to " in constraints(field)


def test_defaults_agree_with_the_rooms_below():
    config = PerceptionConfig()
    assert config.classifier == ClassifierConfig()
    assert config.segments == type(config.segments)()
    assert config.frames == type(config.frames)()


def test_objects_are_followed_where_something_is_made_of_it():
    assert not PerceptionConfig(stable_ids=True, fixed_frame="odom").follows
    assert PerceptionConfig(fuse_tracks=True).follows
    assert PerceptionConfig(reuse_still=True).follows
    assert PerceptionConfig().tracker == TrackerConfig()
    assert PerceptionConfig(stable_ids=True).tracker == TrackerConfig(ids_last_s=2.0)


@pytest.mark.parametrize(
    ("classes", "source"),
    [
        ("", None),
        (["mug", "box"], ["mug", "box"]),
        ("mug", ["mug"]),
        ("/a/b.yaml", "/a/b.yaml"),
        (["c.yml"], "c.yml"),
        ("/a/B.YAML", "/a/B.YAML"),
        ("./classes.txt", "./classes.txt"),
        ("no. 2", ["no. 2"]),
    ],
)
def test_classes_are_names_or_a_path(classes, source):
    assert build(PerceptionConfig, {"classes": classes}).class_source == source


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"up": [0, 0, 0]}, "all zero"),
        ({"classes": ["mug", "mug"]}, "twice"),
        ({"selection": "some"}, "auto, sensor, entropy, all"),
        ({"unknown_below": 1.5}, "0 to 1"),
        ({"unknown_below_class": ["mug:0.5"]}, "'mug:0.5'; each must read NAME=VALUE"),
        ({"unknown_below_class": ["mug=1.5"]}, "0 to 1"),
        ({"unknown_below_class": ["mug=nan"]}, "0 to 1"),
        ({"unknown_below_class": ["=0.5"]}, "NAME=VALUE"),
        ({"unknown_below_class": "mug=0.5, mug=0.6"}, "'mug' twice"),
    ],
)
def test_what_no_node_should_serve(values, words):
    with pytest.raises(ParameterError, match=words):
        changed(PerceptionConfig(), values, configured=True)


def test_class_thresholds_are_words_of_name_and_value():
    config = build(PerceptionConfig, {"unknown_below_class": ["tea pot = 0.25", "a=b=1", "mug=0"]})
    assert config.classifier.unknown_below_class == (("tea pot", 0.25), ("a=b", 1.0), ("mug", 0.0))
