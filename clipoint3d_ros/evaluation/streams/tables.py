"""The table of streams for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from clipoint3d_ros.evaluation.benchmark_tables import markdown_table
from clipoint3d_ros.evaluation.console import aligned, percent

_VIEWS = {"entropy": "ten views by entropy", "sensor": "sensor-facing views"}
_LEGEND = (
    "gain: over frozen, macro accuracy, points (95 % interval); regret: worst window of 500 objects, or of a third of "
    "a shorter stream, points of accuracy; macro regret: of macro accuracy, where a class of which the window has one "
    "object counts like any other; worse: windows significantly worse; forgetting: source accuracy after less before; "
    "half: objects until half the gain; ECE: of the class probabilities; of the score: of what is published, where an "
    "unknown object is never right"
)


def summary(figures: Mapping[str, Any]) -> str:
    """For a terminal."""
    return "\n\n".join([_LEGEND, *(f"{title}\n{aligned(rows)}" for title, rows in _tables(figures))])


def markdown(figures: Mapping[str, Any]) -> str:
    """For a README."""
    return "\n\n".join([_LEGEND, *(f"{title}\n\n{markdown_table(rows)}" for title, rows in _tables(figures))])


def _tables(figures: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    found = []
    for _, group in groupby(figures["rows"], lambda row: (row["stream"], row["start"])):
        rows = list(group)
        found.append((_title(rows[0]), _stream(rows)))
    by_start: dict[str, list[Mapping[str, Any]]] = {}
    for row in figures["rows"]:
        by_start.setdefault(row["start"], []).append(row)
    found += [
        (f"All streams together, {start}", _overview(rows))
        for start, rows in by_start.items()
        if len({row["stream"] for row in rows}) > 1
    ]
    return found


def _title(row: Mapping[str, Any]) -> str:
    unknown = row["objects"] - row["known"]
    strange = f", {unknown} of them unknown" if unknown else ""
    seeds = f"{len(row['seeds'])} seed{'s' if len(row['seeds']) != 1 else ''}"
    return f"{row['stream']}, {row['start']}, {_VIEWS[row['views']]}: {row['objects']} objects{strange}; {seeds}"


def _stream(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    strange = rows[0]["false_accept"] is not None
    head = [
        "method",
        "macro",
        "gain",
        "micro gain",
        "regret",
        "macro regret",
        "worse",
        "forgetting",
        "ECE",
        "of the score",
        "half",
        "ms",
        "of encoding",
    ]
    table = [[*head, *(["false accepts"] if strange else [])]]
    for row in rows:
        table.append(
            [
                row["method"],
                percent(row["macro_accuracy"]),
                _points(row["gain"], row["gain_ci95"]),
                _points(row["micro_gain"], row["micro_gain_ci95"]),
                f"{row['regret']:.1f}",
                f"{row['macro_regret']:.1f}",
                f"{row['worse_windows']}/{row['windows']}",
                f"{100 * row['forgetting']:+.1f}",
                f"{100 * row['ece']:.1f}",
                f"{100 * row['score_ece']:.1f}",
                "-" if row["half_gain_objects"] is None else f"{row['half_gain_objects']:.0f}",
                f"{row['ms']:.2f}",
                f"{100 * row['ms_ratio']:.1f} %",
                *([percent(row["false_accept"])] if strange else []),
            ]
        )
    return table


def _overview(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Mean gain and worst regret of every method; the streams it ran on, for some run on fewer."""
    table = [["method", "streams", "mean gain", "least gain", "worst regret", "macro", "worse windows", "forgetting"]]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        table.append(
            [
                method,
                str(len(own)),
                f"{100 * np.mean([row['gain'] for row in own]):+.1f}",
                f"{100 * min(row['gain'] for row in own):+.1f}",
                f"{max(row['regret'] for row in own):.1f}",
                f"{max(row['macro_regret'] for row in own):.1f}",
                str(sum(row["worse_windows"] for row in own)),
                f"{100 * np.mean([row['forgetting'] for row in own]):+.1f}",
            ]
        )
    return table


def _points(value: float, interval: Sequence[float]) -> str:
    """A difference in points with its interval: "+12.3 (+4.1 to +20.2)"."""
    low, high = interval
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
