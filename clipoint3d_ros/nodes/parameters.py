"""ROS parameters from dataclass fields: name, default, unit, range and description live in one place.

A node's parameters are a frozen dataclass whose fields are made by `parameter`. From it come the declarations with
their descriptors, the check of every value (at start and live), the table of the documentation and the annotated
YAML file. Parameters are declared with dynamic typing and typed here, because ROS's own typing refuses `1` where
`1.0` is meant and a name where a list of names is.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

Config = TypeVar("Config")


class ParameterError(ValueError):
    """A parameter's value that cannot be used; the message names it, its limits and the way out."""


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    length: Sequence[int] = (),
    live: bool = True,
    left_open: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter.

    Args:
        default: bool, int, float, str, or a tuple of int, float or str; its type is the parameter's. A tuple of
            strings also takes one string (split at commas; "" is none), a float also takes a whole number.
        description: one sentence.
        unit: of the value, "" for none.
        low, high: smallest and largest number allowed, for each element of a tuple.
        choices: the words allowed.
        length: how many elements a tuple may have, () for any.
        live: whether a change takes effect while the node is configured; otherwise it needs a clean-up first.
        left_open: whether files of defaults name it in a comment only, so that what starts the node may decide.
    """
    notes = {
        "description": description,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": tuple(choices),
        "length": tuple(length),
        "live": live,
        "left_open": left_open,
    }
    return dataclasses.field(default=default, metadata=notes)


def coerced(field: dataclasses.Field[Any], value: Any) -> Any:
    """A raw ROS value as the field's type, within its limits.

    Raises:
        ParameterError: wrong type, out of range, not among the choices, or of the wrong length.
    """
    if isinstance(field.default, tuple):
        elements = [_single(field, _element(field), each) for each in _elements(field, value)]
        length = field.metadata["length"]
        if length and len(elements) not in length:
            numbers = " or ".join(map(str, length))
            raise ParameterError(f"'{field.name}' has {len(elements)} elements, but it takes {numbers}")
        return tuple(elements)
    return _single(field, type(field.default), value)


def build(config: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration of raw values, defaults for those not given.

    Raises:
        ParameterError: the first value that cannot be used, or a name that is no parameter.
    """
    fields = _fields(config)
    for name in values:
        if name not in fields:
            raise ParameterError(f"there is no parameter '{name}'; there are {', '.join(fields)}")
    return config(**{name: coerced(fields[name], value) for name, value in values.items()})


def changed(config: Config, values: Mapping[str, Any], configured: bool) -> Config:
    """The configuration after a live change; its own `check()`, where it has one, has the last word.

    Raises:
        ParameterError: a bad value, or a field that is not live while the node is configured.
    """
    fields = _fields(type(config))
    for name, value in values.items():
        field = fields.get(name)
        if value is None:
            raise ParameterError(f"'{name}' cannot be removed; set it to a value")
        if field is None or field.metadata["live"] or not configured:
            continue
        if coerced(field, value) != getattr(config, name):
            raise ParameterError(
                f"'{name}' cannot change while the node is configured; deactivate it, clean it up, set it, configure it"
            )
    current = {name: getattr(config, name) for name in fields}
    result = build(type(config), current | dict(values))
    getattr(result, "check", lambda: None)()
    return result


def declare(node: Any, config: type[Config]) -> Config:
    """Declare every field on a node and return the configuration its overrides make, not yet checked as a whole.

    Raises:
        ParameterError: an override of the wrong type or out of range.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import ParameterException

    values = {}
    for name, field in _fields(config).items():
        descriptor = ParameterDescriptor(
            name=name,
            description=described(field),
            additional_constraints=constraints(field),
            dynamic_typing=True,
        )
        low, high = field.metadata["low"], field.metadata["high"]
        if low is not None and isinstance(field.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif low is not None and not isinstance(field.default, tuple):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        try:
            values[name] = node.declare_parameter(name, ros_value(field.default), descriptor).value
        except ParameterException as error:
            raise ParameterError(str(error)) from None
    return build(config, values)


def misspelt(config: type[Config], names: Collection[str]) -> list[str]:
    """A sentence each for names given at start that are nearly a parameter's, of which ROS itself says nothing.

    Others are passed over: a file's `/**` speaks to every node, and most nodes lack some of its names.
    """
    fields = list(_fields(config))
    near = {name: difflib.get_close_matches(name, fields, n=1, cutoff=0.8) for name in names if name not in fields}
    return [
        f"there is no parameter '{name}', its value is ignored; did you mean '{meant}'?"
        for name, found in near.items()
        for meant in found
    ]


def ros_value(value: Any) -> Any:
    """A field's value as ROS holds it; no names are "", because ROS does not know an empty list's type."""
    if isinstance(value, tuple):
        return list(value) or ""
    return value


def described(field: dataclasses.Field[Any]) -> str:
    """Description with its unit, for the descriptor."""
    unit = field.metadata["unit"]
    return f"{field.metadata['description']} [{unit}]" if unit else field.metadata["description"]


def constraints(field: dataclasses.Field[Any]) -> str:
    """Range, choices and whether it is live, in words."""
    words = [limits(field)] if limits(field) else []
    if not field.metadata["live"]:
        words.append("takes effect at the next configure")
    return "; ".join(words)


def limits(field: dataclasses.Field[Any]) -> str:
    """The allowed values in words; "" where anything of the type goes."""
    notes = field.metadata
    if notes["choices"]:
        return " | ".join(notes["choices"])
    words = f"{notes['low']:.15g} to {notes['high']:.15g}" if notes["low"] is not None else ""
    if notes["length"]:
        words = f"{' or '.join(map(str, notes['length']))} numbers" + (f", each {words}" if words else "")
    return words


def type_name(field: dataclasses.Field[Any]) -> str:
    """The parameter's type as ROS names it: bool, integer, double, string, or an array of one of these."""
    names = {bool: "bool", int: "integer", float: "double", str: "string"}
    if isinstance(field.default, tuple):
        return f"{names[_element(field)]}[]"
    return names[type(field.default)]


def table(config: type[Any]) -> str:
    """The documentation's table of parameters, in Markdown."""
    rows = ["| parameter | type | default | unit | allowed | live | meaning |", "|---|---|---|---|---|---|---|"]
    for name, field in _fields(config).items():
        notes = field.metadata
        allowed = limits(field).replace("|", "\\|")
        live = "yes" if notes["live"] else "at configure"
        default = _yaml(field.default)
        cells = (f"`{name}`", type_name(field), f"`{default}`", notes["unit"], allowed, live, notes["description"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def annotated_yaml(config: type[Any], heading: str, node: str = "", own: Collection[str] = ()) -> str:
    """A ROS parameter file with every default, its meaning, unit and range as comments; what is left open is one, too.

    Args:
        config: the node's. heading: a comment at the top.
        node: its name. own: parameters that another node has as well, in another sense: they are given to nodes of that
            name alone, the others to whoever reads the file.
    """
    lines = [f"# {line}" for line in heading.splitlines()]
    fields = _fields(config)
    sections = {"/**": [name for name in fields if name not in own], f"/**/{node}": [n for n in fields if n in own]}
    for section, names in sections.items():
        lines += [f"{section}:", "  ros__parameters:"] if names else []
        for name in names:
            lines += _annotated(name, fields[name])
    return "\n".join(lines) + "\n"


def _annotated(name: str, field: dataclasses.Field[Any]) -> list[str]:
    notes = [f"unit: {field.metadata['unit'] or 'none'}"]
    notes += [note for note in (constraints(field),) if note]
    lines = []
    for note in (field.metadata["description"], "; ".join(notes)):
        lines += textwrap.wrap(note, 110, initial_indent="    # ", subsequent_indent="    # ")
    return [*lines, f"    {'# ' if field.metadata['left_open'] else ''}{name}: {_yaml(field.default)}"]


def _fields(config: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """By name; a configuration's own come before those it has from another."""
    every = {field.name: field for field in dataclasses.fields(config)}
    named = (name for kind in config.__mro__ for name in inspect.get_annotations(kind))
    return {name: every[name] for name in named if name in every}


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]" if value else '""'
    return f'"{value}"' if isinstance(value, str) else str(value)  # quoted, or YAML makes true of "on"


def _element(field: dataclasses.Field[Any]) -> type:
    elements: tuple[Any, ...] = field.default  # type: ignore[assignment]  # a field of ours always has a default
    return type(elements[0]) if elements else str


def _elements(field: dataclasses.Field[Any], value: Any) -> list[Any]:
    if isinstance(value, str):
        words = [word.strip() for word in value.split(",")]
        if _element(field) is str:
            return [word for word in words if word]
        if not any(words):
            return []
    if value is None:
        return []  # what ROS makes of `[]` in a parameter file
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return [value]
    return [each for each in value if each != ""]


def _single(field: dataclasses.Field[Any], kind: type[Any], value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        many = "a list, each " if isinstance(field.default, tuple) else ""
        raise ParameterError(f"'{field.name}' is {value!r}; it must be {many}{names[kind]}")
    low, high = field.metadata["low"], field.metadata["high"]
    if low is not None and not low <= value <= high:  # false for NaN as well
        raise ParameterError(f"'{field.name}' is {value!r}; it must be {low:.15g} to {high:.15g}")
    if kind is float and not math.isfinite(value):
        raise ParameterError(f"'{field.name}' is {value!r}; it must be a finite number")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ParameterError(f"'{field.name}' is '{value}'; it must be one of {', '.join(choices)}")
    return value
