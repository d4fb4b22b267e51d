"""The demo: a table, a picture of each scene and of its objects' ten views."""

import numpy as np
from PIL import Image

from clipoint3d_ros import cli


def test_the_demo_prints_a_table_and_writes_pictures(tmp_path, capsys):
    assert cli.main(["demo", "--scenes", "1", "--no-ros", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "recognised as" in printed
    assert "objects right" in printed
    for name in ("tabletop1.png", "tabletop1_views.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert pixels.shape[0] > 200
        assert pixels.std() > 10, f"{name} shows something"


def test_no_scenes_are_refused(capsys):
    assert cli.main(["demo", "--scenes", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err
