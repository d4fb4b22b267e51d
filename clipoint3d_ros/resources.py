"""Where the package's own files lie: configuration beside the checkout or the install, assets inside the package.

The same code runs from a source checkout, from a pip install and from a colcon install; this is the one place
that knows the difference. No ROS is imported.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "clipoint3d_ros"
_HERE = Path(__file__).resolve().parent

# Models among the assets; the first serves unless another is named.
EMBEDDED = ("clipoint3d-tiny", "clipoint3d-tiny-cad")


def config_dir() -> Path:
    """The folder of configuration files (`perception.yaml`, `classes/`): the checkout's, else the install's.

    Raises:
        FileNotFoundError: none of the places where it may lie exists.
    """
    places = list(dict.fromkeys(_config_places()))
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no config folder of {PACKAGE} in {', '.join(map(str, places))}; "
        "run from a checkout, install the package, or source the workspace it was built in"
    )


def config_file(name: str | Path) -> Path:
    """One file of the config folder, e.g. `classes/tabletop.yaml`.

    Raises:
        FileNotFoundError: there is no such file; the sentence names those there are.
    """
    folder = config_dir()
    file = folder / name
    if file.is_file():
        return file
    raise FileNotFoundError(f"no file '{name}' in {folder}; there are {_listing(folder)}")


def asset(name: str | Path) -> Path:
    """One file or folder shipped inside the package, e.g. `clipoint3d-tiny`.

    Raises:
        FileNotFoundError: it is not shipped; the sentence names those that are.
    """
    folder = _HERE / "assets"
    path = folder / name
    if path.exists():
        return path
    raise FileNotFoundError(f"no asset '{name}' in {folder}; there are {_listing(folder)}; reinstall {PACKAGE}")


def _config_places() -> Iterator[Path]:
    # A site-packages folder may hold somebody else's `config`; only a checkout has package.xml beside it.
    if (_HERE.parent / "package.xml").is_file():
        yield _HERE.parent / "config"
    for prefix in _prefixes():
        yield prefix / "share" / PACKAGE / "config"


def _prefixes() -> Iterator[Path]:
    """Where an install may have put its share folder, those that belong to this very code first."""
    # site-packages itself (`pip install --target`), or what lib/pythonX.Y/site-packages lies in: the environment,
    # ~/.local of a user's install, /usr/local of Debian's root, a colcon install.
    yield from _HERE.parents[:4]
    yield Path(sys.prefix)
    yield Path(sysconfig.get_path("data"))
    yield Path(site.getuserbase())
    yield from map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)))


def _listing(folder: Path) -> str:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ", ".join(files) or "none"
