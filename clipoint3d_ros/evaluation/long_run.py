"""What hours of answering leave behind: memory and latency over time, what was missed, and a plain verdict.

Samples in, figures and text out; `soak` takes the samples. Memory counts as growing where its slope is above a limit:
after the warm-up, or in the last half of that by itself: a late leak leaves the whole run's median as it was, and shows
in the half's once it has gone on for a sixth of the run. A run that is too short to show a leak of just that limit says
so, rather than "flat".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.evaluation.console import aligned

LIMIT_MB_H = 10.0  # a quarter of a gigabyte in a day
VISIBLE_MB = 3.5  # allocators breathe by about so much: no evidence of growth; half an hour of the limit shows more
SETTLED_H = 0.5  # what ends, or a last half that begins, before may still be filling caches and heaps, which is
_SETTLING = 0.1  # no growth up to this share of what the process holds
_WARM_UP = 0.2  # of the run, and never more than
_WARM_UP_H = 0.25
_PAIRED = 400  # samples that a slope is taken from, evenly spread; it looks at all their pairs
_TENTH = 0.1
_KINDS = 8  # of warnings in the text
CELLS = ("start_mb", "end_mb", "most_mb", "slope_mb_h", "late_slope_mb_h")  # of `Growth`, in tables


class Sample(NamedTuple):
    """One moment of the run.

    hours: since the first cloud. sent, answered, missed: clouds so far. p50_ms, p99_ms: latency since the sample
    before, NaN where nothing was answered. version: of the adapter that answered last. rss_mb: {process: MB}, NaN once
    it has ended. gpu_mb: {node: MB that torch holds}, of those with a GPU.
    """

    hours: float
    sent: int
    answered: int
    missed: int
    p50_ms: float
    p99_ms: float
    version: int
    rss_mb: Mapping[str, float]
    gpu_mb: Mapping[str, float]


@dataclass(frozen=True)
class LongRun:
    """All that was seen of a run.

    asked_h, limit_mb_h: what was asked. samples: the first when the first cloud was sent, the last at the end.
    latency: (N, 2) hours and ms of every answer. loops, jumps_back: rounds begun, and how many of them let the clock
    jump back. stopped: by its user. died: why it could not go on, else "". warnings: {sentence: reports that said it}.
    counters: {node: {name: value}} as the nodes last reported.
    """

    asked_h: float
    samples: Sequence[Sample]
    latency: np.ndarray
    loops: int = 0
    jumps_back: int = 0
    stopped: bool = False
    died: str = ""
    warnings: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limit_mb_h: float = LIMIT_MB_H

    @property
    def hours(self) -> float:
        """How long it ran."""
        return self.samples[-1].hours if self.samples else 0.0

    @property
    def warm_up_h(self) -> float:
        """How much of the beginning says nothing about growth."""
        return min(_WARM_UP * self.hours, _WARM_UP_H)


@dataclass(frozen=True)
class Growth:
    """One process's memory after the warm-up.

    start_mb, end_mb: there and at the end. most_mb: at any time. slope_mb_h: MB an hour; late_slope_mb_h: of the last
    half by itself; None with too few samples. verdict: "flat", "grows" or "too short to tell".
    """

    start_mb: float | None
    end_mb: float | None
    most_mb: float | None
    slope_mb_h: float | None
    late_slope_mb_h: float | None
    verdict: str


def slope(hours: Sequence[float], values: Sequence[float]) -> float:
    """The median slope of all pairs (Theil and Sen), which a spike or a single step does not sway.

    Args:
        hours, values: of the same length, at least two, the hours not all equal.

    Returns:
        values an hour.
    """
    chosen = np.unique(np.linspace(0, len(hours) - 1, min(len(hours), _PAIRED)).round().astype(int))
    x, y = np.asarray(hours, float)[chosen], np.asarray(values, float)[chosen]
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    return float(np.median((y[second] - y[first])[run > 0] / run[run > 0]))


def growth(hours: Sequence[float], values: Sequence[float], warm_up_h: float, limit: float) -> Growth:
    """Judge one process's memory.

    Args:
        hours, values: of its samples, hours and MB; NaN values are left out.
        warm_up_h: hours at the beginning that say nothing.
        limit: MB an hour.
    """
    held = [(x, y) for x, y in zip(hours, values, strict=True) if math.isfinite(y)]
    most = max((y for _, y in held), default=None)
    warm = [(x, y) for x, y in held if x >= warm_up_h]
    if len(warm) < 3 or warm[0][0] == warm[-1][0]:
        start, end = (held[0][1], held[-1][1]) if held else (None, None)
        return Growth(start, end, most, None, None, "too short to tell")
    middle = (warm[0][0] + warm[-1][0]) / 2
    late = [(x, y) for x, y in warm if x >= middle]
    whole, after = _slope(warm), _slope(late)
    visible = _visible_mb(held[-1][0], warm[0][1])
    if _grows(warm, limit, visible) or _grows(late, limit, _visible_mb(late[0][0], late[0][1])):
        verdict = "grows"
    elif whole is not None and whole <= limit and limit * (warm[-1][0] - warm[0][0]) >= visible:
        verdict = "flat"
    else:
        verdict = "too short to tell"
    return Growth(warm[0][1], warm[-1][1], most, whole, after, verdict)


def _slope(part: Sequence[tuple[float, float]]) -> float | None:
    """Of samples (hours, MB); None where they are of one moment."""
    hours, values = zip(*part, strict=True)
    return slope(hours, values) if hours[0] < hours[-1] else None


def _grows(part: Sequence[tuple[float, float]], limit: float, visible: float) -> bool:
    """Whether samples (hours, MB) rise above the limit, and by as much as can be told from breathing."""
    found = _slope(part)
    return found is not None and found > limit and found * (part[-1][0] - part[0][0]) >= visible


def _visible_mb(hours: float, held: float) -> float:
    """The least rise that is evidence of growth, of a process that holds so many MB after so many hours."""
    return VISIBLE_MB if hours >= SETTLED_H else max(VISIBLE_MB, _SETTLING * held)


def figures(run: LongRun) -> dict[str, Any]:
    """Everything as JSON knows it, NaN as null; `good` says whether nothing is wrong."""
    rss, gpu = _memory(run, "rss_mb"), _memory(run, "gpu_mb")
    troubles = _troubles(run, rss, gpu)
    last = run.samples[-1] if run.samples else None
    versions = [sample.version for sample in run.samples]
    return {
        "good": not troubles,
        "verdict": "; ".join(troubles) or _praise(rss),
        "hours": run.hours,
        "asked_hours": run.asked_h,
        "ended": "died" if run.died else "stopped early" if run.stopped else "in full",
        "died": run.died or None,
        "loops": run.loops,
        "jumps_back": run.jumps_back,
        "frames": {name: getattr(last, name) if last else 0 for name in ("sent", "answered", "missed")},
        "memory": {name: vars(found) for name, found in rss.items()},
        "gpu_memory": {name: vars(found) for name, found in gpu.items()},
        "limit_mb_h": run.limit_mb_h,
        "warm_up_h": run.warm_up_h,
        "latency_ms": {
            **_percentiles(run.latency[:, 1]),
            "first_tenth": _percentiles(_within(run, 0.0, _TENTH)),
            "last_tenth": _percentiles(_within(run, 1 - _TENTH, 1.0)),
        },
        "adapter_versions": {"first": versions[0], "last": versions[-1], "distinct": len(set(versions))}
        if versions
        else None,
        "warnings": dict(sorted(run.warnings.items(), key=lambda pair: -pair[1])),
        "counters": {node: dict(values) for node, values in run.counters.items()},
        "samples": [_as_json(sample) for sample in run.samples],
    }


def summary(found: Mapping[str, Any]) -> str:
    """The figures as text for a terminal."""
    frames, latency, versions = found["frames"], found["latency_ms"], found["adapter_versions"]
    lines = [
        f"{duration(found['hours'])} of {duration(found['asked_hours'])}, {found['ended']}: {found['loops']} loops, "
        f"the clock jumped back {found['jumps_back']} times",
        f"frames: {frames['sent']} sent, {frames['answered']} answered, {frames['missed']} missed",
        "latency p50 / p99: "
        + ", ".join(
            f"{title} {_pair(part)}"
            for title, part in (
                ("all", latency),
                ("first tenth", latency["first_tenth"]),
                ("last tenth", latency["last_tenth"]),
            )
        ),
    ]
    if versions and versions["distinct"] > 1:
        lines.append(f"adapter version: {versions['first']} at first, {versions['last']} at the end")
    rows = [["memory", "after warm-up", "end", "most", "MB/h", "last half", "verdict"]]
    for title, kind in (("", "memory"), (" GPU", "gpu_memory")):
        for name, one in found[kind].items():
            cells = (number(one[key]) for key in CELLS)
            rows.append([f"{name}{title}", *cells, one["verdict"]])
    lines += ["", aligned(rows), f"limit {found['limit_mb_h']:g} MB/h, after {duration(found['warm_up_h'])} of warm-up"]
    if found["warnings"]:
        lines.append("")
        listed = list(found["warnings"].items())
        lines += [f"diagnostics warned {times} times: {said}" for said, times in listed[:_KINDS]]
        lines += [f"… and {len(listed) - _KINDS} other warnings"] if len(listed) > _KINDS else []
    return "\n".join([*lines, "", f"{'good' if found['good'] else 'NOT GOOD'}: {found['verdict']}"])


def duration(hours: float) -> str:
    """Hours in the unit that suits them."""
    if hours >= 1:
        return f"{hours:.4g} h"
    return f"{60 * hours:.3g} min" if hours >= 1 / 60 else f"{3600 * hours:.3g} s"


def number(value: float | None) -> str:
    """One decimal, "-" where there is none."""
    return "-" if value is None else f"{value:.1f}"


def _memory(run: LongRun, kind: str) -> dict[str, Growth]:
    names = dict.fromkeys(name for sample in run.samples for name in getattr(sample, kind))
    hours = [sample.hours for sample in run.samples]
    return {
        name: growth(
            hours,
            [getattr(sample, kind).get(name, math.nan) for sample in run.samples],
            run.warm_up_h,
            run.limit_mb_h,
        )
        for name in names
    }


def _troubles(run: LongRun, rss: Mapping[str, Growth], gpu: Mapping[str, Growth]) -> list[str]:
    """A sentence for each thing that is wrong."""
    found = [f"after {duration(run.hours)} {run.died}"] if run.died else []
    for kind, memories in (("memory", rss), ("GPU memory", gpu)):
        found += [
            f"{name}'s {kind} grows by {_rate(one, run.limit_mb_h)}, above the limit of {run.limit_mb_h:g}"
            for name, one in memories.items()
            if one.verdict == "grows"
        ]
    late = [sample for sample in run.samples if sample.hours >= (1 - _TENTH) * run.hours]
    if len(late) > 1 and late[-1].missed > late[0].missed and late[-1].answered == late[0].answered:
        found.append("nothing was answered in the last tenth")
    return found


def _rate(one: Growth, limit: float) -> str:
    """How quickly what grows does: over the whole run, or only in its last half."""
    assert one.slope_mb_h is not None
    if one.slope_mb_h > limit or one.late_slope_mb_h is None:
        return f"{one.slope_mb_h:.1f} MB/h"
    return f"{one.late_slope_mb_h:.1f} MB/h in the last half"


def _praise(rss: Mapping[str, Growth]) -> str:
    short = [name for name, one in rss.items() if one.verdict != "flat"]
    if short:
        return f"nothing wrong; the run was too short to tell whether the memory of {' and '.join(short)} is flat"
    return "memory is flat and the nodes answered to the end"


def _within(run: LongRun, start: float, end: float) -> np.ndarray:
    """Latencies (ms) of a part of the run, from and to shares of its time."""
    hours = run.latency[:, 0]
    return run.latency[(hours >= start * run.hours) & (hours <= end * run.hours), 1]


def _percentiles(latency: np.ndarray) -> dict[str, float | None]:
    if not len(latency):
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(latency, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(latency.max())}


def _as_json(sample: Sample) -> dict[str, Any]:
    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: finite(one) for name, one in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {name: finite(value) for name, value in sample._asdict().items()}


def _pair(part: Mapping[str, float | None]) -> str:
    return "-" if part["p50"] is None else f"{part['p50']:.0f} / {part['p99']:.0f} ms"
