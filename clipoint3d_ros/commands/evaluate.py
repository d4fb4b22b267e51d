"""`clipoint3d evaluate`: replay labelled bags through the perception node and score its answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipoint3d_ros.cli import CommandError
from clipoint3d_ros.commands import answering, soak_bags
from clipoint3d_ros.evaluation.console import bag_table, summary
from clipoint3d_ros.evaluation.files import write_json
from clipoint3d_ros.evaluation.scoring import bag_rows, score

SUMMARY = """Replay labelled bags through the real perception node over DDS and score what it answers.

A bag needs a topic of clouds (sensor_msgs/PointCloud2) and one of truth (vision_msgs/Detection3DArray): a truth
message belongs to the cloud of the same header stamp, a truth object to the segment of the same id, and its name is
the class_id of its best hypothesis. `record` writes such bags. Many are scored as one, and each by itself. Intervals
take every frame for a scene of its own, so of a recording of one place name a few frames' truth only: clouds without
truth are played, and not scored."""
EXAMPLE = "clipoint3d evaluate tabletop_bag --wait --json figures.json --report report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    answering.add_bags(parser)
    answering.add_model(parser)
    answering.add_replay(parser)
    answering.add_fleet(parser)
    soak_bags.add_soak(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="F", type=Path, help="write the figures here")
    out.add_argument("--report", metavar="DIR", type=Path, help="write a page here: figures, plots, the worst mistakes")
    out.add_argument(
        "--unknown-below", metavar="P", type=float, default=0.0, help="report what a threshold P would call unknown"
    )


def run(args: argparse.Namespace) -> int:
    """Replay, score, show and write; 0 when all of it is done for every bag."""
    if not 0 <= args.unknown_below <= 1:
        raise CommandError(f"--unknown-below must lie in [0, 1], but is {args.unknown_below:g}")
    if args.loop is not None:
        return soak_bags.run(args, write_json)
    found = answering.answered(args)
    figures = score(found.frames, found.replayed, args.unknown_below)
    figures["bags"] = bag_rows(found.frames, found.replayed, [bag.path for bag in found.bags], found.failed)
    print(summary(figures))
    if len(figures["bags"]) > 1:
        print(f"\n{bag_table(figures)}")
    if args.json:
        write_json(args.json, figures)
    if args.report:
        _write_report(args, figures, found)
    return max(_verdict(found), _nothing_scored(figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """`ros2 run clipoint3d_ros evaluate_bag`."""
    from clipoint3d_ros import cli

    return cli.main(["evaluate", *(sys.argv[1:] if arguments is None else arguments)])


def _write_report(args: argparse.Namespace, figures: dict[str, Any], found: answering.Answers) -> None:
    from clipoint3d_ros.evaluation.report.page import write_report

    bags, frames, config = found.bags, found.frames, found.playing.config
    print(f"report: {write_report(args.report, figures, bags, frames, found.replayed, config, _notes(args))}")


def _verdict(found: answering.Answers) -> int:
    """The exit status: 1 where a bag is missing from the figures."""
    if not found.failed:
        return 0
    names = ", ".join(str(path) for path in found.failed)
    total = len(found.failed) + len(found.bags)
    print(f"{len(found.failed)} of {total} bags failed and are not in the figures: {names}", file=sys.stderr)
    return 1


def _nothing_scored(figures: dict[str, Any]) -> int:
    """The exit status: 1 where there are objects, and the truth names none of them by a class's name."""
    if figures["objects"] or not figures["instances"]:
        return 0
    left, names = figures["unscored"], ", ".join(figures["classes"])
    print(
        f"none of the {figures['instances']} objects is scored: the truth names {left['other_classes']} by other names "
        f"than {names}, and {left['nameless'] + left['no_truth']} by none; give --classes with the truth's names",
        file=sys.stderr,
    )
    return 1


def _notes(args: argparse.Namespace) -> dict[str, str]:
    """How the answers came about, for the report's reader."""
    pace = f"{args.rate:g} × the bag's pace"
    if args.offline:
        pace = "offline, without the nodes"
    elif args.wait:
        pace = "in step, the next frame after the answer"
    weights = f" ({args.pretrained})" if args.pretrained else ""
    model = args.backbone or ("the bundle's" if args.bundle else "clipoint3d-tiny, embedded")
    bundle = {"bundle": args.bundle} if args.bundle else {}
    others = {"parameters": ", ".join(args.param)} if args.param else {}
    return {"model": model + weights, **bundle, "adaptation": args.adapt, "pace": pace, **others}
