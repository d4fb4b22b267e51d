"""An evaluation as a page: figures, confusion matrix, course over time, and the most confident mistakes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import SECOND, LabelledBag
from clipoint3d_ros.evaluation.console import models_of, percent
from clipoint3d_ros.evaluation.scoring import scored_objects
from clipoint3d_ros.geometry.clouds import CloudError, level, normalise, resample
from clipoint3d_ros.geometry.views import DepthViews
from clipoint3d_ros.nodes.frames import standpoint
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.pointcloud import read_segments

MOST_MISTAKES = 16
_VIEW = 64  # pixels

_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #202020 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
img { max-width: 100% }"""


def write_report(
    folder: Path,
    figures: Mapping[str, Any],
    bags: Sequence[LabelledBag],
    frames: Sequence[Frame],
    replayed: Replayed,
    config: PerceptionConfig,
) -> Path:
    """Write `index.html` and its pictures.

    Args:
        folder: made where it does not exist; files of an earlier report there are replaced.
        figures: of `scoring.score`.
        bags, frames, replayed: what they were scored from.
        config: the node's parameters, for reading the clouds of mistakes again.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mistakes = worst_mistakes(frames, replayed)
    draw_confusion(folder / "confusion.png", figures["confusion"])
    draw_windows(folder / "windows.png", figures["windows"])
    sections = [
        _section("Accuracy", _accuracy_rows(figures)),
        f'<h2>Confusion of the {models_of(figures)[-1]} model</h2><img src="confusion.png" alt="confusion matrix">',
        '<h2>Course</h2><img src="windows.png" alt="accuracy over the stream">',
        _section("Replay", _replay_rows(figures)),
    ]
    if mistakes:
        draw_mistakes(folder / "mistakes.png", mistakes, bags, config)
        sections.append('<h2>Most confident mistakes</h2><img src="mistakes.png" alt="depth views of mistakes">')
        sections.append(_table([["object", "truth", "answer", "score"], *(m.row(bags) for m in mistakes)]))
    names = html.escape(", ".join(str(bag.path) for bag in bags))
    page = folder / "index.html"
    page.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Evaluation of {names}</title>'
        f"<style>{_STYLE}</style>\n<h1>Evaluation</h1><p>{names}</p>\n" + "\n".join(sections) + "\n</html>\n"
    )
    return page


class Mistake(NamedTuple):
    """A wrong answer: its frame and segment id, what the object was, what was said."""

    key: FrameKey
    segment: str
    truth: str
    answer: Answer

    def row(self, bags: Sequence[LabelledBag]) -> list[str]:
        """Cells of the report's table."""
        where = f"{bags[self.key.bag].path.name}, {self.key.stamp / SECOND:.3f} s, id {self.segment}"
        return [where, self.truth, self.answer.label, percent(self.answer.score)]


def worst_mistakes(frames: Sequence[Frame], replayed: Replayed, most: int = MOST_MISTAKES) -> list[Mistake]:
    """The wrong answers of the model that served, most confident first."""
    wrong = []
    for scored in scored_objects(frames, replayed):
        answer = scored.frozen if replayed.adapted is None else scored.adapted
        if answer is not None and answer.label != scored.object.name:
            wrong.append(Mistake(scored.frame.key, scored.object.id, scored.object.name, answer))
    return sorted(wrong, key=lambda mistake: -mistake.answer.score)[:most]


def draw_confusion(path: Path, confusion: Mapping[str, Any]) -> None:
    """Counts, coloured by the share of their row."""
    names, counts = confusion["classes"], np.array(confusion["matrix"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(2.2 + 0.6 * len(names), 1.6 + 0.55 * len(names)), dpi=110)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if share[row, column] > 0.55 else "#202020"
        axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    figure.savefig(path, bbox_inches="tight")


def draw_windows(path: Path, windows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy over the stream, one step a window."""
    figure = Figure(figsize=(8, 2.8), dpi=110)
    axes = figure.subplots()
    for model, colour in (("frozen", "#1f5fa8"), ("adapted", "#0a7d32")):
        for i, window in enumerate(windows):
            if window[model] is not None:
                label = model if i == 0 else "_nolegend_"
                axes.plot([window["start"], window["end"]], [100 * window[model]] * 2, color=colour, lw=3, label=label)
    axes.set_ylim(0, 102)
    axes.set_xlabel("stream, s")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    if windows:
        axes.legend(loc="best")
    figure.savefig(path, bbox_inches="tight")


def draw_mistakes(
    path: Path, mistakes: Sequence[Mistake], bags: Sequence[LabelledBag], config: PerceptionConfig
) -> None:
    """Each mistake's ten depth views in a row, as the model saw them before choosing among them."""
    clouds = _segments_of(mistakes, bags, config)
    views = DepthViews(size=_VIEW)
    figure = Figure(figsize=(12, 1.1 * len(mistakes)), dpi=90)
    grid = figure.subplots(len(mistakes), 11, squeeze=False)
    for row, mistake in zip(grid, mistakes, strict=True):
        for cell in row:
            cell.set_axis_off()
        said = f"{mistake.answer.label} {percent(mistake.answer.score)}\n(it is a {mistake.truth})"
        row[0].text(1, 0.5, said, ha="right", va="center", color="#c02020")
        levelled = clouds.get((mistake.key, mistake.segment))
        if levelled is None:
            continue
        points = resample([levelled], config.points, "random", torch.device("cpu"))
        for cell, image in zip(row[1:], views(normalise(points))[0].numpy(), strict=True):
            cell.imshow(image, cmap="gray", vmin=0, vmax=1)
    figure.subplots_adjust(wspace=0.04, hspace=0.04, left=0.02, right=0.995, top=0.995, bottom=0.005)
    figure.savefig(path)


def _segments_of(
    mistakes: Sequence[Mistake], bags: Sequence[LabelledBag], config: PerceptionConfig
) -> dict[tuple[FrameKey, str], np.ndarray]:
    """{(frame, id): (N, 3) float32 points, y up and turned to the sensor} of the mistakes' objects."""
    wanted = {mistake.key for mistake in mistakes}
    found = {}
    for number, bag in enumerate(bags):
        for cloud in bag.clouds():
            key = FrameKey(number, cloud.stamp)
            if key not in wanted:
                continue
            message = bag.decode(cloud)
            try:
                stand = standpoint(message.header.frame_id, message.header.stamp, config.frames)
                for segment in read_segments(message, config.segments):
                    eye = None if stand.viewpoint is None else stand.viewpoint - segment.points.mean(0)
                    turned = segment.points @ level(stand.up, eye).T
                    found[key, segment.id] = turned.astype(np.float32)
            except CloudError:
                continue
    return found


def _accuracy_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    models = models_of(figures)
    rows = [["", "objects", *models]]
    for title, key in (
        ("accuracy", "accuracy"),
        ("macro accuracy", "macro_accuracy"),
        ("answered accuracy", "answered_accuracy"),
        ("calibration error", "ece"),
    ):
        cells = []
        for model in models:
            low, high = figures["intervals"][model].get(key, (None, None))
            interval = "" if low is None else f" ({percent(low)} to {percent(high)})"
            cells.append(percent(figures[model][key]) + interval)
        rows.append([title, str(figures["objects"]), *cells])
    for name, row in figures["per_class"].items():
        rows.append([name, str(row["n"]), *(percent(row[model]) for model in models)])
    return rows


def _replay_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    versions = ", ".join(map(str, figures["adapter_versions"]))
    latency = ((f"latency {name}, ms", "-" if v is None else f"{v:.1f}") for name, v in figures["latency_ms"].items())
    return [
        ["", ""],
        ["frames", str(figures["frames"])],
        ["dropped frames", str(figures["dropped_frames"])],
        ["objects scored", str(figures["objects"])],
        ["objects in all", str(figures["instances"])],
        [f"unknown at {figures['unknown']['below']:g}", percent(figures["unknown"]["rate"])],
        *([["adapter version", versions]] if figures["adapted"] is not None else []),
        *map(list, latency),
    ]


def _section(title: str, rows: Sequence[Sequence[str]]) -> str:
    return f"<h2>{title}</h2>" + _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; every cell is text, not markup."""
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return "<table>" + "".join(lines) + "</table>"
