"""launch/replay.launch.py: its arguments and what they turn into. Needs ROS's launch, which no wheel brings."""

from __future__ import annotations

import argparse

import pytest
from launch_files import launch_file

pytest.importorskip("launch.actions", reason="launch is not installed: it comes with a ROS 2 installation")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed: it comes with a ROS 2 installation")

import launch
from launch.utilities import perform_substitutions
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from clipoint3d_ros.commands import evaluate


@pytest.fixture
def module():
    return launch_file("replay")


@pytest.fixture
def context(module):
    """A launch context with every argument at its default, and a bag."""
    context = launch.LaunchContext()
    context.launch_configurations["bag"] = "recordings/my bag"
    for argument in module.ARGUMENTS:
        argument.execute(context)
    return context


def words(context, process) -> list[str]:
    """The command line but for the program, whose place only an install knows."""
    program, *rest = process.cmd
    assert isinstance(program[0], ExecutableInPackage)
    assert perform_substitutions(context, program[0].executable) == "evaluate_bag"
    return [perform_substitutions(context, word) for word in rest]


def understood(context, process) -> argparse.Namespace:
    """As `clipoint3d evaluate` reads it; an option that it has not would end the test."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(words(context, process))


def test_every_argument_has_a_description_and_only_the_bag_no_default(module):
    declared = module.generate_launch_description().get_launch_arguments()
    assert all(argument.description for argument in declared)
    assert [argument.name for argument in declared if argument.default_value is None] == ["bag"]
    choices = {argument.name: argument.choices for argument in declared if argument.choices}
    switches = {name: ["true", "false"] for name in ("wait", "rviz", "shutdown")}
    assert choices == {"adapt": ["off", "statistics", "gradient"], **switches}


def test_every_option_is_an_argument(module):
    assert set(module.OPTIONS) < {argument.name for argument in module.ARGUMENTS}


def test_by_default_the_bag_is_played_in_step_where_others_see_it(module, context):
    (process,) = module.played(context)
    args = understood(context, process)
    assert (args.bags, args.wait, args.adapt, args.namespace) == (["recordings/my bag"], True, "off", "replay")


def test_what_is_given_reaches_the_program(module, context):
    given = {"wait": "false", "rate": "0.5", "adapt": "statistics", "params_file": "config/jetson_orin_nx.yaml"}
    files = {"report": "out/report", "json": "out/f.json", "points_topic": "/clouds", "truth_topic": "/truth"}
    model = {"backbone": "ViT-B-32", "pretrained": "tag", "classes": "my.yaml", "device": "cpu"}
    context.launch_configurations.update({**given, **files, **model})
    (process,) = module.played(context)
    args = understood(context, process)
    assert (args.wait, args.rate, args.adapt, str(args.report)) == (False, 0.5, "statistics", "out/report")
    for name in ("params_file", "points_topic", "truth_topic", *model):
        assert getattr(args, name) == {**given, **files, **model}[name]


@pytest.mark.parametrize(("word", "ends"), [("true", True), ("false", False)])
def test_it_ends_when_done_only_if_asked_to(module, context, word, ends):
    context.launch_configurations["shutdown"] = word
    (process,) = module.played(context)
    assert (process._ExecuteLocal__on_exit is not None) is ends  # an empty list is no event handler to launch


def test_rviz_is_led_to_the_replay_s_topics(module, context):
    context.launch_configurations.update({"rviz": "true", "namespace": "/a/b/", "frame": "depth"})
    _, window = module.played(context)
    assert isinstance(window, Node)
    moved = {
        perform_substitutions(context, [*a]): perform_substitutions(context, [*b]) for a, b in window._Node__remappings
    }
    assert moved == {
        "/segments": "/a/b/perception/input/points",
        "/perception/output/markers": "/a/b/perception/output/markers",
        "/perception/output/views": "/a/b/perception/output/views",
    }


def test_a_replay_nobody_could_see_is_refused(module, context):
    context.launch_configurations["namespace"] = "/"
    with pytest.raises(ValueError, match="namespace is empty"):
        module.played(context)
