"""The one program: `clipoint3d COMMAND …`, the same as `python -m clipoint3d_ros COMMAND …`.

Each command is a module of `commands/` with four names: SUMMARY (one line), EXAMPLE (a line to copy),
`add_arguments(parser)` and `run(args) -> int`. A command's module is imported only when it is named, so
`--help` stays quick and a missing optional dependency troubles only the command that needs it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "classify": "label clouds or meshes on disk",
    "record": "scene folder to labelled rosbag2",
    "evaluate": "replay labelled bags through the nodes and score them",
    "thresholds": "propose from a labelled bag below which score each class is unknown",
    "benchmark": "accuracy tables on labelled scenes and on procedural objects",
    "bench": "time recognition against the published inference, what each saving costs, and the node over DDS",
    "train": "adapt from labelled source objects to an unlabelled target: a bundle",
    "pretrain": "train an embedded CLIP from procedural shapes",
    "export": "the vision tower as ONNX, with a script that builds a TensorRT engine of it",
    "demo": "the whole story on embedded data, with pictures",
    "doctor": "what is installed and usable here, and what to do about the rest",
}


class CommandError(Exception):
    """A command cannot go on; the message is a sentence for its user."""

    code = 1


class UsageError(CommandError):
    """The words of the command line do not fit together, before any work was done."""

    code = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 only for success, 1 where the command failed in words, 2 for a usage error.
    """
    # Before torch is imported: libgomp's waiting threads would spin on cores that others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    name = words[0]
    if name not in COMMANDS:
        print(f"clipoint3d: no command '{name}'; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"clipoint3d_ros.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"clipoint3d {name}",
        description=module.SUMMARY,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(words[1:])))
    except (CommandError, OSError, ValueError, FloatingPointError) as error:
        print(f"clipoint3d {name}: {error}", file=sys.stderr)
        return error.code if isinstance(error, CommandError) else 1
    except KeyboardInterrupt:
        print(f"clipoint3d {name}: stopped", file=sys.stderr)
        return 130


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: clipoint3d COMMAND [options]\n\nRecognises the objects in a robot's depth clouds with CLIP.\n\n"
        f"{rows}\n\n`clipoint3d COMMAND --help` shows a command's options with an example."
    )
