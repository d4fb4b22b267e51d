"""Which bags a command's words mean: bags themselves, patterns, and folders of bags."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from clipoint3d_ros.evaluation.bags import BagError

_FILES = (".mcap", ".db3")


def recordings(words: Sequence[str | Path]) -> list[Path]:
    """The bags that the words name, in the order of the words, each once; those of one pattern or folder by name.

    Args:
        words: a bag (rosbag2 folder, .mcap or .db3 file), a folder that holds bags, or a pattern of such paths with
            `*`, `?`, `[…]` and `**`. A path that exists is never taken for a pattern.

    Returns:
        Paths as they were named; a path that is no bag is among them, for whoever reads it to say so.

    Raises:
        BagError: a pattern that no bag matches.
    """
    found: dict[Path, Path] = {}
    for word in map(str, words):
        named = _of(Path(word)) or [Path(word)]
        if not Path(word).exists() and glob.has_magic(word):
            named = [bag for path in sorted(glob.glob(word, recursive=True)) for bag in _of(Path(path))]
            if not named:
                raise BagError(
                    f"no bag matches '{word}'; a bag is a folder with metadata.yaml, or a .mcap or .db3 file"
                )
        for bag in named:
            found.setdefault(bag.resolve(), bag)
    return list(found.values())


def _of(path: Path) -> list[Path]:
    """The bags at a path: itself, or those that lie in it; none where it is neither."""
    if _is_bag(path):
        return [path]
    return [inside for inside in sorted(path.iterdir()) if _is_bag(inside)] if path.is_dir() else []


def _is_bag(path: Path) -> bool:
    return (path / "metadata.yaml").is_file() or (path.suffix in _FILES and path.is_file())
