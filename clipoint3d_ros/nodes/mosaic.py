"""The depth views of every object as one picture: a row each, captioned with label and score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipoint3d_ros.nodes.captions import caption, colour
from clipoint3d_ros.recognition.recognition import Recognition

TILE = 96  # pixels a view
CAPTION = 120  # pixels of text before the views
MAX_ROWS = 40  # an image message of a few megabytes at most


def mosaic(images: np.ndarray, weights: np.ndarray, recognitions: Sequence[Recognition]) -> np.ndarray:
    """A picture of the views.

    Args:
        images: (B, V, H, W) in [0, 1], background 1.
        weights: (B, V); views of weight 0 had no say and are drawn pale.
        recognitions: B answers.

    Returns:
        (rows · TILE, CAPTION + V · TILE, 3) uint8 RGB; one caption's row in height where there are no objects.
    """
    shown = min(len(recognitions), MAX_ROWS)
    views = images.shape[1] if shown else 0
    picture = Image.new("RGB", (CAPTION + max(views, 1) * TILE, max(shown, 1) * TILE), "white")
    pen = ImageDraw.Draw(picture)
    for row, recognition in enumerate(recognitions[:shown]):
        picture.paste(_strip(images[row], weights[row]), (CAPTION, row * TILE))
        _write(pen, row * TILE, recognition)
    if not shown:
        pen.text((8, TILE // 2 - 6), "no objects", fill="black")
    return np.asarray(picture)


def _strip(views: np.ndarray, weights: np.ndarray) -> Image.Image:
    """(V, H, W) side by side as one grey strip of V tiles."""
    pale = np.where(weights > 0, 1.0, 0.3)[:, None, None]
    grey = 1 - (1 - np.asarray(views, np.float32)) * pale
    side = np.concatenate(list(np.clip(grey * 255, 0, 255).astype(np.uint8)), 1)
    return Image.fromarray(side).resize((len(views) * TILE, TILE), Image.Resampling.BILINEAR).convert("RGB")


def _write(pen: ImageDraw.ImageDraw, top: int, recognition: Recognition) -> None:
    red, green, blue = (int(255 * part) for part in colour(recognition.label))
    pen.rectangle((0, top + 2, 6, top + TILE - 3), fill=(red, green, blue))
    words = caption(recognition).replace(" ", "\n", 1) if " " in caption(recognition) else caption(recognition)
    pen.multiline_text((12, top + TILE // 2 - 14), words, fill="black", font=ImageFont.load_default())
