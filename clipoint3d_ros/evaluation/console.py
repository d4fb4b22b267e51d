"""The figures of an evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def summary(figures: Mapping[str, Any]) -> str:
    """Accuracy table by class, confusion matrix, drops and latency, from the figures of `scoring.score`."""
    return "\n\n".join([_accuracy_table(figures), _confusion(figures), _footer(figures)])


def bag_table(figures: Mapping[str, Any]) -> str:
    """Each recording by itself, from the figures' `bags`."""
    models = models_of(figures)
    rows = [["bag", "frames", "dropped", "objects", *models]]
    for row in figures["bags"]:
        if row["failed"]:
            rows.append([row["bag"], "failed", "", "", *("" for _ in models)])
            continue
        counts = (str(row[key]) for key in ("frames", "dropped_frames", "objects"))
        rows.append([row["bag"], *counts, *(percent(row[model]["accuracy"]) for model in models)])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = [
        [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))] for row in rows
    ]
    return "\n".join("  ".join(row) for row in padded)


def percent(value: float | None) -> str:
    """A share as a percentage, "-" where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def points(change: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * change:+.1f}"


def span(interval: Sequence[float | None] | None, said: Callable[[float], str]) -> str:
    """An interval in words, "" where there is none."""
    if interval is None or None in interval:
        return ""
    low, high = interval
    return f"{said(low)} to {said(high)}"  # type: ignore[arg-type]


def models_of(figures: Mapping[str, Any]) -> list[str]:
    """The models that were scored, the one that served last."""
    return ["frozen"] if figures["adapted"] is None else ["frozen", "adapted"]


def _accuracy_table(figures: Mapping[str, Any]) -> str:
    models = models_of(figures)
    rows = [["class", "objects", *models]]
    for name, row in figures["per_class"].items():
        rows.append([name, str(row["n"]), *(percent(row[model]) for model in models)])
    for title, key in (("accuracy", "accuracy"), ("macro accuracy", "macro_accuracy")):
        rows.append([title, str(figures["objects"]), *(percent(figures[model][key]) for model in models)])
        intervals = (figures["intervals"][model][key] for model in models)
        rows.append(["  95 % interval", "", *(span(interval, percent) or "-" for interval in intervals)])
    rows.append(["answered accuracy", "", *(percent(figures[model]["answered_accuracy"]) for model in models)])
    rows.append(["calibration error", "", *(percent(figures[model]["ece"]) for model in models)])
    return aligned(rows)


def _confusion(figures: Mapping[str, Any]) -> str:
    confusion, served = figures["confusion"], models_of(figures)[-1]
    names = confusion["classes"]
    rows = [["truth \\ answer" if served == "frozen" else f"truth \\ {served}", *names]]
    rows += [[name, *map(str, counts)] for name, counts in zip(names, confusion["matrix"], strict=True)]
    return aligned(rows)


def _footer(figures: Mapping[str, Any]) -> str:
    latency, unknown, gain = figures["latency_ms"], figures["unknown"], figures["gain"]
    frames = figures["frames"]
    lines = [
        f"{frames} frame{'s' * (frames != 1)}, {figures['dropped_frames']} dropped; "
        f"{figures['objects']} objects scored of {figures['instances']}"
    ]
    if figures["adapted"] is not None:
        lines.append(f"adapter version {', '.join(map(str, figures['adapter_versions'])) or '-'}")
    if gain is not None and gain["accuracy"] is not None:
        gained = (
            f"{title} {points(gain[key])} points"
            + (f" ({found})" if (found := span(gain["intervals"][key], points)) else "")
            for title, key in (("accuracy", "accuracy"), ("macro accuracy", "macro_accuracy"))
        )
        lines.append(f"gained: {', '.join(gained)}; {gain['mended']} objects mended, {gain['broken']} broken")
    if latency["p50"] is not None:
        lines.append("latency " + ", ".join(f"{name} {value:.0f} ms" for name, value in latency.items()))
    if unknown["rate"] is not None:
        outside = unknown["rate_outside"]
        lines.append(
            f"unknown at {unknown['below']:g}: {percent(unknown['rate'])} of the scored objects"
            + (f", {percent(outside)} of those of other classes" if outside is not None else "")
        )
    return "\n".join(lines)
