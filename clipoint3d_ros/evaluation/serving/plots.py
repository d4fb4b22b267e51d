"""The bench's figures as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Milliseconds per object of every row, and their growth with the objects of a frame and the points of a cloud."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (bars, objects, points) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names = [name for name, row in figures.items() if isinstance(row, Mapping) and "ms_per_object" in row]
    bars.barh(names, [figures[name]["ms_per_object"] for name in names])
    bars.invert_yaxis()
    bars.set_xlabel("ms per object")
    for axes, kind, unit in ((objects, "objects", "ms per object"), (points, "points", "ms of projection")):
        grown = figures["growth"][kind]
        axes.plot([int(count) for count in grown], list(grown.values()), marker="o")
        axes.set(xscale="log", xlabel=kind, ylabel=unit, ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
