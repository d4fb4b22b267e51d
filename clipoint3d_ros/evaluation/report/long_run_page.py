"""The page of a long run: the verdict, memory and latency over time, what was missed and what the nodes said."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipoint3d_ros.evaluation.console import aligned
from clipoint3d_ros.evaluation.files import write_whole
from clipoint3d_ros.evaluation.long_run import CELLS, duration, number
from clipoint3d_ros.evaluation.report.markup import figure, page, section, soft, table

_WIDTH = 9.0  # inches
_COLOURS = ("#1f5fa8", "#d06a10", "#2a8f4c", "#7a4fa3")


def write_page(folder: Path, found: Mapping[str, Any], notes: Mapping[str, str]) -> Path:
    """Write `index.html`.

    Args:
        found: of `long_run.figures`.
        notes: {what: value} of what was played and how, shown below the title.

    Returns:
        The page's path.
    """
    about = "<br>".join(html.escape(f"{key}: {value}") for key, value in notes.items())
    head = f"<header><h1>{_title(found)}</h1>{soft(about)}</header>"
    path = folder / "index.html"
    sections = [_headline(found), _memory(found), _latency(found), _said(found)]
    write_whole(path, page(_title(found), [head, *sections]))
    return path


def memory_over_time(found: Mapping[str, Any]) -> Figure:
    """Each process's memory above, the GPU's below where there is one; the warm-up is shaded."""
    kinds = [("rss_mb", "memory, MB")] + ([("gpu_mb", "GPU memory, MB")] if found["gpu_memory"] else [])
    drawing = Figure(figsize=(_WIDTH, 2.6 * len(kinds) + 0.4), layout="constrained")
    panels = drawing.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    hours, unit = _axis(found)
    for axes, (kind, title) in zip(panels, kinds, strict=True):
        names = dict.fromkeys(name for sample in found["samples"] for name in sample[kind])
        for name, colour in zip(names, _COLOURS, strict=False):
            values = [sample[kind].get(name) for sample in found["samples"]]
            axes.plot(hours, np.array(values, float), color=colour, lw=1.6, label=name)
        axes.axvspan(0, found["warm_up_h"] * unit[0], color="#8a94a0", alpha=0.15, lw=0)
        axes.set_ylabel(title)
        axes.margins(y=0.08)
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", fontsize="small")
        _quiet(axes)
    panels[-1].set_xlabel(unit[1])
    return drawing


def latency_over_time(found: Mapping[str, Any]) -> Figure:
    """Median and 99th percentile from sample to sample; below, how many clouds were missed so far."""
    drawing = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    above, below = drawing.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    hours, unit = _axis(found)
    for key, name, colour, width in (("p99_ms", "p99", _COLOURS[1], 0.9), ("p50_ms", "p50", _COLOURS[0], 1.6)):
        above.plot(hours, np.array([sample[key] for sample in found["samples"]], float), color=colour, lw=width)
        above.plot([], [], color=colour, lw=2, label=name)
    above.set_ylabel("latency, ms")
    above.set_ylim(bottom=0)
    above.legend(loc="upper right", fontsize="small", ncols=2)
    below.step(hours, [sample["missed"] for sample in found["samples"]], where="post", color="#c02020", lw=1.4)
    below.set_ylabel("missed")
    below.set_ylim(-0.05, max(1, found["frames"]["missed"]) * 1.1)
    below.set_xlabel(unit[1])
    for axes in (above, below):
        _quiet(axes)
    return drawing


def _title(found: Mapping[str, Any]) -> str:
    return f"{duration(found['hours'])} in a loop"


def _headline(found: Mapping[str, Any]) -> str:
    frames, latency = found["frames"], found["latency_ms"]
    kind = "better" if found["good"] else "worse"
    said = f'<p class="lead {kind}">{html.escape(_sentence(found["verdict"]))}</p>'
    rows = [
        ["ended", html.escape(found["ended"])],
        ["rounds of the bag", str(found["loops"])],
        ["of these with a jump back of the clock", str(found["jumps_back"])],
        ["clouds sent", str(frames["sent"])],
        ["answered", str(frames["answered"])],
        ["missed", str(frames["missed"])],
        ["latency, median and 99 %", f"{number(latency['p50'])} and {number(latency['p99'])} ms"],
    ]
    versions = found["adapter_versions"]
    if versions and versions["distinct"] > 1:
        rows.append(["adapter version, first and last", f"{versions['first']} and {versions['last']}"])
    return section("In short", said, table([["", ""], *rows]))


def _memory(found: Mapping[str, Any]) -> str:
    rows = [["process", "after warm-up, MB", "end, MB", "most, MB", "MB an hour", "in the last half", "verdict"]]
    for title, kind in (("", "memory"), (" (GPU)", "gpu_memory")):
        for name, one in found[kind].items():
            cells = [number(one[key]) for key in CELLS]
            colour = {"flat": "better", "grows": "worse"}.get(one["verdict"], "soft")
            rows.append([html.escape(name + title), *cells, f'<span class="{colour}">{one["verdict"]}</span>'])
    said = (
        f"Resident memory of each node's process. Shaded: the warm-up, which says nothing about growth. The slope is "
        f"the median over all pairs of samples after it, and over those of the last half by themselves; up to "
        f"{found['limit_mb_h']:g} MB an hour both are called flat."
    )
    drawn = [figure(memory_over_time(found), "memory over time")] if len(found["samples"]) > 1 else []
    return section("Memory", table(rows), *drawn, soft(said))


def _latency(found: Mapping[str, Any]) -> str:
    latency = found["latency_ms"]
    rows = [["", "median, ms", "99 %, ms", "longest, ms"]]
    for title, part in (
        ("all", latency),
        ("first tenth", latency["first_tenth"]),
        ("last tenth", latency["last_tenth"]),
    ):
        rows.append([title, *(number(part[key]) for key in ("p50", "p99", "max"))])
    drawn = [figure(latency_over_time(found), "latency over time")] if len(found["samples"]) > 1 else []
    return section("Latency", table(rows), *drawn, soft("From sending a cloud to having its answer."))


def _said(found: Mapping[str, Any]) -> str:
    rows = [["warning in the diagnostics", "reports"]]
    rows += [[html.escape(said), str(times)] for said, times in found["warnings"].items()]
    parts = [table(rows, "words")] if found["warnings"] else ["<p>No warning in the diagnostics.</p>"]
    for node, values in found["counters"].items():
        pairs = "\n".join(html.escape(line) for line in aligned(sorted(values.items())).splitlines())
        parts.append(
            f"<details><summary>{html.escape(node)}'s last report</summary><pre class='wide'>{pairs}</pre></details>"
        )
    return section("What the nodes said", *parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _axis(found: Mapping[str, Any]) -> tuple[np.ndarray, tuple[float, str]]:
    """Sample times, with the factor from hours to the unit and its name."""
    unit = (1.0, "hours") if found["hours"] >= 2 else (60.0, "minutes") if found["hours"] >= 1 / 30 else (3600.0, "s")
    return np.array([sample["hours"] for sample in found["samples"]]) * unit[0], unit


def _quiet(axes: Axes) -> None:
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
