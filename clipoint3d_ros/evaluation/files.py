"""Results on disk, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a reader never sees half a file, and what was there stays where writing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Figures as JSON, whole or not at all, in a folder that is made where there is none.

    Raises:
        ValueError: a figure that is not finite, which JSON does not know; nothing is written.
    """
    write_whole(path, json.dumps(figures, indent=1, allow_nan=False) + "\n")
