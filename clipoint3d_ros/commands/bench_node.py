"""`clipoint3d bench --node`: speed of the node's path over DDS."""

from __future__ import annotations

import argparse
import sys

from clipoint3d_ros.cli import CommandError, UsageError
from clipoint3d_ros.evaluation.files import write_json

OBJECTS = 15  # in each cloud, unless told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that belong to `--node`."""
    own = parser.add_argument_group(
        "the node",
        "Peak rate, then fixed rates with missed frames, latency and jitter; a stub in the model's place. As in "
        "`clipoint3d bench --node --rates 30 --minutes 10 --json node.json`",
    )
    own.add_argument("--node", action="store_true", help="instead: the perception node over DDS")
    own.add_argument("--rates", metavar="HZ,…", default="10,30,60", help="one after another (%(default)s)")
    own.add_argument("--seconds", metavar="S", type=float, default=10.0, help="of each rate (%(default)s)")
    own.add_argument("--minutes", metavar="M", type=float, help="the same in minutes")
    own.add_argument("--model", action="store_true", help="serve the embedded model instead of the stub")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when every rate was played."""
    if args.plot or len(args.objects or ()) > 1:
        raise UsageError("bench --node draws no --plot and takes one number of --objects; figures go to --json")
    try:
        from clipoint3d_ros.evaluation.node_speed import NodeSpeedConfig, measure_node, table
    except ImportError as error:
        raise CommandError(f"the node needs ROS 2's Python packages ({error}); `clipoint3d doctor` says how") from None
    from clipoint3d_ros.evaluation.node_process import ReplayError

    rates = tuple(float(rate) for rate in args.rates.split(","))
    seconds = args.seconds if args.minutes is None else args.minutes * 60
    objects = args.objects[0] if args.objects else OBJECTS
    config = NodeSpeedConfig(rates=rates, seconds=seconds, objects=objects, model=args.model)
    try:
        speed = measure_node(config, told=lambda step: print(f"… {step}", file=sys.stderr))
    except ReplayError as error:
        raise CommandError(str(error)) from None
    print(table(speed))
    if args.json is not None:
        write_json(args.json, speed.as_dict())
    return 0
