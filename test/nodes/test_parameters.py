"""Parameters from dataclass fields: one place for names, limits and words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from clipoint3d_ros.nodes.parameters import (
    ParameterError,
    annotated_yaml,
    build,
    changed,
    constraints,
    misspelt,
    parameter,
    ros_value,
    table,
)


@dataclass(frozen=True)
class Made:
    rate: float = parameter(2.0, "how often", unit="Hz", low=0, high=10)
    count: int = parameter(3, "how many", low=1, high=5)
    form: str = parameter("auto", "which", choices=("auto", "fixed"), live=False)
    names: tuple[str, ...] = parameter((), "names")
    up: tuple[float, ...] = parameter((0.0, 0.0, 1.0), "direction", length=(0, 3))
    ids: tuple[int, ...] = parameter((0, 1), "ids")
    enabled: bool = parameter(True, "whether")


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("rate", 3, 3.0),
        ("rate", 10.0, 10.0),
        ("count", 5, 5),
        ("names", "", ()),
        ("names", [""], ()),
        ("names", "mug", ("mug",)),
        ("names", "mug, tin can", ("mug", "tin can")),
        ("names", ["a", "b"], ("a", "b")),
        ("names", [], ()),
        ("up", [0, 1, 0], (0.0, 1.0, 0.0)),
        ("up", [], ()),
        ("up", "", ()),
        ("ids", [], ()),
        ("ids", None, ()),
        ("ids", 7, (7,)),
        ("enabled", False, False),
    ],
)
def test_what_a_person_writes_is_understood(name, raw, value):
    assert getattr(build(Made, {name: raw}), name) == value


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("rate", 11.0, "'rate' is 11.0; it must be 0 to 10"),
        ("rate", float("nan"), "must be 0 to 10"),
        ("rate", "fast", "must be a number"),
        ("rate", True, "must be a number"),
        ("rate", None, "must be a number"),
        ("count", 2.5, "a whole number"),
        ("count", True, "a whole number"),
        ("form", "other", "one of auto, fixed"),
        ("names", [1], "a list, each text"),
        ("up", [0.0, 1.0], "has 2 elements, but it takes 0 or 3"),
        ("up", [0.0, float("inf"), 1.0], "finite"),
        ("ids", "a", "whole number"),
        ("enabled", 1, "true or false"),
        ("nothing", 1, "no parameter 'nothing'; there are rate,"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(name, raw, words):
    with pytest.raises(ParameterError, match=words):
        build(Made, {name: raw})


def test_a_field_that_is_not_live_changes_only_while_unconfigured():
    made = Made()
    assert changed(made, {"form": "fixed"}, configured=False).form == "fixed"
    assert changed(made, {"form": "auto", "count": 4}, configured=True).count == 4
    with pytest.raises(ParameterError, match="clean it up"):
        changed(made, {"form": "fixed"}, configured=True)


def test_a_parameter_is_never_removed():
    with pytest.raises(ParameterError, match="cannot be removed"):
        changed(Made(), {"ids": None}, configured=True)


def test_a_misspelt_name_is_told_with_the_nearest_and_those_of_other_nodes_are_not():
    others = ["use_sim_time", "qos_overrides./a.publisher.depth", "device"]
    assert misspelt(Made, ["rate", "cuont", *others]) == [
        "there is no parameter 'cuont', its value is ignored; did you mean 'count'?"
    ]


def test_no_names_are_an_empty_text_for_ros():
    assert ros_value(()) == ""
    assert ros_value((0, 1)) == [0, 1]
    assert ros_value(0.5) == 0.5


def test_the_table_has_a_row_a_parameter():
    rows = table(Made).splitlines()
    assert len(rows) == 2 + 7
    assert "| `rate` | double | `2.0` | Hz | 0 to 10 | yes | how often |" in rows
    assert r"auto \| fixed" in rows[4]
    assert "at configure" in rows[4]


def test_the_yaml_is_what_a_node_reads_back():
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(annotated_yaml(Made, "made"))["/**"]["ros__parameters"]
    assert build(Made, read) == Made()


def test_what_is_left_open_stands_in_the_file_as_a_comment():
    yaml = pytest.importorskip("yaml")

    @dataclass(frozen=True)
    class Open:
        known: bool = parameter(False, "whether it is known")
        open: bool = parameter(False, "whether it is open", left_open=True)

    text = annotated_yaml(Open, "open")
    assert text.splitlines()[-1] == "    # open: false"
    assert yaml.safe_load(text)["/**"]["ros__parameters"] == {"known": False}


def test_constraints_tell_range_and_moment():
    fields = Made.__dataclass_fields__
    assert constraints(fields["form"]) == "auto | fixed; takes effect at the next configure"
    assert constraints(fields["rate"]) == "0 to 10"
