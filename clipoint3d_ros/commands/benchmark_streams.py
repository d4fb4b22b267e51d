"""`clipoint3d benchmark streams`: online adaptation on streams of objects, gain and risk beside the frozen model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipoint3d_ros.cli import CommandError, UsageError
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation.files import write_json, write_whole

EXAMPLE = "clipoint3d benchmark streams --jobs 2 --json streams.json --markdown streams.md --plot streams.png"
QUICK = "clipoint3d benchmark streams --streams real --methods TDA,StatA,Uni-Adapter"
_SETTINGS = "streams/peers.yaml"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that no other benchmark has."""
    parser.add_argument("--scenes", metavar="DIR", type=Path, help="real scenes (default: $CLIPOINT3D_SCENES)")
    parser.add_argument("--classes", metavar="FILE", help="class file; default: the eight tabletop classes")
    parser.add_argument("--streams", metavar="NAME,…", help="streams, or the groups real and simulated (default: all)")
    parser.add_argument(
        "--methods", metavar="NAME,…", help="rows (default: all; those with gradients on the real streams only)"
    )
    parser.add_argument("--seeds", metavar="N,N,…", default="0,1,2", help="of the orders and draws (%(default)s)")
    parser.add_argument(
        "--views", choices=("entropy", "sensor"), default="entropy", help="which of the ten views count (%(default)s)"
    )
    parser.add_argument("--long", metavar="N", type=int, default=10_000, help="objects of the long run (%(default)s)")
    parser.add_argument(
        "--objects", metavar="N", type=int, default=1000, help="simulated objects of the classes (%(default)s)"
    )
    parser.add_argument("--bundle", metavar="DIR", help="adapter trained beforehand, for the row CLIPoint3D offline")
    parser.add_argument(
        "--settings", metavar="FILE", type=Path, help=f"settings of the methods (default: config/{_SETTINGS})"
    )
    parser.add_argument(
        "--tune", metavar="FILE", type=Path, help="instead: try each method's grid on simulated streams, write FILE"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at once (%(default)s)")
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, default=Path("runs/streams"), help="scenes, features, runs (%(default)s)"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw accuracy over time here (.png, .svg or .pdf)")


def run(args: argparse.Namespace) -> int:
    """Measure, show and write; 0 when all of it is done."""
    if args.tune:
        return _tune(args)
    from clipoint3d_ros.evaluation.streams import tables
    from clipoint3d_ros.evaluation.streams.plots import plot

    figures = measure(args)
    print(tables.summary(figures))
    if args.json:
        write_json(args.json, figures)
    if args.markdown:
        write_whole(args.markdown, tables.markdown(figures) + "\n")
    if args.plot:
        plot(figures, args.plot)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of the table: settings, what was left out, rows, curves."""
    from dataclasses import asdict

    from clipoint3d_ros.evaluation.streams import harness
    from clipoint3d_ros.evaluation.streams.rows import curves, rows

    plan = _plan(args)
    cells, left_out = harness.cells_of(plan)
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if not cells:
        raise CommandError("nothing is left to run; name streams and methods with --streams and --methods")
    harness.prepare(plan, cells)
    with tqdm(total=len(cells), unit="run", desc="streams") as bar:
        runs = harness.run_all(plan, cells, args.jobs, bar.update)
    return {
        "benchmark": "streams",
        "views": plan.views,
        "classes": list(harness.classes_of(plan)),
        "sizes": asdict(plan.sizes),
        "settings": {name: asdict(plan.config(name)) for name in dict.fromkeys(cell.method for cell in cells)},
        "left_out": left_out,
        "rows": rows(plan, runs),
        "curves": curves(runs),
    }


def _plan(args: argparse.Namespace) -> Any:
    from clipoint3d_ros.evaluation.adaptation.runs import Start
    from clipoint3d_ros.evaluation.streams.harness import Plan
    from clipoint3d_ros.evaluation.streams.methods import find_methods
    from clipoint3d_ros.evaluation.streams.streams import find_streams
    from clipoint3d_ros.resources import EMBEDDED

    if args.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, but is {args.jobs}")
    starts = tuple(Start(*pair) for pair in (args.models or [(name, None) for name in EMBEDDED]))
    if len(set(starts)) < len(starts):
        raise UsageError("a --backbone is named twice; name each model once")
    methods = find_methods(args.methods)
    if args.methods and any(method.bundle for method in methods) and not args.bundle:
        raise UsageError("the method CLIPoint3D offline answers by a bundle; name it with --bundle")
    return Plan(
        starts,
        tuple(stream.name for stream in find_streams(args.streams)),
        tuple(method.name for method in methods),
        _seeds(args.seeds),
        args.cache,
        args.views,
        _sizes(args),
        _scenes(args.scenes),
        args.classes,
        tuple(_settings(args.settings).items()),
        args.bundle,
        bool(args.methods),
        args.device,
    )


def _tune(args: argparse.Namespace) -> int:
    from clipoint3d_ros.evaluation.streams.tuning import tune, write_settings

    if args.json or args.markdown or args.plot:
        raise UsageError("--tune writes settings only; leave --json, --markdown and --plot away")
    tried = tune(_plan(args))
    write_settings(args.tune, tried)
    for method, found in tried.items():
        print(f"{method}: {found.told()}")
    return 0


def _seeds(words: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(word) for word in words.split(","))
    except ValueError:
        raise UsageError(f"--seeds {words} must be whole numbers separated by commas, such as 0,1,2") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds {words} must be at least 0 and must not repeat")
    return seeds


def _sizes(args: argparse.Namespace) -> Any:
    from clipoint3d_ros.evaluation.streams.pools import Sizes

    if args.long < 1 or args.objects < 2:
        raise UsageError(f"--long must be at least 1 and --objects at least 2, but are {args.long} and {args.objects}")
    whole = Sizes()
    each = min(whole.each, max(args.objects * whole.each // whole.known, 1))
    return Sizes(known=args.objects, unknown=max(args.objects // 2, 1), each=each, long=args.long)


def _scenes(named: Path | None) -> str | None:
    """The folder of real scenes, None where none was named and there are none at the usual place."""
    folder = named or scenes.default_scenes_dir()
    if named is None and not (folder / "scenes.json").is_file():
        return None
    scenes.scene_names(folder)  # a folder that was named must be one
    return str(folder)


def _settings(path: Path | None) -> dict[str, Any]:
    from clipoint3d_ros.evaluation.streams.methods import load_settings
    from clipoint3d_ros.resources import config_dir

    tuned = config_dir() / _SETTINGS
    return load_settings(path or tuned) if path or tuned.is_file() else {}
