"""The table for a terminal, as Markdown, and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from clipoint3d_ros.evaluation.benchmark_tables import markdown_table, with_interval
from clipoint3d_ros.evaluation.console import aligned

_VIEWS = {"ten": "ten views", "sensor": "sensor-facing views"}


def summary(figures: Mapping[str, Any]) -> str:
    """For a terminal."""
    return "\n\n".join(f"{title}\n{aligned(rows)}" for title, rows in _tables(figures))


def markdown(figures: Mapping[str, Any]) -> str:
    """For a README."""
    return "\n\n".join(f"{title}\n\n{markdown_table(rows)}" for title, rows in _tables(figures))


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Macro accuracy with its interval of every row, one panel a protocol, start and views (PNG, SVG or PDF)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    blocks = [list(rows) for _, rows in groupby(figures["rows"], _block)]
    height = 1.2 + sum(0.28 * len(rows) + 0.7 for rows in blocks)
    figure, axes = plt.subplots(
        len(blocks),
        figsize=(8, height),
        squeeze=False,
        layout="constrained",
        height_ratios=[len(rows) + 2 for rows in blocks],
    )
    for axis, rows in zip(axes[:, 0], blocks, strict=True):
        means = [100 * row["macro_accuracy"] for row in rows]
        # Never below 0: a rounding error, or a skewed interval that leaves the mean out, is no reason to stop.
        low = [100 * max(row["macro_accuracy"] - row["macro_ci95"][0], 0.0) for row in rows]
        high = [100 * max(row["macro_ci95"][1] - row["macro_accuracy"], 0.0) for row in rows]
        ours = ["#0b6e4f" if row["method"].startswith("CLIPoint3D") else "#7a8b99" for row in rows]
        axis.barh(range(len(rows)), means, color=ours)
        axis.errorbar(means, range(len(rows)), xerr=[low, high], fmt="none", ecolor="black", capsize=2, linewidth=1)
        axis.set_yticks(range(len(rows)), [row["method"] for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_title(_title(rows[0]), fontsize="medium", loc="left")
    axes[-1, 0].set_xlabel("macro accuracy, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _block(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["protocol"], row["start"], row["views"]


def _title(row: Mapping[str, Any]) -> str:
    return (
        f"{row['start']}, {_VIEWS[row['views']]}; adapted on {row['protocol']}: "
        f"{row['objects']} objects in {row['scenes']} scenes"
    )


def _tables(figures: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    found = [(_title(rows[0]), _rows(rows)) for rows in (list(r) for _, r in groupby(figures["rows"], _block))]
    for key, rows in groupby(figures.get("views", []), _block):
        block = list(rows)
        found.append((f"{key[1]}, adapted on {key[0]}: {block[0]['method']} by its views", _by_policy(block)))
    return found


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    base = next((row["gain_base"] for row in rows if row["gain_base"]), "source only")
    head = ["method", "macro accuracy", "accuracy", "seeds", f"gain over {base}", "over frozen"]
    return [head, *([*_accuracies(row), _points(row, "gain"), _points(row, "over_frozen")] for row in rows)]


def _by_policy(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [["views", "macro accuracy", "accuracy", "seeds"], *([row["policy"], *_accuracies(row)[1:]] for row in rows)]


def _accuracies(row: Mapping[str, Any]) -> list[str]:
    spread = f" ± {100 * row['macro_std']:.1f}" if len(row["seeds"]) > 1 else ""
    return [
        row["method"],
        with_interval(row["macro_accuracy"], row["macro_ci95"]) + spread,
        with_interval(row["accuracy"], row["accuracy_ci95"]),
        str(len(row["seeds"])),
    ]


def _points(row: Mapping[str, Any], key: str) -> str:
    """A difference in points with its interval: "+12.3 (+4.1 to +20.2)"."""
    if row[key] is None or row["method"] == row[f"{key}_base"]:
        return "-"
    low, high = row[f"{key}_ci95"]
    return f"{100 * row[key]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
