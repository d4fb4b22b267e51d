"""Results are written whole or not at all."""

import pytest

from clipoint3d_ros.evaluation.files import write_whole


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "deep" / "page.html"
    write_whole(path, "≥ before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half of it \ud800")
    assert path.read_text(encoding="utf-8") == "≥ before"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
