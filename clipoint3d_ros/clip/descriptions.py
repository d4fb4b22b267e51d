"""Class files: the names a robot should know, each with sentences about its shape (`config/classes/*.yaml`).

    template: "the depth map of a {class} 3D model which has {description}"
    classes:
      mug: [a round body open at the top, …]

A plain list of names works too; its classes are described by their names alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from clipoint3d_ros.resources import config_file

DEFAULT_CLASSES = "classes/tabletop.yaml"
TEMPLATE = "the depth map of a {class} 3D model which has {description}"
NAME_TEMPLATES = ("a depth map of a {class}", "a depth map of the {class}", "the depth map of a {class} 3D model")

_SUFFIXES = (".yaml", ".yml")
_LARGEST_FILE = 1 << 20  # bytes; a hostile file must not fill a robot's memory
_LONGEST = 300  # characters of a name or description
_MOST_CLASSES = 1000
_MOST_DESCRIPTIONS = 64
_RESERVED = "unknown"
_NOTHING = ("", "~", "null", "Null", "NULL")  # in place of descriptions


@dataclass(frozen=True)
class Descriptions:
    """What is to be told apart: names in order, and of each its descriptions (may be none)."""

    names: tuple[str, ...]
    descriptions: tuple[tuple[str, ...], ...]
    template: str = TEMPLATE

    def prompts(self, index: int) -> list[str]:
        """The sentences that stand for one class: its name in a few words, and its descriptions."""
        name = self.names[index]
        plain = [t.replace("{class}", name) for t in NAME_TEMPLATES]
        told = [self.template.replace("{class}", name).replace("{description}", d) for d in self.descriptions[index]]
        return plain + told


def read_classes(classes: str | Path | Sequence[str] | None) -> Descriptions:
    """Classes as a user names them: None for the tabletop ones, a class file's path, or names.

    Raises:
        FileNotFoundError, ValueError: as `load_descriptions` and `describe`.
    """
    if classes is None:
        return load_descriptions(config_file(DEFAULT_CLASSES))
    if isinstance(classes, str | Path):
        return load_descriptions(classes)
    return describe(classes)


def named_classes(words: str | Sequence[str] | None) -> str | list[str] | None:
    """Words in which a user gives classes, as `read_classes` takes them: None, one class file's path, or names.

    Names in one string are separated by commas. A word alone is a path where it ends as a class file does, has a slash,
    or is a file that is there.
    """
    if words is None:
        return None
    if isinstance(words, str):
        words = [words] if _is_file(words) else [word.strip() for word in words.split(",")]
    if len(words) == 1 and ("/" in words[0] or Path(words[0]).suffix.lower() in _SUFFIXES or _is_file(words[0])):
        return words[0]
    return list(words) or None


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # longer than any file's name
        return False


def load_descriptions(path: str | Path) -> Descriptions:
    """Read a class file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not of the layout above; the message names the entry.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no class file at {path}; give a YAML file with 'classes', or a list of names")
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"{path} does not end in {' or '.join(_SUFFIXES)}, as a class file does; rename it if it is one, or give "
            "the names themselves, separated by commas"
        )
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a class file has at most {_LARGEST_FILE}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Words)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or "classes" not in content:
        raise ValueError(f"{path} has no 'classes'; it must map each class to its descriptions")
    foreign = set(content) - {"classes", "template", "name"}
    if foreign:
        named = ", ".join(f"{key!r:.60}" for key in sorted(foreign)[:5])
        raise ValueError(f"{path} has unknown keys {named}; use name, template, classes")
    template = content.get("template", TEMPLATE)
    classes = content["classes"]
    if isinstance(classes, list):
        pairs = [(name, None) for name in classes]
    elif isinstance(classes, dict):
        pairs = list(classes.items())
    else:
        raise ValueError(f"'classes' of {path} must map names to descriptions, but it is {type(classes).__name__}")
    return _checked([n for n, _ in pairs], [_listed(n, v, path) for n, v in pairs], template, str(path))


def describe(names: Sequence[str]) -> Descriptions:
    """Classes known by their names alone.

    Raises:
        ValueError: no names, a name twice, or one that is empty, too long or reserved.
    """
    return _checked(list(names), [()] * len(names), TEMPLATE, "the list of classes")


def checked_descriptions(names: object, descriptions: object, template: object, where: str) -> Descriptions:
    """Descriptions from parts that a file holds, under the same limits as a class file's.

    Raises:
        ValueError: parts of another type or beyond the limits; the message says which of `where`.
    """
    if (
        not isinstance(names, list)
        or not isinstance(descriptions, list)
        or len(names) != len(descriptions)
        or not all(isinstance(told, list) and all(isinstance(d, str) for d in told) for told in descriptions)
    ):
        raise ValueError(f"{where} must list as many lists of descriptions as classes")
    return _checked(names, [tuple(told) for told in descriptions], template, where)


def shown(value: object) -> str:
    """A value of somebody else's file for a sentence."""
    try:
        return f"{value!r:.120}"
    except (RecursionError, ValueError):  # nested deeper than a sentence can say, or of too many digits
        return f"a {type(value).__name__}"


class _Words(yaml.BaseLoader):
    """Every scalar as the words that are written: no dates, no numbers of any base, no `yes` that means true.

    There are no tags, and no aliases, which a few lines of would make anything of a million entries. A key stands once:
    of two YAML would take the last, and drop the first one's descriptions.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._refuse(f"an alias '*{event.anchor:.60}'", event)
        if getattr(event, "tag", None) not in (None, "!"):
            self._refuse(f"the tag '{event.tag:.60}'", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        met = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in met:
                said = f"'{key.value:.60}' stands there twice; put all that is said of it under one"
                raise yaml.MarkedYAMLError(None, None, said, key.start_mark)
            met.add(key.value)
        return super().construct_mapping(node, deep)

    @staticmethod
    def _refuse(what: str, event: Any) -> NoReturn:
        raise yaml.MarkedYAMLError(None, None, f"{what} has no place in a class file", event.start_mark)


def _scalar(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a class is a name, but {shown(value)} is {type(value).__name__}")
    return str(value)


def _listed(name: str, value: object, path: Path) -> tuple[str, ...]:
    if value is None or (isinstance(value, str) and value in _NOTHING):
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(
            f"the descriptions of '{name:.60}' in {path} must be a list of sentences, but they are {shown(value)}"
        )
    return tuple(value)


def _checked(names: list, descriptions: list[tuple[str, ...]], template: object, where: str) -> Descriptions:
    if (
        not isinstance(template, str)
        or "{class}" not in template
        or "{description}" not in template
        or len(template) > _LONGEST
        or not _written(template)
    ):
        raise ValueError(
            f"'template' of {where} must hold {{class}} and {{description}} in at most {_LONGEST} printable "
            f"characters, but it is {shown(template)}"
        )
    if not 1 <= len(names) <= _MOST_CLASSES:
        raise ValueError(f"{where} has {len(names)} classes; there must be 1 to {_MOST_CLASSES}")
    texts = [_scalar(n).strip() for n in names]
    for text in texts:
        if not text or len(text) > _LONGEST or not text.isprintable():
            raise ValueError(f"{where} has a class name {text[:60]!r}; names are 1 to {_LONGEST} printable characters")
        if text.lower() == _RESERVED:
            raise ValueError(
                f"{where} names a class '{text}', which is kept for objects of no class; choose another name"
            )
    if len(set(texts)) != len(texts):
        raise ValueError(f"{where} names {', '.join(sorted({t for t in texts if texts.count(t) > 1}))} twice")
    for name, told in zip(texts, descriptions, strict=True):
        if len(told) > _MOST_DESCRIPTIONS or any(not _written(d) or len(d) > _LONGEST for d in told):
            raise ValueError(
                f"'{name}' of {where} takes at most {_MOST_DESCRIPTIONS} descriptions of 1 to {_LONGEST} printable "
                "characters"
            )
    return Descriptions(tuple(texts), tuple(descriptions), template)


def _written(text: str) -> bool:
    """Whether there is anything in a text, and nothing that is no character: half a surrogate cannot be encoded."""
    words = " ".join(text.split())
    return bool(words) and words.isprintable()
