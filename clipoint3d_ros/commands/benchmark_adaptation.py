"""`clipoint3d benchmark scenes | pointda | graspnet`: the table of adaptation methods."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipoint3d_ros.cli import UsageError
from clipoint3d_ros.datasets import scenes

DOMAINS = {
    "pointda": ("modelnet", "shapenet", "scannet"),
    "graspnet": ("synthetic", "synthetic/kinect", "synthetic/realsense", "real/kinect", "real/realsense"),
}
# Of the published tables.
PAIRS = {
    "pointda": tuple((s, t) for s in DOMAINS["pointda"] for t in DOMAINS["pointda"] if s != t),
    "graspnet": (
        ("synthetic", "real/kinect"),
        ("synthetic", "real/realsense"),
        ("real/kinect", "real/realsense"),
        ("real/realsense", "real/kinect"),
    ),
}
CLASSES = {"pointda": "classes/pointda10.yaml", "graspnet": "classes/graspnetpc10.yaml"}
SINGLE_VIEWS = ("entropy", "sensor", "all", "random-5", *(f"first-{k}" for k in range(1, 11)))
SHOWN_BY_VIEWS = "CLIPoint3D-B"
SEEDS = "0,1,2"
# Words that mean nothing to frozen models, and where argparse puts them.
OPTIONS = {
    "--seeds": "seeds",
    "--methods": "methods",
    "--recipe": "recipe",
    "--set": "changes",
    "--jobs": "jobs",
    "--plot": "plot",
}


@dataclass(frozen=True)
class ScenesTable:
    """Gives the protocols of `benchmark scenes`; called in each process."""

    classes: str | None
    folder: str
    adapt_on: str
    score_on: str
    source: str
    count: int
    halves: bool

    def __call__(self) -> Sequence[Any]:
        from clipoint3d_ros.clip.descriptions import read_classes
        from clipoint3d_ros.evaluation.adaptation.protocol import halves_protocols, scenes_protocol

        given = (read_classes(self.classes), self.folder, self.adapt_on, self.score_on, self.source, self.count)
        return halves_protocols(*given) if self.halves else (scenes_protocol(*given),)


@dataclass(frozen=True)
class DomainsTable:
    """Gives the protocols of `benchmark pointda | graspnet`."""

    kind: str
    root: str
    pairs: tuple[tuple[str, str], ...]
    classes: str | None
    count: int

    def __call__(self) -> Sequence[Any]:
        from clipoint3d_ros.clip.descriptions import read_classes
        from clipoint3d_ros.evaluation.adaptation.protocol import domains_protocol
        from clipoint3d_ros.resources import config_file

        classes = read_classes(self.classes or config_file(CLASSES[self.kind]))
        return [domains_protocol(classes, self.kind, self.root, s, t, self.count) for s, t in self.pairs]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every table of adaptation methods takes."""
    table = parser.add_argument_group("adaptation table")
    table.add_argument("--seeds", metavar="N,N,…", help=f"of shots, weights and draws ({SEEDS})")
    table.add_argument(
        "--methods", metavar="NAME,…", help="rows; 'ablations' and 'all' are groups (default: the main rows)"
    )
    table.add_argument("--recipe", type=Path, metavar="FILE", help="YAML file (config/train/benchmark.yaml)")
    table.add_argument(
        "--set", dest="changes", metavar="KEY=VALUE", action="append", default=[], help="change a value of the recipe"
    )
    table.add_argument(
        "--jobs", type=int, metavar="N", help="cells computed at once (a core each, at most 4; on a GPU 1)"
    )
    table.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path("runs/table"), help="results of cells (%(default)s)"
    )
    table.add_argument("--plot", type=Path, metavar="FILE", help="draw the table here (.png, .svg or .pdf)")


def scenes_table(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figures of `benchmark scenes` with adaptation."""
    adapted, scored = (scenes.scene_names(folder, globs.split(",")) for globs in (args.adapt_on, args.score_on))
    both = [name for name in scored if name in adapted]
    if args.halves and both:
        raise UsageError(
            f"--halves keeps scored scenes from those adapted to, but --adapt-on and --score-on share {both[0]}"
        )
    recipe = _recipe(args)
    count = recipe.training.shots + recipe.training.probe
    made = ScenesTable(args.classes, str(folder), args.adapt_on, args.score_on, args.source, count, args.halves)
    told = {"benchmark": "scenes", "adapt_on": args.adapt_on, "score_on": args.score_on, "source": args.source}
    return _measure(args, made, recipe, told)


def domains_table(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of `benchmark pointda | graspnet`."""
    known = DOMAINS[args.benchmark]
    pairs = PAIRS[args.benchmark]
    if args.pairs:
        words = [pair.partition(":") for pair in args.pairs.lower().split(",")]
        pairs = tuple((source, target) for source, _, target in words)
    wrong = [f"{s}:{t}" for s, t in pairs if s not in known or t not in known or s == t]
    if wrong:
        raise UsageError(f"--pairs {', '.join(wrong)} must be SOURCE:TARGET of two different of {', '.join(known)}")
    recipe = _recipe(args)
    count = recipe.training.shots + recipe.training.probe
    made = DomainsTable(args.benchmark, str(args.root), pairs, args.classes, count)
    return _measure(args, made, recipe, {"benchmark": args.benchmark, "root": str(args.root)})


def _recipe(args: argparse.Namespace) -> Any:
    from clipoint3d_ros.adaptation.config import load_recipe
    from clipoint3d_ros.resources import config_file

    return load_recipe(args.recipe or config_file("train/benchmark.yaml"), args.changes)


def _jobs(device: str | None) -> int:
    """As many processes as the machine's cores carry; one where a GPU does the work."""
    from clipoint3d_ros.clip.backbone import named_device

    return 1 if named_device(device).type != "cpu" else min(os.cpu_count() or 1, 4)


def _measure(args: argparse.Namespace, made: Any, recipe: Any, told: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from clipoint3d_ros.evaluation.adaptation import rows as table
    from clipoint3d_ros.evaluation.adaptation.methods import find
    from clipoint3d_ros.evaluation.adaptation.runs import Plan, Start, protocols_of, run_all
    from clipoint3d_ros.resources import EMBEDDED

    try:
        seeds = tuple(int(word) for word in (args.seeds or SEEDS).split(","))
    except ValueError:
        raise UsageError(f"--seeds {args.seeds} must be whole numbers separated by commas, such as 0,1,2") from None
    jobs = args.jobs if args.jobs is not None else _jobs(args.device)
    if jobs < 1 or len(set(seeds)) < len(seeds):
        raise UsageError("--jobs must be at least 1, and --seeds must not repeat")
    starts = tuple(Start(*pair) for pair in (args.models or [(name, None) for name in EMBEDDED]))
    if len(set(starts)) < len(starts):
        raise UsageError("a --backbone is named twice; name each model once")
    methods = tuple(method.name for method in find(args.methods))
    plan = Plan(made, starts, methods, seeds, recipe, args.cache, args.device)
    protocols = protocols_of(plan)
    with tqdm(total=len(plan.cells(len(protocols))), unit="cell", desc="table") as bar:
        looks = run_all(plan, jobs, bar.update)
    by_views = table.by_views(plan, protocols, looks, SHOWN_BY_VIEWS, SINGLE_VIEWS) if SHOWN_BY_VIEWS in methods else []
    return {**told, "recipe": asdict(recipe), "rows": table.rows(plan, protocols, looks), "views": by_views}
