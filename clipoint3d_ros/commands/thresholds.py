"""`clipoint3d thresholds`: per-class thresholds of "unknown" from labelled bags."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipoint3d_ros.commands import answering
from clipoint3d_ros.evaluation.files import write_json, write_whole
from clipoint3d_ros.evaluation.thresholds import Wanted, figures, named, parameter_file, summary

SUMMARY = """Propose, from labelled bags, below which score each class's answer should be "unknown".

For each class the lowest threshold with which so large a share of the answers that name it is right; objects of other
classes that the truth names count as wrong. Where there are too few answers to say, it says so and proposes none. The
file written is for the perception node: `params_file:=FILE`, or `ros2 param load /perception FILE` while it runs.
Bags as for `evaluate`; the pipeline runs without ROS. Every answer is taken for one of its own, so of a recording of
one place name a few frames' truth only."""
EXAMPLE = "clipoint3d thresholds tabletop_bag --precision 0.95 --out thresholds.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    answering.add_bags(parser)
    wanted = parser.add_argument_group("what is wanted")
    wanted.add_argument(
        "--precision", metavar="P", type=float, default=0.95, help="share of right answers above it (default: 0.95)"
    )
    wanted.add_argument(
        "--at-least", metavar="N", type=int, default=20, help="answers above it to rest on (default: 20)"
    )
    wanted.add_argument(
        "--surely", action="store_true", help="ask it of the lower end of the precision's 95 %% interval"
    )
    answering.add_model(parser)
    topics = parser.add_argument_group("topics")
    answering.add_topics(topics)
    answering.add_fleet(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--out", metavar="FILE.yaml", type=Path, help="write the parameter file here")
    out.add_argument("--json", metavar="F", type=Path, help="write the figures here")
    parser.set_defaults(offline=True, adapt="off", wait=False, rate=1.0, timeout=30.0, namespace="")


def run(args: argparse.Namespace) -> int:
    """Play, propose, show and write; 0 when all bags were answered."""
    wanted = Wanted(args.precision, args.at_least, args.surely)
    found = answering.answered(args)
    result = figures(named(found.frames, found.replayed), found.replayed.classes, wanted)
    print(summary(result))
    if args.out:
        sure = "surely " if wanted.surely else ""
        bags = ", ".join(bag.path.name for bag in found.bags)
        write_whole(args.out, parameter_file(result, f"{sure}{wanted.precision:g} precision a class, from {bags}"))
        print(f"parameters: {args.out}")
    if args.json:
        write_json(args.json, result)
    return 1 if found.failed else 0
