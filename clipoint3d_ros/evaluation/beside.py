"""What the companion costs perception: its latency without one, beside tier 1 and beside tier 2, by turns in one run.

    python -m clipoint3d_ros.evaluation.beside my_bag --rounds 2

Prints a table and, with `--json`, writes it. Times mean something only against each other: every row has its ratio to
perception alone. The companion's share is the processor time of its whole process, taking messages in included, so
tier 2's own is what it takes beyond tier 1's; `duty_cycle` limits that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.files import write_json
from clipoint3d_ros.evaluation.node_process import NodeProcess
from clipoint3d_ros.evaluation.replay import ReplayConfig, Sensor, robot

MODES = ("off", "statistics", "gradient")


@dataclass
class Measured:
    """Of one mode, all rounds together.

    latencies: seconds from a cloud to its answer. spent: seconds of the companion's processor time, within length.
    adapted: of those answers, how many an adapter gave.
    """

    latencies: list[float] = field(default_factory=list)
    spent: float = 0.0
    length: float = 0.0
    adapted: int = 0


def measure(
    bag: LabelledBag,
    parameters: Mapping[str, Any],
    own: Mapping[str, Any],
    rounds: int = 2,
    period_s: float = 0.5,
    modes: Sequence[str] = MODES,
) -> dict[str, Measured]:
    """Play a bag to both real nodes in every mode, by turns.

    In each turn the bag is played twice: once for the companion to learn from, and once for the clock. A frame follows
    after the answer to the one before, and no sooner than the period.

    Args:
        parameters: of the perception node. own: of the adaptation node, beside what both share.

    Raises:
        ReplayError: a node does not start, does not answer, or ends.
    """
    found = {mode: Measured() for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            _turn(bag, parameters, own, period_s, mode, found[mode])
    return found


def _turn(
    bag: LabelledBag,
    parameters: Mapping[str, Any],
    own: Mapping[str, Any],
    period_s: float,
    mode: str,
    measured: Measured,
) -> None:
    with robot(parameters, ReplayConfig(adapt=mode), frozen=False, **own) as (_, sensor, node, companion):
        _play(bag, sensor, node, period_s)
        began, before = time.monotonic(), 0.0 if companion is None else companion.seconds()
        _play(bag, sensor, node, period_s)
        answers = sensor.answers().values()
        measured.latencies += [answer.latency for answer in answers]
        measured.adapted += sum(answer.version > 0 for answer in answers)
        measured.spent += 0.0 if companion is None else companion.seconds() - before
        measured.length += time.monotonic() - began


def _play(bag: LabelledBag, sensor: Sensor, node: NodeProcess, period_s: float) -> None:
    sensor.begin()
    for cloud in bag.clouds():
        due = time.monotonic() + period_s
        sensor.send(cloud)
        sensor.await_answer(cloud.stamp, 30.0, node)
        time.sleep(max(0.0, due - time.monotonic()))


def rows(found: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """One row a mode: `answers`, how many of them `adapted`, `p50_ms`, `p99_ms`, their ratios to the first mode's,
    `cores` the companion took."""
    told: list[dict[str, Any]] = []
    for mode, measured in found.items():
        p50, p99 = (float(1000 * q) for q in np.percentile(measured.latencies, (50, 99)))
        first = told[0] if told else {"p50_ms": p50, "p99_ms": p99}
        told.append(
            {
                "mode": mode,
                "answers": len(measured.latencies),
                "adapted": measured.adapted,
                "p50_ms": p50,
                "p99_ms": p99,
                "p50_ratio": p50 / first["p50_ms"],
                "p99_ratio": p99 / first["p99_ms"],
                "cores": measured.spent / measured.length,
            }
        )
    return told


def table(told: Sequence[Mapping[str, Any]]) -> str:
    """The rows in Markdown."""
    heads = ("companion", "answers", "adapted", "p50, ms", "p99, ms", "p50, ratio", "p99, ratio", "cores")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += [
        f"| {row['mode']} | {row['answers']} | {row['adapted']} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} | "
        f"{row['p50_ratio']:.2f} | {row['p99_ratio']:.2f} | {row['cores']:.3f} |"
        for row in told
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m clipoint3d_ros.evaluation.beside", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("bag", type=Path, help="labelled bag, as `clipoint3d record` writes")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each mode (default: 2)")
    parser.add_argument("--period", type=float, default=0.5, help="seconds between frames, at least (default: 0.5)")
    parser.add_argument("--backbone", default="", help="open_clip model; default: the embedded one")
    parser.add_argument("--device", default="", help="torch device; default: a GPU where there is one")
    parser.add_argument("--duty-cycle", type=float, default=0.2, help="of the companion (default: 0.2)")
    parser.add_argument("--shots", type=int, default=64, help="of its source; fewer start sooner (default: 64)")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args(arguments)
    both = {name: value for name, value in (("backbone", args.backbone), ("device", args.device)) if value}
    own = {"duty_cycle": args.duty_cycle, "shots": args.shots, "probe": max(args.shots // 4, 1)}
    told = rows(measure(LabelledBag(args.bag), both, own, args.rounds, args.period))
    print(table(told))
    if args.json:
        write_json(args.json, {"rows": told, "duty_cycle": args.duty_cycle})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
