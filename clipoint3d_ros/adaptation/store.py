"""Versioned bundles: the live ones in RAM, fewer on disk, and always one that loads.

    version-000012                 a bundle, whole
    .version-000012.<pid>.part     being written or being removed; nobody reads it, the next start clears it away
    .version-000012.previous       stands aside while its successor of the same version is written

A name without a dot appears and disappears by one rename. Whoever is killed in between leaves the bundles of before.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from clipoint3d_ros.clip.bundle import to_disk

_BUNDLE = re.compile(r"version-(\d{6,10})")
_ASIDE = re.compile(r"\.(version-\d{6,10})\.previous")
_ABANDONED_S = 3600.0  # seconds; a part this old is nobody's, though another process has its writer's number by now


class StoreError(OSError):
    """Bundles that could not be written, moved or removed; the message says where, why and what to do."""


class Store:
    """The bundles of one adapter. One process writes them; any may read.

    Args:
        live: folder of the live bundles, RAM-backed (`ram_folder`), so that one every few seconds wears nothing out.
        disk: folder of those that outlive the power; None keeps none.
        keep: newest bundles that stay in each folder.

    Attributes:
        without_disk: why there is no disk for now, in words; "" where there is one, or none is wanted. It is tried
            again whenever something is to be copied there.

    Raises:
        ValueError: keep below 1, or one folder for both.
        StoreError: the folder of live bundles cannot be made or read.
    """

    def __init__(self, live: Path, disk: Path | None, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least 1 bundle must stay")
        self._live = Path(live).resolve()
        self._disk = None if disk is None else Path(disk).resolve()
        if self._live == self._disk:
            raise ValueError(f"live and disk are both {live}; give two folders, or no disk")
        self._keep = keep
        self._lock = threading.Lock()
        _open(self._live)
        self.without_disk = ""
        with suppress(StoreError):
            self._open_disk()

    def put(self, version: int, write: Callable[[Path], object]) -> Path:
        """Write a live bundle, then let go of the oldest beyond `keep`.

        Args:
            version: 1 to 2³¹ − 1. One already there is replaced, and stays where the writing fails.
            write: writes a bundle at the path it is given, whole or not at all, as `clip.bundle.save_bundle` does.

        Returns:
            The bundle's folder.

        Raises:
            ValueError: a version outside the limits, or what `write` raises of its own.
            StoreError: it could not be written, as on a full disk; the bundles of before are still there.
        """
        if not 0 < version < 2**31:
            raise ValueError(f"version is {version}; versions are 1 to {2**31 - 1}")
        folder = self._live / f"version-{version:06d}"
        with self._lock:
            with _replacing(folder):
                write(folder)
                if not folder.is_dir():
                    raise FileNotFoundError("its writer ended without a folder there")
            self._prune(self._live, folder)
        return folder

    def persist(self) -> Path | None:
        """Copy the newest live bundle to disk, where it is not there yet, then let go of the oldest beyond `keep`.

        Returns:
            Its folder on disk; None without a disk or a live bundle.

        Raises:
            StoreError: it could not be copied; what was on disk is still there.
        """
        with self._lock:
            late = bool(self.without_disk)
            if late:
                self._open_disk()
            live = _bundles(self._live)
            if self._disk is None or not live:
                return None
            source = live[max(live)]
            folder = self._disk / source.name
            with _in_words(f"bundle {source} could not be compared with the one on disk", "check both folders"):
                there = _same(source, folder)
            if not there:
                with _replacing(folder):
                    part = _part(folder)
                    _copy(source, part)
                    part.rename(folder)
                self._prune(self._disk, folder)
            if late:
                self._leave_newer(self._disk, max(live))
            return folder

    def versions(self) -> list[int]:
        """All versions, live or on disk, lowest first; damaged ones among them."""
        return sorted({version for folder in self._folders() for version in _bundles(folder)})

    def latest(self, loadable: Callable[[Path], object]) -> Path | None:
        """The newest bundle that loads; of one version, the live one.

        Args:
            loadable: raises ValueError or OSError for a bundle that does not load, as `clip.bundle.read_meta` does.
        """
        found = [(v, place == self._live, path) for place in self._folders() for v, path in _bundles(place).items()]
        for _, _, path in sorted(found, reverse=True):
            with suppress(ValueError, OSError):
                loadable(path)
                return path
        return None

    def holds(self, bundle: str | Path) -> bool:
        """Whether a bundle lies, or lay, in one of its folders."""
        return Path(bundle).resolve().parent in (self._live, self._disk)

    def clear(self) -> None:
        """Remove all bundles, live and on disk: back to the frozen model.

        The newest goes last, so that a kill in between leaves the state of before, not one from further back.

        Raises:
            StoreError: a bundle that could not be removed, so the next start may find it.
        """
        with self._lock:
            if self.without_disk:
                with suppress(StoreError):
                    self._open_disk()
            for folder in self._folders():
                with _in_words(f"the bundles in {folder} could not all be removed", "remove them by hand"):
                    for _, path in sorted(_bundles(folder).items()):
                        _discard(path)
                        to_disk(folder)
            if self.without_disk and self._disk is not None and not absent(self._disk):
                raise StoreError(self.without_disk)

    def _folders(self) -> list[Path]:
        """Those that can be used now."""
        return [self._live] if self._disk is None or self.without_disk else [self._live, self._disk]

    def _open_disk(self) -> None:
        """Make the disk's folder ready, where it is not; raises StoreError where that cannot be."""
        if self._disk is None:
            return
        try:
            _open(self._disk)
        except StoreError as error:
            self.without_disk = str(error)
            raise
        self.without_disk = ""

    def _leave_newer(self, folder: Path, version: int) -> None:
        """Remove what an earlier run left where nobody could look when this one began: by its higher number it would
        pass for newer at the next start."""
        with _in_words(f"old bundles in {folder} could not be removed", "check its owner"):
            for number, path in sorted(_bundles(folder).items()):
                if number > version:
                    _discard(path)

    def _prune(self, folder: Path, newcomer: Path) -> None:
        """The newcomer stays even where damaged bundles of higher versions stand before it."""
        with _in_words(f"old bundles in {folder} could not be removed", "check its owner"):
            others = [path for _, path in sorted(_bundles(folder).items(), reverse=True) if path != newcomer]
            for path in others[self._keep - 1 :]:
                _discard(path)


def ram_folder(name: str) -> Path:
    """A folder of this user alone, in memory where the system has such a place.

    In XDG_RUNTIME_DIR or /dev/shm, where one can be written, else among the temporary files; made with mode 0700.

    Raises:
        ValueError: a name that is no plain file name.
        StoreError: the folder cannot be made, or belongs to someone else, who could put bundles there.
    """
    if not re.fullmatch(r"\w[\w.-]{0,63}", name, re.ASCII):
        raise ValueError(f"name is '{name}'; it must be up to 64 letters, digits, '_', '-' and '.', not led by a dot")
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    usable = (place for place in places if place.startswith("/") and os.access(place, os.R_OK | os.W_OK | os.X_OK))
    folder = Path(next(usable, tempfile.gettempdir())) / f"{name}-{os.getuid()}"
    with _in_words(f"no folder for live bundles at {folder}", "set XDG_RUNTIME_DIR to a folder of your own"):
        folder.mkdir(mode=0o700, exist_ok=True)
        made = folder.lstat()
        if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid():
            raise PermissionError(f"what is there is a link or belongs to user {made.st_uid}, not {os.getuid()}")
        if stat.S_IMODE(made.st_mode) != 0o700:
            folder.chmod(0o700)
    return folder


def clear_parts(folder: Path, start: str) -> None:
    """Remove what dead writers, or this process before, left as `<start>….<pid>.part` in a folder."""
    for path in folder.iterdir():
        written = re.search(r"\.(\d+)\.part$", path.name)
        if path.name.startswith(start) and written and _abandoned(path, int(written[1])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _abandoned(path: Path, pid: int) -> bool:
    try:
        if pid == os.getpid() or time.time() - path.lstat().st_mtime > _ABANDONED_S:
            return True
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError, FileNotFoundError):
        return True
    except PermissionError:  # alive, of another user
        return False
    return False


def absent(path: Path) -> bool:
    """Whether nothing is there; False where that cannot be told."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _open(folder: Path) -> None:
    """Make a folder of bundles, and set right what a killed writer left in it."""
    with _in_words(f"the bundles in {folder} cannot be opened", "check its owner, or name another folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _recover(folder)


def _bundles(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():  # a session that ends may take its user's RAM folders with it
        return {}
    named = ((_BUNDLE.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return {int(match[1]): path for match, path in named if match}


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.part")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _discard(folder: Path) -> None:
    """Out of sight by one rename, then removed: a kill leaves no half bundle under a bundle's name."""
    part = _part(folder)
    shutil.rmtree(part, ignore_errors=True)
    folder.rename(part)
    shutil.rmtree(part, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Finish what a killed writer began: bundles that stood aside return where no successor took their name."""
    for path in list(folder.iterdir()):
        named = _ASIDE.fullmatch(path.name)
        if named and (folder / named[1]).exists():
            shutil.rmtree(path, ignore_errors=True)
        elif named:
            path.rename(folder / named[1])
    clear_parts(folder, ".version-")


@contextmanager
def _replacing(folder: Path) -> Iterator[None]:
    """Lets a bundle be written at `folder`; the one that was there stands aside, and returns where that fails."""
    aside = _aside(folder)
    with _in_words(
        f"bundle {folder.name} could not be written to {folder.parent}",
        "the bundles before it are still there; free space, or name another folder",
    ):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        replaced = aside.exists()
        try:
            yield
            to_disk(folder.parent)
        except BaseException:
            shutil.rmtree(_part(folder), ignore_errors=True)
            if folder.exists() and aside.exists() == replaced:  # else the writer had finished, old one and all
                _discard(folder)
            if aside.exists():
                aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _in_words(what: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except (OSError, SafetensorError) as error:  # safetensors tells of a full disk in an error of its own
        raise StoreError(f"{what}: {error}; {way_out}") from error


def _copy(source: Path, target: Path) -> None:
    """Copy a folder and wait until it is on disk."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    paths = sorted(source.rglob("*"))  # a folder comes before what is in it
    copies = [target / path.relative_to(source) for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(path, copy)
    for copy in (*reversed(copies), target):
        to_disk(copy)


def _same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files with the same content."""
    files = [sorted(p.relative_to(top) for p in top.rglob("*") if not p.is_dir()) for top in (one, other)]
    if not other.is_dir() or files[0] != files[1]:
        return False
    return all((one / path).read_bytes() == (other / path).read_bytes() for path in files[0])
