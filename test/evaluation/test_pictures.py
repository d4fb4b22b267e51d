"""Pictures of a scene."""

import numpy as np
from labelled import tabletop

from clipoint3d_ros.evaluation import pictures
from clipoint3d_ros.recognition.recognition import Recognition


def square(row, column, size=10):
    mask = np.zeros((480, 640), bool)
    mask[row : row + size, column : column + size] = True
    return mask


def test_labels_hide_no_others_and_stay_where_there_is_room():
    outlines = {2: square(200, 300), 3: square(204, 310), 4: square(196, 290), 5: square(300, 30)}
    words = dict.fromkeys(outlines, "cereal box 97%")
    letter = 640 / 84
    places = pictures._apart(words, outlines, letter)
    assert places[5] == (34.5, 294)
    rows = sorted(places[key][1] for key in (2, 3, 4))
    assert np.diff(rows).min() >= 2.6 * letter - 1e-9, "they stand one above the other"
    assert max(rows) == 198, "the lowest object's stays"


def test_a_scene_is_drawn_even_where_an_object_is_not_seen(tmp_path):
    scene = tabletop("s", ["box", "can"])
    answer = Recognition.of(np.array([0.9, 0.1]), ("box", "can"))
    pictures.draw_scene(tmp_path / "s.png", scene, {2: answer, 3: answer, 9: answer})
    assert (tmp_path / "s.png").stat().st_size > 1000
