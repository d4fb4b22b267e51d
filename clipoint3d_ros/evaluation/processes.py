"""Work shared by processes, each with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_processes(
    work: Callable[[Item], Found],
    items: Sequence[Item],
    jobs: int,
    kept_in: Path,
    told: Callable[[], object] = lambda: None,
) -> dict[Item, Found]:
    """What `work` finds for every item, in the items' order.

    Args:
        work: picklable; keeps what it finds on disk, so that a second run goes on.
        items: hashable and picklable.
        jobs: processes; 1 works in this one.
        kept_in: where `work` keeps it, for the error's sentence.
        told: called after each item.

    Raises:
        ChildProcessError: a process was killed.
    """
    found: dict[Item, Found] = {}
    if jobs <= 1:
        for item in items:
            found[item] = work(item)
            told()
        return found
    threads = max((os.cpu_count() or 1) // jobs, 1)
    # Spawned, not forked: open3d's and torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_threads, initargs=(threads,)) as pool:
        waiting = {pool.submit(work, item): item for item in items}
        try:
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                told()
        except BrokenProcessPool:
            raise ChildProcessError(
                f"one of {jobs} processes died, most likely for lack of memory; what is finished is kept in "
                f"{kept_in}, so run it again with fewer --jobs"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else the failure shows after all other items
            raise
    return {item: found[item] for item in items}


def _threads(count: int) -> None:
    torch.set_num_threads(count)
