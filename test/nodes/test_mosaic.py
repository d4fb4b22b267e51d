"""Captions, colours and the picture of the views."""

from __future__ import annotations

import numpy as np
import pytest

from clipoint3d_ros.nodes.captions import GREY, caption, colour
from clipoint3d_ros.nodes.mosaic import CAPTION, MAX_ROWS, TILE, mosaic
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition


def answer(label="mug", score=0.87):
    return Recognition(label, score, np.array([0.87, 0.13]), 0.4, ("mug", "box"))


def test_captions_are_read_at_a_glance():
    assert caption(answer()) == "mug 87 %"
    assert caption(answer(UNKNOWN)) == "unknown"


def test_a_class_keeps_its_colour_and_unknown_is_grey():
    names = ["box", "can", "tin", "book", "pot", "bowl", "mug", "carton"]
    assert colour("mug") == colour("mug")
    assert len({colour(name) for name in names}) == len(names)
    assert colour(UNKNOWN) == GREY
    assert all(0 <= part <= 1 for name in names for part in colour(name))


@pytest.mark.parametrize("count", [1, 3, MAX_ROWS + 5])
def test_a_row_an_object_with_its_views_in_place(count):
    images = np.ones((count, 10, 32, 32), np.float32)
    images[0, 2] = 0
    picture = mosaic(images, np.ones((count, 10)), [answer()] * count)
    assert picture.shape == (min(count, MAX_ROWS) * TILE, CAPTION + 10 * TILE, 3)
    assert picture.dtype == np.uint8
    left = CAPTION + 2 * TILE
    assert picture[20:70, left + 10 : left + 80].max() < 10, "the dark view is not where it should be"
    assert picture[20:70, left + TILE + 10 :].min() > 245


def test_a_view_without_a_say_is_pale():
    weights = np.ones((1, 2))
    weights[0, 1] = 0
    picture = mosaic(np.zeros((1, 2, 32, 32)), weights, [answer()])
    assert picture[48, CAPTION + TILE // 2].max() < 10
    assert picture[48, CAPTION + TILE + TILE // 2].min() > 150


def test_no_objects_is_a_picture_too():
    assert mosaic(np.empty((0, 10, 32, 32)), np.empty((0, 10)), []).shape == (TILE, CAPTION + TILE, 3)
