"""`clipoint3d evaluate --loop`: the options of a long run, and the way from them to its figures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from clipoint3d_ros.cli import CommandError
from clipoint3d_ros.commands import answering
from clipoint3d_ros.evaluation.bags import LabelledBag, Topics
from clipoint3d_ros.evaluation.long_run import LIMIT_MB_H, figures, summary
from clipoint3d_ros.evaluation.node_process import ReplayError
from clipoint3d_ros.evaluation.playing import pace, without_ros
from clipoint3d_ros.evaluation.recordings import recordings

if TYPE_CHECKING:
    from clipoint3d_ros.evaluation.long_run import LongRun

_KEEP_S = 60.0  # between writings of the figures so far
_ONE_BAG_AT_A_TIME = ("jobs", "work", "ray")


def add_soak(parser: argparse.ArgumentParser) -> None:
    """A long run."""
    group = parser.add_argument_group(
        "long run",
        "Instead of a score: the bags again and again, for as long as told or until Ctrl-C; memory, latency and what "
        "was missed over time. They need no truth. Exit code 1 where memory grew or a node ended.",
    )
    group.add_argument("--loop", metavar="HOURS", type=float, help="play for so long")
    group.add_argument(
        "--limit", metavar="MB", type=float, default=LIMIT_MB_H, help=f"growth an hour called flat ({LIMIT_MB_H:g})"
    )
    group.add_argument(
        "--jump-back",
        metavar="N",
        type=int,
        default=10,
        help="at every N-th round the clock jumps back, as with `ros2 bag play --loop`; else it goes on (10; 0: never)",
    )


def run(args: argparse.Namespace, write: Callable[[Path, dict], None]) -> int:
    """Play, show and write; 0 when memory did not grow and the nodes answered to the end.

    Args:
        write: figures to a file.
    """
    _refuse_what_does_not_fit(args)
    playing = answering.asked(args)
    try:
        from clipoint3d_ros.evaluation.soak import SoakConfig, soak
    except ImportError as error:
        raise CommandError(without_ros(error)) from None
    config = SoakConfig(args.loop, args.jump_back, args.limit)
    bags = [LabelledBag(path, Topics(args.points_topic, "")) for path in recordings(args.bags)]
    with tqdm(total=round(3600 * args.loop), unit="s", desc="loop", mininterval=5) as bar:
        kept = time.monotonic()

        def told(so_far: LongRun) -> None:
            nonlocal kept
            bar.update(round(3600 * so_far.hours) - bar.n)
            last = so_far.samples[-1]
            memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in last.rss_mb.items())
            bar.set_postfix_str(f"{memory}, {last.p50_ms:.0f} ms, {last.missed} missed", refresh=False)
            if args.json and time.monotonic() - kept > _KEEP_S:
                write(args.json, figures(so_far))
                kept = time.monotonic()

        try:
            found = figures(soak(bags, playing.parameters, config, pace(playing), told))
        except ReplayError as error:
            raise CommandError(str(error)) from None
    print(summary(found))
    if args.json:
        write(args.json, found)
    if args.report:
        from clipoint3d_ros.evaluation.report.long_run_page import write_page

        notes = {"bag": ", ".join(map(str, args.bags)), "adaptation": args.adapt, "pace": _pace(args)}
        print(f"report: {write_page(args.report, found, notes)}")
    if not found["good"]:
        print(f"not good: {found['verdict']}", file=sys.stderr)
    return 0 if found["good"] else 1


def _refuse_what_does_not_fit(args: argparse.Namespace) -> None:
    if args.offline:
        raise CommandError("--loop is about the nodes, which --offline leaves out: leave one of the two out")
    given = [f"--{name}" for name in _ONE_BAG_AT_A_TIME if getattr(args, name)]
    if given:
        raise CommandError(f"--loop plays all bags to the same nodes: leave {' and '.join(given)} out")


def _pace(args: argparse.Namespace) -> str:
    return "in step, the next frame after the answer" if args.wait else f"{args.rate:g} × the bag's pace"
