"""The report's plots: accuracy over time, reliability, confusion, latency. Outcomes in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.outcomes import Outcomes, Verdicts, Version
from clipoint3d_ros.evaluation.streams.metrics import running_accuracy

COLOURS = {"frozen": "#5a6b7f", "adapted": "#d06a10"}
_BETTER, _WORSE, _MARK = "#2a8f4c", "#c02020", "#1f5fa8"
_FEWEST = 8  # objects; a running accuracy over fewer says nothing
_WIDTH = 9.0  # inches
_SIDE_BY_SIDE = 12  # classes; more of them need the whole width
_LONGEST = 26  # letters of a class at an axis
_APART = 0.045  # of the axis, between the names of two versions


def trail(objects: int) -> int:
    """Objects over which the running accuracy of a stream is taken: a tenth of them, from 20 to 500."""
    return int(np.clip(objects // 10, 20, 500))


def changes(versions: Sequence[Version]) -> list[Version]:
    """The versions that took over from another one."""
    return [after for _, after in pairwise(versions)]


def accuracy_over_time(found: Outcomes, versions: Sequence[Version]) -> Figure:
    """Running accuracy of the models with a mark where another version took over; below, what the adapter gained.

    Args:
        found: at least one object.
        versions: of `outcomes.timeline`.
    """
    paired = found.adapted is not None
    heights = [3.0, 1.4] if paired else [3.0]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.9), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _running(panels[0], found)
    if paired:
        _won(panels[1], found)
    for panel in panels:
        _mark(panel, versions, len(found.truth), named=panel is panels[0])
    panels[-1].set_xlabel("objects")
    panels[-1].xaxis.set_major_locator(MaxNLocator(9, integer=True))
    _stream_time(panels[0], found)
    return figure


def reliability_diagram(found: Outcomes) -> Figure:
    """Share named rightly against the mean score, bin by bin, with how many objects each bin holds."""
    models = dict(_models(found))
    figure = Figure(figsize=(4.5 * len(models), 4.4), layout="constrained")
    grid = figure.subplots(2, len(models), squeeze=False, sharex=True, sharey="row", height_ratios=[3, 1])
    for (name, of), (above, below) in zip(models.items(), grid.T, strict=True):
        claims = found.calibration(of)
        bins = metrics.reliability(claims.right, claims.score)
        _against_diagonal(above, bins, COLOURS[name])
        said = f"calibration error {100 * claims.error:.1f} %" if len(claims.score) else "no answer"
        above.set_title(f"{name}: {said}")
        below.bar(np.arange(len(bins.objects)) + 0.5, bins.objects, 0.9, color=COLOURS[name], alpha=0.6)
        ends = np.linspace(0, len(bins.objects), 6)
        below.set_xticks(ends, [f"{100 * end / len(bins.objects):.0f}" for end in ends])
        below.set_xlabel("score, %")
    grid[0, 0].set_ylabel("named rightly, %")
    grid[1, 0].set_ylabel("objects")
    return figure


def confusion_matrices(found: Outcomes) -> Figure:
    """Counts of each model, coloured by the share of their row; the last column holds objects without a named class."""
    models = dict(_models(found))
    many = len(found.classes) > _SIDE_BY_SIDE  # then one above the other, each as wide as the page
    side = _WIDTH if many else 1.5 + 0.42 * len(found.classes)
    rows, columns = (len(models), 1) if many else (1, len(models))
    figure = Figure(figsize=((side + 0.6 * (not many)) * columns, side * rows), layout="constrained")
    for axes, (name, of) in zip(figure.subplots(rows, columns, squeeze=False).flat, models.items(), strict=True):
        _confusion(axes, found, of)
        axes.set_title(name)
    return figure


def latency_over_time(times: Sequence[float], latencies: Sequence[float], versions: Sequence[Version]) -> Figure:
    """How long each answer took, with a mark where another version took over.

    Args:
        times: seconds into the stream, of each answered frame.
        latencies: seconds from sending the cloud to having the answer.
    """
    figure = Figure(figsize=(_WIDTH, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, 1000 * np.asarray(latencies), "o-", color="#303030", ms=2.5, lw=0.7)
    for version in changes(versions):
        axes.axvline(version.start, color=_MARK, lw=0.9, ls="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("stream, s")
    axes.set_ylabel("latency, ms")
    _quiet(axes)
    return figure


def _models(found: Outcomes) -> Iterator[tuple[str, Verdicts]]:
    yield "frozen", found.frozen
    if found.adapted is not None:
        yield "adapted", found.adapted


def _running(axes: Axes, found: Outcomes) -> None:
    count = len(found.truth)
    window, first = trail(count), min(_FEWEST, count) - 1
    numbers = np.arange(1, count + 1)
    for name, _ in _models(found):
        right = found.right(name)
        for over, width, alpha, said in ((window, 1.0, 0.55, f"last {window}"), (count, 2.4, 1.0, "all so far")):
            line = 100 * running_accuracy(right, over)
            label = f"{name}, {said}: {line[-1]:.1f} %"
            marker = "o" if count == 1 else ""
            axes.plot(
                numbers[first:], line[first:], color=COLOURS[name], lw=width, alpha=alpha, label=label, marker=marker
            )
    axes.set_ylim(-2, 102)
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="lower right", fontsize="small", ncols=2, framealpha=0.9)
    _quiet(axes)


def _won(axes: Axes, found: Outcomes) -> None:
    """Right answers of the adapter beyond the frozen model's, so far."""
    numbers = np.arange(len(found.truth) + 1)
    won = np.cumsum(np.concatenate([[0], found.right("adapted").astype(int) - found.right("frozen")]))
    axes.fill_between(numbers, won, 0, where=won >= 0, step="post", color=_BETTER, alpha=0.35, lw=0)
    axes.fill_between(numbers, won, 0, where=won <= 0, step="post", color=_WORSE, alpha=0.35, lw=0)
    axes.step(numbers, won, where="post", color="#303030", lw=1)
    axes.axhline(0, color="#303030", lw=0.6)
    axes.set_ylabel("right answers\ngained")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _quiet(axes)


def _mark(axes: Axes, versions: Sequence[Version], count: int, named: bool) -> None:
    """A line where another version took over, and its number where there is room; the others are faint."""
    last = -np.inf
    for version in changes(versions):
        roomy = version.objects - last >= _APART * count
        axes.axvline(version.objects, color=_MARK, lw=0.9, ls="--", zorder=1, alpha=1 if roomy else 0.3)
        if roomy:
            last = version.objects
        if roomy and named:
            axes.annotate(
                f"v{version.version}" if version.version else "frozen",
                (version.objects, 0.985),
                (2, 0),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                color=_MARK,
                fontsize="small",
                va="top",
            )


def _stream_time(axes: Axes, found: Outcomes) -> None:
    """The stream's seconds above an axis of objects."""
    times = np.array([one.frame.time for one in found.scored])
    above = axes.secondary_xaxis("top")
    places = np.unique(np.linspace(0, len(times) - 1, 7).round().astype(int))
    digits = 0 if np.ptp(times) > 60 else 1
    first = {f"{times[place]:.{digits}f} s": place for place in reversed(places)}  # few frames would repeat themselves
    above.set_xticks(list(first.values()), list(first))
    above.tick_params(labelsize="small", length=2)
    for side in above.spines.values():
        side.set_visible(False)


def _against_diagonal(axes: Axes, bins: metrics.Reliability, colour: str) -> None:
    count = len(bins.objects)
    held = bins.objects > 0
    score, right = count * bins.score[held], 100 * bins.accuracy[held]
    axes.plot([0, count], [0, 100], color="#303030", lw=0.8, ls=":")
    axes.bar((np.arange(count) + 0.5)[held], right, 0.9, color=colour, alpha=0.35)
    axes.vlines(score, right, 100 * bins.score[held], color=_WORSE, lw=1.2)
    axes.scatter(score, right, s=10 + 90 * bins.objects[held] / max(bins.objects.max(), 1), color=colour, zorder=3)
    axes.set_xlim(0, count)
    axes.set_ylim(0, 102)
    _quiet(axes)


def _confusion(axes: Axes, found: Outcomes, of: Verdicts) -> None:
    size = len(found.classes)
    counts = metrics.confusion(found.truth, of.named, size)
    totals = metrics.class_counts(found.truth, size)
    counts = np.column_stack([counts, totals - counts.sum(1)])  # in the last column, no class was named
    if not counts[:, -1].any():
        counts = counts[:, :-1]
    share = counts / np.maximum(totals, 1)[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    letters = 8.5 if size <= _SIDE_BY_SIDE else max(4.0, min(8.5, 280 / size))
    for row, column in np.argwhere(counts > 0):
        colour = "white" if share[row, column] > 0.55 else "#202020"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=letters)
    names = [_short(name) for name in (*found.classes, "none")][: counts.shape[1]]
    steep = {"rotation": 90} if size > _SIDE_BY_SIDE else {"rotation": 45, "ha": "right"}
    axes.set_xticks(range(len(names)), names, fontsize=letters, **steep)
    axes.set_yticks(range(size), names[:size], fontsize=letters)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _quiet(axes: Axes) -> None:
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
