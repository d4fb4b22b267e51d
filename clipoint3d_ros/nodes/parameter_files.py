"""ROS parameter files, read without ROS: what a node of a given name would take of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from clipoint3d_ros.nodes.parameters import ParameterError

_ANY = ("**", "*")
_PARAMETERS = "ros__parameters"


def read_parameters(path: str | Path, node: str, config: type[Any]) -> dict[str, Any]:
    """The raw values that a parameter file gives a node, whatever its namespace; later sections win, as in ROS.

    Args:
        path: YAML of sections such as `/**`, `/**/perception` or `perception`, each with `ros__parameters`.
        node: its name.
        config: its configuration, whose fields are the names it knows; others may be another node's and are left out.

    Raises:
        ParameterError: no such file, no parameter file, or a section of this node alone that names what it has not.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    values: dict[str, Any] = {}
    for section, given in _sections(Path(path)):
        last = section.rstrip("/").rpartition("/")[2]
        if last not in (*_ANY, node):
            continue
        strange = [name for name in given if name not in fields and not name.startswith(("use_sim_time", "qos_over"))]
        if last == node and strange:
            raise ParameterError(f"{path} gives {node} '{strange[0]}', which is none of its parameters")
        values |= {name: value for name, value in given.items() if name in fields}
    return values


def mentions(path: str | Path, name: str) -> bool:
    """Whether a parameter file gives any node a parameter of that name, however its sections are nested.

    False where there is no such file or no YAML in it, too: the node itself will say so.
    """
    try:
        read = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return False
    return _mentions(read, name)


def _mentions(section: Any, name: str) -> bool:
    if not isinstance(section, dict):
        return False
    given = section.get(_PARAMETERS)
    return (isinstance(given, dict) and name in given) or any(_mentions(each, name) for each in section.values())


def _sections(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        read = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ParameterError(f"cannot read the parameter file {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is no YAML file: {error}") from None
    sections = read if isinstance(read, dict) else {"": read}
    for name, section in sections.items():
        if not (isinstance(section, dict) and isinstance(section.get(_PARAMETERS), dict)):
            raise ParameterError(
                f"{path} is no parameter file of ROS: '{name}' should hold '{_PARAMETERS}:' and below it names with "
                "values; config/perception.yaml is one"
            )
    return [(str(name), section[_PARAMETERS]) for name, section in sections.items()]
