"""The table as text and as a picture."""

import pytest

from clipoint3d_ros.evaluation.adaptation.tables import markdown, plot, summary


def row(method, views="ten", protocol="learn*", **more):
    return {
        "protocol": protocol,
        "start": "small",
        "method": method,
        "views": views,
        "policy": "entropy",
        "seeds": [0, 1],
        "objects": 30,
        "scenes": 7,
        "accuracy": 0.5,
        "accuracy_ci95": [0.4, 0.6],
        "macro_accuracy": 0.625,
        "macro_std": 0.013,
        "macro_ci95": [0.55, 0.7],
        "gain": 0.0456,
        "gain_ci95": [-0.012, 0.1],
        "gain_base": "LoRA only",
        "over_frozen": None,
        "over_frozen_ci95": None,
        "over_frozen_base": None,
        **more,
    }


@pytest.fixture
def figures():
    names = ("zero-shot", "LoRA only", "CLIPoint3D-B")
    found = [row(name, views, p) for p in ("learn*", "other") for views in ("ten", "sensor") for name in names]
    found[0]["seeds"] = [0]
    views = [{**row("CLIPoint3D-B"), "policy": policy} for policy in ("entropy", "first-1", "first-10")]
    return {"rows": found, "views": views}


def test_the_summary_has_a_line_for_every_row(figures):
    blocks = summary(figures).split("\n\n")
    assert len(blocks) == 5
    assert blocks[0].startswith("small, ten views; adapted on learn*: 30 objects in 7 scenes\n")
    assert [len(block.splitlines()) for block in blocks] == [2 + 3] * 5
    assert "gain over LoRA only" in blocks[0].splitlines()[1]
    zero_shot, base, ours = blocks[0].splitlines()[2:]
    assert "62.5 % (55.0–70.0)" in zero_shot
    assert "±" not in zero_shot, "one seed has no spread"
    assert "± 1.3" in ours
    assert "+4.6 (-1.2 to +10.0)" in ours
    assert "+4.6" not in base, "no gain over itself"
    assert "CLIPoint3D-B by its views" in blocks[4].splitlines()[0]
    assert [line.split()[0] for line in blocks[4].splitlines()[2:]] == ["entropy", "first-1", "first-10"]


def test_the_markdown_has_a_line_for_every_row(figures):
    lines = [line for line in markdown(figures).splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    assert len(lines) == 5 * (2 + 3)
    assert {line.count("|") for line in lines[: 4 * 5]} == {7}
    assert sum(line.startswith("| CLIPoint3D-B |") for line in lines) == 4


def test_without_a_source_only_row_the_column_says_so(figures):
    bare = [row("zero-shot", gain=None, gain_ci95=None, gain_base=None)]
    assert "gain over source only" in summary({"rows": bare})


@pytest.mark.parametrize(("name", "start"), [("t.png", b"\x89PNG"), ("t.svg", b"<?xml")])
def test_the_plot_is_a_picture_of_the_kind_its_name_says(tmp_path, name, start):
    path = tmp_path / "new" / name
    plot({"rows": [row("zero-shot"), row("CLIPoint3D-B"), row("zero-shot", "sensor")]}, path)
    assert path.read_bytes().startswith(start)


def test_a_mean_that_rounding_puts_beside_its_interval_is_drawn(tmp_path):
    third = 1 / 3
    beside = [row("zero-shot", macro_accuracy=third, macro_ci95=[third + 1e-16, third + 1e-16])]
    plot({"rows": beside}, tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 1000
