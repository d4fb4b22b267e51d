"""Settings for every method by the same rule: all of a small grid, on simulated streams that the table does not show.

The scenes are of another seed than the table's, the real ones are never looked at, and what counts is the mean gain in
macro accuracy over tuning streams and starts; of equal gains the published settings win.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from clipoint3d_ros.evaluation.metrics import macro_accuracy
from clipoint3d_ros.evaluation.streams import harness
from clipoint3d_ros.evaluation.streams.harness import Cell, Plan
from clipoint3d_ros.evaluation.streams.methods import FROZEN, Method, find_methods
from clipoint3d_ros.evaluation.streams.pools import Sizes
from clipoint3d_ros.evaluation.streams.rows import Scored, scored

STREAMS = ("iid", "dirichlet", "classes", "corruption")
SEED = 1000  # of the simulated scenes; the table's is 0
KNOWN = 320  # objects at most
GRADIENT_KNOWN = 160  # likewise, for methods that run the vision tower


@dataclass(frozen=True)
class Tried:
    """The best configuration of a method, its mean gain in macro accuracy, that of the published one, and how many
    were tried."""

    config: Any
    gain: float
    published: float
    count: int

    def told(self) -> str:
        return f"{100 * self.gain:+.2f} points, published {100 * self.published:+.2f}, best of {self.count}"


def tune(plan: Plan) -> dict[str, Tried]:
    """The best of each method's grid; methods without one are left out."""
    methods = [method for method in find_methods(",".join(plan.methods)) if method.grid]
    found = {}
    for method in tqdm(methods, desc="tuning", unit="method"):
        own = _tuning_plan(plan, method)
        gains = {config: gain(replace(own, settings=((method.name, config),)), method) for config in grid(method)}
        best = max(gains, key=lambda config: gains[config])  # the first of equals, which is the published one
        found[method.name] = Tried(best, gains[best], gains[method.config], len(gains))
    return found


def grid(method: Method) -> Iterator[Any]:
    """The published configuration, then all other combinations of the grid."""
    yield method.config
    for values in product(*method.grid.values()):
        config = replace(method.config, **dict(zip(method.grid, values, strict=True)))
        if config != method.config:
            yield config


def gain(plan: Plan, method: Method) -> float:
    """Mean gain in macro accuracy over a plan's streams, starts and seeds."""
    cells = [
        Cell(stream, start, name, seed)
        for stream in plan.streams
        for start in plan.starts
        for name in (FROZEN, method.name)
        for seed in plan.seeds
    ]
    runs = {cell: scored(run) for cell, run in harness.run_all(plan, cells).items()}
    own = {cell: seen for cell, seen in runs.items() if cell.method == method.name}
    return float(np.mean([_macro(seen) - _macro(runs[replace(cell, method=FROZEN)]) for cell, seen in own.items()]))


def _macro(seen: Scored) -> float:
    return macro_accuracy(seen.truth, seen.predicted, int(seen.truth.max(initial=0)) + 1)


def write_settings(path: Path, tried: Mapping[str, Tried]) -> None:
    """Settings as `load_settings` reads them, with the gains that chose them as a comment; the file is whole or not
    there."""
    head = [
        "# Settings of the methods of `benchmark streams`, chosen by its --tune on simulated streams of other scenes",
        f"# than the table's ({', '.join(STREAMS)}): the best mean gain in macro accuracy over frozen.",
        *(f"# {name}: {found.told()}" for name, found in tried.items()),
    ]
    content = yaml.safe_dump({name: asdict(found.config) for name, found in tried.items()}, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_text("\n".join(head) + "\n" + content)
    beside.replace(path)


def _tuning_plan(plan: Plan, method: Method) -> Plan:
    known = min(plan.sizes.known, GRADIENT_KNOWN if method.gradient else KNOWN)
    each = max(min(plan.sizes.each, known // 16), 1)
    sizes = Sizes(
        known=known,
        unknown=1,
        each=each,
        worn=1,
        probe=1,
        resolution=plan.sizes.resolution,
        seed=plan.sizes.seed + SEED,
    )
    return replace(plan, streams=STREAMS, seeds=plan.seeds[:1], sizes=sizes, scenes=None, settings=())
