"""Accuracy over time: one panel a stream and start, one line a method."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

_COLUMNS = 2


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the trailing accuracy of every method, mean over the seeds (PNG, SVG or PDF); the frozen model is black."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(key, list(lines)) for key, lines in groupby(figures["curves"], lambda c: (c["stream"], c["start"]))]
    methods = list(dict.fromkeys(curve["method"] for curve in figures["curves"]))
    colours = {name: "black" if name == "frozen" else f"C{i}" for i, name in enumerate(methods)}
    down = -(-len(panels) // _COLUMNS)
    figure, axes = plt.subplots(
        down, _COLUMNS, figsize=(6.5 * _COLUMNS, 2.6 * down + 0.6), squeeze=False, layout="constrained"
    )
    for axis, (key, lines) in zip(axes.flat, panels, strict=False):
        for curve in lines:
            shares = [100 * share for share in curve["accuracy"]]
            axis.plot(curve["objects"], shares, color=colours[curve["method"]], label=curve["method"], linewidth=1.2)
        axis.set_title(f"{key[0]}, {key[1]} (last {lines[0]['window']} objects)", fontsize="medium", loc="left")
        axis.set_ylabel("accuracy, %")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("objects")
    handles = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 5) or 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)
