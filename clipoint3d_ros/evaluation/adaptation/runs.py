"""All cells of a table, in parallel, each kept on disk: a killed benchmark goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from clipoint3d_ros.adaptation.config import Recipe
from clipoint3d_ros.evaluation.adaptation.looking import Looks
from clipoint3d_ros.evaluation.adaptation.methods import Method, Task, find
from clipoint3d_ros.evaluation.adaptation.protocol import Protocol
from clipoint3d_ros.evaluation.processes import in_processes
from clipoint3d_ros.pretraining.config import fingerprint

FORMAT = 4  # of the results on disk; a change of what a method does makes old ones unused


@dataclass(frozen=True)
class Start:
    """A backbone to start from, as `load_backbone` takes it."""

    name: str
    pretrained: str | None = None

    @property
    def title(self) -> str:
        return f"{self.name} {self.pretrained}" if self.pretrained else self.name


@dataclass(frozen=True)
class Cell:
    """One method from one start with one seed; `protocol` is its number in the table."""

    protocol: int
    start: Start
    method: str
    seed: int

    def of(self, method: Method, plan: Plan) -> Cell:
        """The cell that holds what `method` says here: the first seed's or start's where these change nothing."""
        seed = self.seed if method.seeded else plan.seeds[0]
        return Cell(self.protocol, self.start if method.clip else plan.starts[0], method.name, seed)


@dataclass(frozen=True)
class Plan:
    """A whole table. make: gives its protocols; called in each process, for they hold all clouds.

    make must be picklable. cache: a folder for results. device: where it runs.
    """

    make: Callable[[], Sequence[Protocol]]
    starts: tuple[Start, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Recipe
    cache: Path
    device: str | None = None

    def cells(self, protocols: int) -> list[Cell]:
        """What is to be computed; a method that no seed or no start changes once only."""
        chosen = find(",".join(self.methods))
        return [
            Cell(protocol, start, method.name, seed)
            for seed in self.seeds
            for protocol in range(protocols)
            for start in self.starts
            for method in chosen
            if (method.seeded or seed == self.seeds[0]) and (method.clip or start == self.starts[0])
        ]


def run_all(plan: Plan, jobs: int, told: Callable[[], object] = lambda: None) -> dict[Cell, Looks]:
    """Every cell's looks.

    Args:
        plan: the table.
        jobs: processes, each with its share of the cores; 1 works in this one.
        told: called after each cell.

    Raises:
        ChildProcessError: a process was killed.
    """
    cells = plan.cells(len(protocols_of(plan)))
    return in_processes(partial(run_cell, plan), cells, jobs, plan.cache, told)


def run_cell(plan: Plan, cell: Cell) -> Looks:
    """One cell, from disk where it is there."""
    protocol, backbone = protocols_of(plan)[cell.protocol], _backbone(cell.start, plan.device)
    recipe = plan.recipe.seeded(cell.seed)
    method = find(cell.method)[0]
    own = backbone.checksum if method.clip else None
    path = plan.cache / f"{fingerprint(FORMAT, asdict(recipe), protocol.digest, own, cell.method)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return Looks(torch.from_numpy(stored["logits"]), torch.from_numpy(stored["facing"]))
    looks = method.run(Task(protocol, backbone, recipe))
    plan.cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part.npz")
    np.savez_compressed(beside, logits=looks.logits.numpy(), facing=looks.facing.numpy())
    beside.replace(path)
    return looks


def protocols_of(plan: Plan) -> Sequence[Protocol]:
    """The plan's protocols, read once in a process."""
    return _protocols(plan.make)


@lru_cache(maxsize=1)
def _protocols(make: Callable[[], Sequence[Protocol]]) -> Sequence[Protocol]:
    return make()


@lru_cache(maxsize=2)
def _backbone(start: Start, device: str | None):  # type: ignore[no-untyped-def]
    from clipoint3d_ros.clip.backbone import load_backbone

    return load_backbone(start.name, start.pretrained, device)
