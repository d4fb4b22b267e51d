"""`clipoint3d bench-node`: speed of the node's path over DDS."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from clipoint3d_ros.cli import CommandError

SUMMARY = "Measure the perception node over DDS: peak rate, then fixed rates with missed frames, latency and jitter."
EXAMPLE = "clipoint3d bench-node --rates 30 --minutes 10 --json node.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--rates", metavar="HZ,…", default="10,30,60", help="one after another (default: 10,30,60)")
    span = parser.add_mutually_exclusive_group()
    span.add_argument("--seconds", metavar="S", type=float, default=10.0, help="of each rate (default: 10)")
    span.add_argument("--minutes", metavar="M", type=float, help="the same in minutes")
    parser.add_argument("--objects", metavar="N", type=int, default=15, help="in each 640x480 cloud (default: 15)")
    parser.add_argument("--model", action="store_true", help="serve the embedded model instead of a stub")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there as well")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when every rate was played."""
    try:
        from clipoint3d_ros.evaluation.node_speed import NodeSpeedConfig, measure_node, table
    except ImportError as error:
        raise CommandError(f"the node needs ROS 2's Python packages ({error}); `clipoint3d doctor` says how") from None
    from clipoint3d_ros.evaluation.node_process import ReplayError

    rates = tuple(float(rate) for rate in args.rates.split(","))
    seconds = args.seconds if args.minutes is None else args.minutes * 60
    config = NodeSpeedConfig(rates=rates, seconds=seconds, objects=args.objects, model=args.model)
    try:
        speed = measure_node(config, told=lambda step: print(f"… {step}", file=sys.stderr))
    except ReplayError as error:
        raise CommandError(str(error)) from None
    print(table(speed))
    if args.json is not None:
        args.json.write_text(json.dumps(speed.as_dict(), indent=1) + "\n")
    return 0
