"""Results are written whole or not at all."""

import json

import pytest

from clipoint3d_ros.evaluation.files import write_json, write_whole


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "deep" / "page.html"
    write_whole(path, "≥ before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half of it \ud800")
    assert path.read_text(encoding="utf-8") == "≥ before"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_figures_that_json_does_not_know_leave_the_ones_before(tmp_path):
    path = tmp_path / "deep" / "figures.json"
    write_json(path, {"p50_ms": 3.5, "p99_ms": None})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"p50_ms": float("nan")})
    assert json.loads(path.read_text()) == {"p50_ms": 3.5, "p99_ms": None}
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]
