"""The launch file: its arguments, what they turn into, what is refused. Needs ROS's launch, which no wheel brings."""

from __future__ import annotations

import os

import pytest
from launch_files import FOLDER, launch_file

from clipoint3d_ros.nodes import transports

ARGUMENTS = {
    "input",
    "segmenter",
    "bundle",
    "classes",
    "params_file",
    "adaptation",
    "one_process",
    "autostart",
    "device",
}

pytest.importorskip("launch.actions", reason="launch is not installed: it comes with a ROS 2 installation")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed: it comes with a ROS 2 installation")

import launch  # noqa: E402
from launch.utilities import perform_substitutions  # noqa: E402
from launch_ros.actions import LifecycleNode, Node  # noqa: E402
from launch_ros.utilities import evaluate_parameters  # noqa: E402


@pytest.fixture
def module():
    return launch_file("perception")


@pytest.fixture
def context(module, tmp_path):
    """A launch context with every argument at its default, but for the parameter file: no install is needed."""
    context = launch.LaunchContext()
    for argument in module.ARGUMENTS:
        if argument.name != "params_file":
            argument.execute(context)
    parameters = tmp_path / "perception.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    top_k: 2\n")
    context.launch_configurations["params_file"] = str(parameters)
    return context


def test_every_argument_is_declared_with_a_description(module):
    declared = {argument.name: argument for argument in module.generate_launch_description().get_launch_arguments()}
    assert set(declared) >= ARGUMENTS
    assert all(argument.description for argument in declared.values())
    assert declared["adaptation"].choices == ["off", "statistics", "gradient"]


def test_it_starts_the_lifecycle_node(module, context):
    (node,) = module.nodes(context)
    assert isinstance(node, LifecycleNode)
    assert (node.node_package, node.node_executable) == ("clipoint3d_ros", "perception_node")


def parameters(context, node):
    """Those that were given as arguments, beside the parameter file."""
    given = [each for each in evaluate_parameters(context, node._Node__parameters) if isinstance(each, dict)]
    return {name: value for each in given for name, value in each.items()}


def test_a_bundle_is_passed_to_the_node_and_an_empty_one_leaves_it_to_the_parameter_file(module, context):
    assert "bundle" not in parameters(context, *module.nodes(context))
    context.launch_configurations["bundle"] = "/some/bundle 2"
    assert parameters(context, *module.nodes(context))["bundle"] == "/some/bundle 2"


@pytest.mark.parametrize("mode", ["statistics", "gradient"])
def test_adaptation_starts_a_second_lifecycle_node_with_what_both_share(module, context, mode):
    given = {"adaptation": mode, "classes": "mug, can", "bundle": "/some/bundle", "device": "cpu", "autostart": "false"}
    context.launch_configurations.update(given)
    node, companion = module.nodes(context)
    assert all(isinstance(each, LifecycleNode) for each in (node, companion))
    assert (node.node_executable, companion.node_executable) == ("perception_node", "adaptation_node")
    shared = {"classes": "mug, can", "device": "cpu", "autostart": False}
    assert parameters(context, node) == {**shared, "bundle": "/some/bundle"}
    assert parameters(context, companion) == {**shared, "mode": mode}


def test_both_nodes_in_one_process_are_one_program(module, context):
    context.launch_configurations.update({"adaptation": "statistics", "one_process": "true", "classes": "mug"})
    (both,) = module.nodes(context)
    assert isinstance(both, Node)
    assert both.node_executable == "robot_nodes"
    assert parameters(context, both) == {"classes": "mug", "mode": "statistics"}


def test_without_adaptation_one_process_is_the_perception_node_alone(module, context):
    context.launch_configurations["one_process"] = "true"
    (node,) = module.nodes(context)
    assert node.node_executable == "perception_node"


def test_a_segmenter_takes_the_input_and_perception_takes_what_it_says(module, context):
    context.launch_configurations.update({"segmenter": "true", "input": "/camera/depth/points", "autostart": "false"})
    segmenter, node = module.nodes(context)
    assert (segmenter.node_executable, node.node_executable) == ("segmenter_node", "perception_node")
    assert parameters(context, segmenter) == {"autostart": False}

    def remapped(which):
        return {
            perform_substitutions(context, [*a]): perform_substitutions(context, [*b])
            for a, b in which._Node__remappings
        }

    assert remapped(segmenter) == {"~/input/points": "/camera/depth/points"}
    assert remapped(node) == {"~/input/points": "segmenter/output/segments"}


@pytest.mark.parametrize("one_process", [False, True])
def test_ids_of_our_own_segmenter_last_for_whoever_listens_to_it(module, context, one_process):
    context.launch_configurations.update({"adaptation": "statistics", "one_process": str(one_process).lower()})

    def told():
        return [parameters(context, node).get("stable_ids") for node in module.nodes(context)]

    listeners = [True] if one_process else [True, True]
    assert not any(told()), "of another segmenter nobody here knows that"
    context.launch_configurations["segmenter"] = "true"
    assert told() == [None, *listeners], "the segmenter itself follows nobody's ids"


@pytest.mark.parametrize("said", ["true", "false"])
def test_a_parameter_file_has_the_last_word_on_ids(module, context, tmp_path, said):
    file = tmp_path / "own.yaml"
    file.write_text(f"/**:\n  ros__parameters:\n    stable_ids: {said}\n")
    context.launch_configurations.update({"segmenter": "true", "adaptation": "statistics", "params_file": str(file)})
    for node in module.nodes(context):
        assert "stable_ids" not in parameters(context, node)


@pytest.mark.parametrize("name", ["perception", "workstation"])
def test_files_of_defaults_leave_ids_to_the_launch_file(module, context, name):
    file = FOLDER.parent / "config" / f"{name}.yaml"
    context.launch_configurations.update({"segmenter": "true", "params_file": str(file)})
    assert parameters(context, module.nodes(context)[1])["stable_ids"] is True


@pytest.mark.parametrize("chosen", [None, "UDPv4"])
def test_transports_are_set_unless_the_user_has_chosen(module, monkeypatch, chosen):
    for name in transports.CHOICES:
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(transports.BUILTIN, chosen)
    context = launch.LaunchContext()
    actions = module.generate_launch_description().entities
    set_here = [action for action in actions if isinstance(action, launch.actions.SetEnvironmentVariable)]
    for action in set_here:
        action.execute(context)
    profile = os.environ.get(transports.variable(), "")
    monkeypatch.delenv(transports.variable(), raising=False)
    assert profile.endswith(transports.PROFILE) is not bool(chosen)
    assert bool(set_here) is not bool(chosen)


def test_rviz_is_led_to_the_topics_there_are(module, context):
    assert module.rviz(context) == []
    context.launch_configurations.update({"rviz": "true", "input": "camera/segments", "namespace": "robot1"})

    def moved():
        (window,) = module.rviz(context)
        return {
            perform_substitutions(context, [*a]): perform_substitutions(context, [*b])
            for a, b in window._Node__remappings
        }

    assert moved()["/segments"] == "camera/segments"
    assert moved()["/perception/output/markers"] == "perception/output/markers"  # in robot1, as the node's own
    context.launch_configurations["segmenter"] = "true"
    assert moved()["/segments"] == "segmenter/output/segments"
