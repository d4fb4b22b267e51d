"""Pictures of a scene and of its objects' depth views, with what was recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from clipoint3d_ros.datasets.scenes import FIRST_OBJECT, Scene
from clipoint3d_ros.recognition.recognition import Recognition

_LETTERS = 84  # of a label's size that the picture is wide
_LINE = 2.6  # letters' width that a label is high
RIGHT, WRONG, PLAIN = "#0a7d32", "#c02020", "#202020"


def draw_scene(path: Path, scene: Scene, answers: Mapping[int, Recognition]) -> None:
    """The depth image, each object outlined and named; green where the truth agrees, red where it does not.

    Args:
        path: of the PNG.
        scene: the labelled depth image.
        answers: {instance id: what was recognised}.
    """
    objects = scene.instance >= FIRST_OBJECT
    depth = np.where(scene.depth > 0, scene.depth, np.nan)
    near = np.nanpercentile(depth[objects], 1) if objects.any() else np.nanmin(depth)
    far = np.nanpercentile(depth[objects], 99) if objects.any() else np.nanmax(depth)
    figure = Figure(figsize=(9, 6.75), dpi=100)
    axes = figure.subplots()
    axes.imshow(np.where(objects, np.nan, depth), cmap="Greys", vmin=near * 0.5, vmax=far * 2.5)
    axes.imshow(np.where(objects, depth, np.nan), cmap="viridis_r", vmin=near, vmax=far)
    outlines = {key: scene.instance == key for key in answers}
    shown = {key: answers[key] for key, mask in outlines.items() if mask.any()}
    said = {key: f"{answer.label} {answer.score:.0%}" for key, answer in shown.items()}
    for key, (x, y) in _apart(said, outlines, scene.instance.shape[1] / _LETTERS).items():
        colour = _colour(shown[key], scene.classes.get(key))
        axes.contour(outlines[key], levels=[0.5], colors=[colour], linewidths=1.4)
        axes.text(
            x,
            y,
            said[key],
            color="white",
            ha="center",
            va="bottom",
            fontsize=10,
            bbox={"facecolor": colour, "edgecolor": "none", "alpha": 0.9, "pad": 2},
        )
    axes.set_axis_off()
    figure.savefig(path, bbox_inches="tight", pad_inches=0.05)


def _apart(
    words: Mapping[int, str], outlines: Mapping[int, np.ndarray], letter: float
) -> dict[int, tuple[float, float]]:
    """Where each object's words stand, (x, y) pixels of the middle of their lower edge: above it, and as much higher as
    they need to hide no others.

    Args:
        words: {instance id: text}. outlines: {instance id: (H, W) mask}, none of them empty.
        letter: pixels across a letter.
    """
    found: dict[int, tuple[float, float]] = {}
    taken: list[tuple[float, float, float]] = []  # middle, lower edge, half the width
    height = _LINE * letter
    tops = {key: np.nonzero(outlines[key]) for key in words}
    for key in sorted(words, key=lambda key: -int(tops[key][0].min())):  # the lowest keep their place
        x, y = float(np.median(tops[key][1])), float(tops[key][0].min()) - 6
        half = (len(words[key]) + 1) * letter / 2
        for _ in range(len(taken)):
            hidden = [row for a, row, b in taken if abs(a - x) < b + half and abs(row - y) < height]
            if not hidden:
                break
            y = min(hidden) - height
        taken.append((x, y, half))
        found[key] = x, y
    return found


def draw_views(path: Path, views: np.ndarray, answers: Sequence[Recognition], truths: Sequence[str | None]) -> None:
    """Each object's depth views in a row, with label, score and truth.

    Args:
        path: of the PNG.
        views: (B, V, H, W) in [0, 1].
        answers: B recognitions.
        truths: B class names, None where there is none.
    """
    count, number = views.shape[:2]
    figure = Figure(figsize=(1.05 * (number + 2), 1.08 * count), dpi=90)
    grid = figure.subplots(count, number + 1, squeeze=False)
    for row, (images, answer, truth) in enumerate(zip(views, answers, truths, strict=True)):
        label = grid[row, 0]
        known = "" if truth is None or truth == answer.label else f"\n(it is a {truth})"
        label.text(
            1, 0.5, f"{answer.label} {answer.score:.0%}{known}", color=_colour(answer, truth), ha="right", va="center"
        )
        for cell, image in zip(grid[row, 1:], images, strict=True):
            cell.imshow(image, cmap="gray", vmin=0, vmax=1)
        for cell in grid[row]:
            cell.set_axis_off()
    figure.subplots_adjust(wspace=0.04, hspace=0.04, left=0.02, right=0.995, top=0.995, bottom=0.005)
    figure.savefig(path)


def _colour(answer: Recognition, truth: str | None) -> str:
    return PLAIN if truth is None else RIGHT if answer.label == truth else WRONG
