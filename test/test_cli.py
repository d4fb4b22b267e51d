"""The command line: every command keeps the contract, and its example works with its own options."""

from __future__ import annotations

import argparse
import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clipoint3d_ros import cli

ROOT = Path(__file__).resolve().parents[1]
NAMES = list(cli.COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_keeps_the_contract_and_its_example_parses(name):
    command = importlib.import_module(f"clipoint3d_ros.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=name)
    command.add_arguments(parser)
    program, named, *words = shlex.split(command.EXAMPLE)
    assert (program, named) == ("clipoint3d", name)
    parser.parse_args(words)
    assert callable(command.run)
    undescribed = [action.dest for action in parser._actions if not action.help]
    assert not undescribed, f"options without help: {undescribed}"


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_summary_and_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert "example:\n  clipoint3d" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}" in shown for name in NAMES)


def test_no_command_is_a_usage_error(capsys):
    assert cli.main([]) == 2


def test_an_unknown_command_names_those_there_are(capsys):
    assert cli.main(["clasify"]) == 2
    assert "no command 'clasify'; there are classify" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ValueError, OSError, FloatingPointError, cli.CommandError])
def test_a_failure_is_one_sentence_and_exit_code_1(capsys, monkeypatch, kind):
    command = importlib.import_module("clipoint3d_ros.commands.doctor")

    def fails(args):
        raise kind("value 3 is above the limit 2; give 2 or less")

    monkeypatch.setattr(command, "run", fails)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "clipoint3d doctor: value 3 is above the limit 2; give 2 or less\n"


def test_help_needs_none_of_the_heavy_libraries():
    code = (
        "import sys; from clipoint3d_ros.cli import main; main(['--help']); "
        "print([name for name in ('torch', 'open3d', 'rclpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
