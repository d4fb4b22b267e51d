"""The profiles in config/: what each node would make of them, and that they say why.

A profile is a parameter file of a few sections; a node takes `/**`, then the section of its own name, and of them what
it knows.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest
import yaml

from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.interface_pages import NODES
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

CONFIG = Path(__file__).resolve().parents[2] / "config"
PROFILES = ("jetson_orin_nano", "jetson_orin_nx", "jetson_agx_orin", "workstation")
# Arguments of the launch file, which must not lose to a profile.
BY_ARGUMENT = {"mode", "classes", "bundle", "autostart", "use_sim_time"}
SECTIONS = {"/**", *(f"/**/{name}" for name in NODES)}

each_profile = pytest.mark.parametrize("profile", PROFILES)
each_node = pytest.mark.parametrize("node", NODES)


def sections(profile: str) -> dict[str, dict]:
    read = yaml.safe_load((CONFIG / f"{profile}.yaml").read_text())
    return {name: section["ros__parameters"] for name, section in read.items()}


def names(node: str) -> set[str]:
    return {field.name for field in dataclasses.fields(NODES[node][0])}


def given(profile: str, node: str) -> dict:
    """What the node takes of the file."""
    read = sections(profile)
    return {name: value for name, value in read["/**"].items() if name in names(node)} | read.get(f"/**/{node}", {})


def made(profile: str, node: str):
    config = build(NODES[node][0], given(profile, node))  # raises for an unknown name and a value out of its limits
    getattr(config, "check", lambda: None)()
    return config


@each_profile
def test_every_section_is_some_node_s_and_every_name_known(profile):
    read = sections(profile)
    assert set(read) <= SECTIONS, f"no node reads {set(read) - SECTIONS}"
    strangers = set(read["/**"]) - set().union(*map(names, NODES))
    assert not strangers, f"/** gives {strangers}, which no node has"
    for node in NODES:
        strangers = set(read[f"/**/{node}"]) - names(node)
        assert not strangers, f"{node} has no {strangers}"


@each_node
@each_profile
def test_a_node_can_use_every_value(profile, node):
    config = made(profile, node)
    for name, value in given(profile, node).items():
        assert getattr(config, name) == value, f"{name}: {value!r} is not of the parameter's own type"


@each_profile
def test_the_rooms_below_take_it(profile):
    config = made(profile, "perception")
    assert config.classifier.max_views == sections(profile)["/**/perception"]["max_views"]
    companion = made(profile, "adaptation").companion
    assert companion.memory.objects == given(profile, "adaptation").get("objects", AdaptationConfig().objects)
    assert made(profile, "segmenter").segmenter.crop.max_range == sections(profile)["/**/segmenter"].get(
        "max_range", 2.5
    )


@each_profile
def test_perception_and_adaptation_agree_on_the_model(profile):
    ours, theirs = made(profile, "perception"), made(profile, "adaptation")
    for name in ("backbone", "pretrained", "patches", "device", "classes"):
        assert getattr(ours, name) == getattr(theirs, name), f"{name} differs, so features would not be comparable"


@each_profile
def test_launch_arguments_stay_the_user_s(profile):
    for name, section in sections(profile).items():
        assert not BY_ARGUMENT & set(section), f"{name} would win over the launch argument of a process with both nodes"


@each_profile
def test_every_choice_has_its_reason_above_it(profile):
    """A comment above each parameter, or above the one before where both have one reason."""
    lines = (CONFIG / f"{profile}.yaml").read_text().splitlines()
    gaps = 0
    for before, line in itertools.pairwise(lines):
        if re.match(r"    \w+:", line):
            gaps = 0 if before.lstrip().startswith("#") else gaps + 1
            alone = before.endswith("ros__parameters:") or gaps > 2
            assert not alone, f"{line.strip()} stands without a reason"


def test_a_smaller_board_never_takes_more_than_a_larger():
    boards = PROFILES[:3]
    for node, name in (
        ("perception", "max_views"),
        ("perception", "max_segments"),
        ("adaptation", "duty_cycle"),
        ("adaptation", "max_power_w"),
        ("adaptation", "max_memory_mb"),
        ("adaptation", "objects"),
        ("adaptation", "memory_mb"),
        ("segmenter", "max_range"),
    ):
        values = [getattr(made(board, node), name) for board in boards]
        assert values == sorted(values), f"{name} of {boards} is {values}"


def test_the_workstation_is_exact():
    defaults = PerceptionConfig().classifier
    assert dataclasses.replace(made("workstation", "perception").classifier, max_views=defaults.max_views) == defaults


@pytest.mark.ros
@each_node
@each_profile
def test_the_real_node_starts_with_it(profile, node):
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("vision_msgs")
    from peer import DOMAIN, transports
    from rclpy.parameter import Parameter

    from clipoint3d_ros.nodes.interface_pages import node_classes

    context = rclpy.Context()
    with transports("UDPv4"):
        arguments = ["--ros-args", "--params-file", str(CONFIG / f"{profile}.yaml")]
        rclpy.init(args=arguments, context=context, domain_id=DOMAIN)
        try:
            made_node = node_classes()[node](context=context, parameter_overrides=[Parameter("autostart", value=False)])
            try:
                values = {name: made_node.get_parameter(name).value for name in given(profile, node)}
                assert values == given(profile, node), "ROS reads the file otherwise than this test"
            finally:
                made_node.close()
                made_node.destroy_node()
        finally:
            rclpy.shutdown(context=context)
