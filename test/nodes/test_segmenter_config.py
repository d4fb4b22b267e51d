"""The segmenter node's parameters and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from clipoint3d_ros.geometry.segmentation.segment import SegmenterConfig
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.frames import FrameConfig
from clipoint3d_ros.nodes.node_config import SHARED_NAMES
from clipoint3d_ros.nodes.parameters import ParameterError, build, changed, constraints
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.segmenter_config import SegmenterNodeConfig, default_file
from clipoint3d_ros.recognition.tracks import TrackerConfig

FILE = Path(__file__).parents[2] / "config" / "segmenter.yaml"


def test_the_file_is_what_the_node_declares():
    assert FILE.read_text() == default_file(), "run: python -m clipoint3d_ros.nodes.segmenter_config"


def test_the_file_s_values_are_the_defaults():
    sections = yaml.safe_load(FILE.read_text())
    assert list(sections) == ["/**", "/**/segmenter"]
    read = {name: value for each in sections.values() for name, value in each["ros__parameters"].items()}
    assert set(read) == {field.name for field in dataclasses.fields(SegmenterNodeConfig)}
    assert build(SegmenterNodeConfig, read) == SegmenterNodeConfig()


@pytest.mark.parametrize("field", dataclasses.fields(SegmenterNodeConfig), ids=lambda field: field.name)
def test_every_parameter_has_a_description_and_every_number_a_range(field):
    assert len(field.metadata["description"]) > 10
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        assert " to " in constraints(field)


def test_defaults_agree_with_the_rooms_below():
    config = SegmenterNodeConfig()
    assert config.segmenter == SegmenterConfig()
    assert config.tracker == TrackerConfig()
    assert config.frames == FrameConfig()


@pytest.mark.parametrize("other", [PerceptionConfig, AdaptationConfig])
def test_one_parameter_file_serves_all_nodes(other):
    """A name that two nodes share under `/**` must mean the same, so its default is the same."""
    ours, theirs = ({f.name: f.default for f in dataclasses.fields(c)} for c in (SegmenterNodeConfig, other))
    shared = set(ours) & set(theirs) - set(SHARED_NAMES)
    assert shared, "frames and autostart are common to nodes"
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"up": [0, 0, 0]}, "all zero"),
        ({"min_range": 3.0}, "nothing would be left"),
        ({"min_size": 1.0}, "'max_size' 0.6"),
        ({"voxel": 0.0}, "0.001 to 1"),
    ],
)
def test_what_no_node_should_serve(values, words):
    with pytest.raises(ParameterError, match=words):
        changed(SegmenterNodeConfig(), values, configured=True)
