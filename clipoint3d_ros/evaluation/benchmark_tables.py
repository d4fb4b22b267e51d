"""Benchmark figures as text: for a terminal, and as markdown for a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipoint3d_ros.evaluation.console import aligned, percent

_WORST = 5  # confusions shown of each model


def scenes_summary(figures: Mapping[str, Any]) -> str:
    """The figures of `benchmark scenes`, all models side by side."""
    parts = [_heading(figures), aligned(_overview(figures)), aligned(_per_class(figures))]
    for name, model in figures["models"].items():
        confusion = model["confusion"]
        rows = [["truth \\ answer", *confusion["classes"]]]
        rows += [[c, *map(str, n)] for c, n in zip(confusion["classes"], confusion["matrix"], strict=True)]
        parts.append(f"{name}\n{aligned(rows)}\n{_worst(model)}")
    return "\n\n".join(parts)


def scenes_markdown(figures: Mapping[str, Any]) -> str:
    """The same as tables for a model card."""
    worst = [f"- {name}: {_worst(model)}" for name, model in figures["models"].items()]
    return "\n\n".join([_heading(figures), _table(_overview(figures)), _table(_per_class(figures)), "\n".join(worst)])


def shapes_summary(figures: Mapping[str, Any]) -> str:
    """The figures of `benchmark shapes`."""
    return "\n\n".join(f"{title}\n{aligned(rows)}" for title, rows in _shape_tables(figures))


def shapes_markdown(figures: Mapping[str, Any]) -> str:
    """The same as tables for a model card."""
    return "\n\n".join(f"{title}\n\n{_table(rows)}" for title, rows in _shape_tables(figures))


def with_interval(share: float | None, interval: Sequence[float] | None) -> str:
    """A share with its interval: "84.1 % (80.2–87.9)"."""
    if share is None or interval is None:
        return percent(share)
    low, high = interval
    return f"{percent(share)} ({100 * low:.1f}–{100 * high:.1f})"


def _heading(figures: Mapping[str, Any]) -> str:
    return (
        f"{figures['objects']} objects in {figures['scenes']} scenes ({figures['score_on']}), frozen model; "
        "95 % bootstrap intervals over scenes in brackets; * the views that decide below"
    )


def _overview(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = [["model", "views", "macro accuracy", "accuracy", "calibration error"]]
    for name, model in figures["models"].items():
        for selection, found in model["selections"].items():
            chosen = f"{selection} *" if selection == model["selection"] else selection
            rows.append(
                [
                    name,
                    chosen,
                    with_interval(found["macro_accuracy"], found["macro_accuracy_interval"]),
                    with_interval(found["accuracy"], found["accuracy_interval"]),
                    percent(found["ece"]),
                ]
            )
    return rows


def _per_class(figures: Mapping[str, Any]) -> list[list[str]]:
    models = figures["models"]
    first = next(iter(models.values()))
    rows = [["class", "objects", *models]]
    for name, row in first["per_class"].items():
        rows.append(
            [name, str(row["n"]), *(percent(model["per_class"][name]["accuracy"]) for model in models.values())]
        )
    if first["unknown"]:
        counted = f"{first['unknown']['n']} of {first['unknown']['n'] + first['unknown']['known']}"
        for title, score in (("unknown: AUROC", "max_probability"), ("  by entropy", "entropy")):
            areas = (f"{model['unknown']['auroc_by'][score]:.3f}" for model in models.values())
            rows.append([title, counted, *areas])
    return rows


def _worst(model: Mapping[str, Any]) -> str:
    told = [f"{c['truth']} → {c['answer']} {c['count']} of {c['n']}" for c in model["confusions"][:_WORST]]
    return f"most confused: {', '.join(told)}" if told else "nothing confused"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def _shape_tables(figures: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    return []
