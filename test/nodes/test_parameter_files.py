"""Parameter files read without ROS: what a node of a name takes of them."""

from __future__ import annotations

import pytest

from clipoint3d_ros.nodes.parameter_files import mentions, read_parameters
from clipoint3d_ros.nodes.parameters import ParameterError
from clipoint3d_ros.nodes.perception_config import PerceptionConfig


def written(folder, text):
    path = folder / "my.yaml"
    path.write_text(text)
    return path


def section(name, **values):
    lines = "".join(f"    {key}: {value}\n" for key, value in values.items())
    return f"{name}:\n  ros__parameters:\n{lines}"


def test_a_node_takes_what_it_knows_of_everybody_s_section_and_its_own_wins(tmp_path):
    text = section("/**", top_k=1, voxel=0.01, precision="auto") + section("/**/perception", top_k=2)
    path = written(tmp_path, text + section("/**/segmenter", top_k=9))
    assert read_parameters(path, "perception", PerceptionConfig) == {"top_k": 2, "precision": "auto"}


@pytest.mark.parametrize("name", ["perception", "/perception", "/robot1/perception", "/*", "/**"])
def test_the_section_may_name_the_node_in_any_namespace(tmp_path, name):
    path = written(tmp_path, section(f'"{name}"', top_k=4))
    assert read_parameters(path, "perception", PerceptionConfig) == {"top_k": 4}


def test_what_every_node_of_ros_has_is_left_to_ros(tmp_path):
    path = written(tmp_path, section("perception", top_k=4, use_sim_time="true", qos_overrides="{}"))
    assert read_parameters(path, "perception", PerceptionConfig) == {"top_k": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (section("/**/perception", top_q=2), "gives perception 'top_q', which is none of its parameters"),
        ("- a\n- b\n", "no parameter file of ROS"),
        ("/**:\n  top_k: 2\n", "'/\\*\\*' should hold 'ros__parameters:'"),
        ("a: [", "is no YAML file"),
    ],
)
def test_what_is_no_parameter_file_is_refused_in_words(tmp_path, text, words):
    with pytest.raises(ParameterError, match=words):
        read_parameters(written(tmp_path, text), "perception", PerceptionConfig)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"cannot read the parameter file .*gone.yaml: No such file"):
        read_parameters(tmp_path / "gone.yaml", "perception", PerceptionConfig)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/**:\n  ros__parameters:\n    stable_ids: false\n", True),
        ("robot1:\n  perception:\n    ros__parameters:\n      stable_ids: true\n", True),
        ("/**:\n  ros__parameters:\n    # stable_ids: false\n    top_k: 2\n", False),
        ("stable_ids:\n  ros__parameters:\n    top_k: 2\n", False),
        ("- stable_ids\n", False),
        ("a: [", False),
        ("", False),
    ],
)
def test_a_file_mentions_what_it_gives_to_any_node(tmp_path, text, said):
    assert mentions(written(tmp_path, text), "stable_ids") == said


def test_no_file_mentions_nothing(tmp_path):
    assert not mentions(tmp_path / "none.yaml", "stable_ids")
