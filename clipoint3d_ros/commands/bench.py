"""`clipoint3d bench`: how fast recognition is, stage by stage, and what each saving costs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipoint3d_ros.cli import UsageError
from clipoint3d_ros.commands import bench_node
from clipoint3d_ros.datasets.scenes import scene_names

if TYPE_CHECKING:
    from clipoint3d_ros.clip.backbone import Backbone

SUMMARY = """Time recognition: every saving of the serving path on top of those before it, by turns in one run.

exact: all views and patches; served: occupied patches, views that face the sensor, the later ones on demand.
Without --pretrained an architecture has random weights: time does not depend on what they are, but for the share of
objects that are in doubt, which --doubt then gives. Accuracy is the embedded model's, on labelled --scenes."""
EXAMPLE = "clipoint3d bench --backbone ViT-B-16 --objects 1,4,16,64 --baseline --json bench.json --plot bench.png"
CLASSES = ("bathtub", "bed", "bookshelf", "cabinet", "chair", "lamp", "monitor", "plant", "sofa", "table")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", metavar="N", default="ViT-B-16", help="open_clip model (%(default)s)")
    parser.add_argument("--pretrained", metavar="T", help="weight tag or checkpoint; without it weights are random")
    parser.add_argument(
        "--objects",
        metavar="N,…",
        type=_counts,
        help=f"of a frame, for growth (1,4,16,64; the node: {bench_node.OBJECTS})",
    )
    parser.add_argument(
        "--points", metavar="N,…", type=_counts, default=[1000, 10_000, 100_000, 1_000_000], help="of a cloud"
    )
    parser.add_argument("--frame", metavar="N", type=int, help="objects of the timed frame (the largest up to 16)")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="of all rows by turns (%(default)s)")
    parser.add_argument("--baseline", action="store_true", help="also the published inference, written plainly")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="of exact and served"
    )
    parser.add_argument("--first-views", metavar="N", type=int, default=2, help="of served (%(default)s)")
    parser.add_argument("--doubt", metavar="P", type=float, help="share of objects in doubt (random weights: 0.25)")
    parser.add_argument("--scenes", metavar="DIR", type=Path, help="labelled scenes to tell each row's accuracy on")
    parser.add_argument("--score-on", metavar="GLOB", default="*", help="of the scenes (%(default)s)")
    parser.add_argument("--device", help="torch device (default: CUDA where there is one)")
    parser.add_argument("--json", metavar="F", type=Path, help="write the figures here")
    parser.add_argument("--plot", metavar="F", type=Path, help="draw them here")
    bench_node.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.node:
        return bench_node.run(args)
    if args.rounds < 1 or (args.frame is not None and args.frame < 1):
        raise UsageError(f"--rounds and --frame must be at least 1, but are {args.rounds} and {args.frame}")
    if args.doubt is not None and not 0 <= args.doubt <= 1:
        raise UsageError(f"--doubt must lie in [0, 1], but is {args.doubt}")
    if not 0 <= args.first_views <= 10:
        raise UsageError(f"--first-views must be 0 to 10, but is {args.first_views}")

    if args.scenes:
        scene_names(args.scenes, args.score_on)  # before minutes of measuring

    from tqdm import tqdm

    from clipoint3d_ros.clip.descriptions import describe, read_classes
    from clipoint3d_ros.evaluation.files import write_json
    from clipoint3d_ros.evaluation.serving import accuracy, machine, plots, timing
    from clipoint3d_ros.evaluation.serving.objects import simulated_objects
    from clipoint3d_ros.evaluation.serving.rows import DOUBT, serving_rows
    from clipoint3d_ros.evaluation.zero_shot import read_objects

    backbones = _backbones(args.backbone, args.pretrained, args.device)
    device = backbones["all"].device
    rows = serving_rows(args.precision, args.first_views, device.type == "cuda")
    doubt = DOUBT if args.doubt is None and not args.pretrained and args.backbone in _architectures() else args.doubt
    classes = describe(CLASSES)
    clouds = simulated_objects(16)
    objects = args.objects or [1, 4, 16, 64]
    small = [count for count in objects if count <= 16] or [min(objects)]
    frame = args.frame or max(small)
    with tqdm(total=args.rounds + 1, unit="round", desc=f"{frame} objects") as bar:
        figures = timing.measure(backbones, rows, classes, clouds, frame, args.rounds, doubt, args.baseline, bar.update)
    served = next(row for row in rows if row.name == "served")
    figures["growth"] = timing.growth(backbones["occupied"], served, classes, clouds, objects, args.points, doubt)
    if args.scenes:
        tiny = _backbones("clipoint3d-tiny", None, args.device)
        stream = tqdm(read_objects(args.scenes, args.score_on), unit="scene", desc="accuracy")
        single = [row for row in rows if not row.still]  # of scenes that are seen once
        for name, told in accuracy.measure(tiny, single, read_classes(None), stream).items():
            figures[name]["accuracy"] = told
    figures |= {
        "backbone": args.backbone,
        "weights": args.pretrained or ("random" if args.backbone in _architectures() else args.backbone),
        "objects": frame,
        "rounds": args.rounds,
        "doubt": doubt,
        "machine": machine.machine(device),
    }
    print(_table(figures))
    if args.json:
        write_json(args.json, figures)
    if args.plot:
        plots.plot(figures, args.plot)
    return 0


def _backbones(name: str, pretrained: str | None, device: str | None) -> dict[str, Backbone]:
    """The model with the patches it was trained for, the occupied ones, and all: one set of weights."""
    from clipoint3d_ros.clip.backbone import load_backbone
    from clipoint3d_ros.evaluation.speed import random_backbone

    random = pretrained is None and name in _architectures()
    own = random_backbone(name, device) if random else load_backbone(name, pretrained, device)
    look = own.preprocessing
    return {
        "trained": own,
        "occupied": replace(own, preprocessing=replace(look, drop_empty=True)),
        "all": replace(own, preprocessing=replace(look, drop_empty=False)),
    }


def _architectures() -> list[str]:
    import open_clip

    return open_clip.list_models()


def _table(figures: Mapping[str, Any]) -> str:
    head = ("", "ms/object", "objects/s", "speedup", "of peak", "peak MB", "macro", "views", "format")
    lines = [_line(head)]
    for name, row in figures.items():
        if not isinstance(row, dict) or "ms_per_object" not in row:
            continue
        cells = [name, f"{row['ms_per_object']:.1f}", f"{1000 / row['ms_per_object']:.1f}"]
        cells.append(f"{row['speedup']:.2f}×" if "speedup" in row else "")
        cells.append(f"{row['matrix_share']:.0%}" if "matrix_share" in row else "")
        cells.append(f"{row['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in row else "")
        told = row.get("accuracy")
        cells += [f"{told['macro_accuracy']:.1%}", f"{told['views']:.2f}"] if told else ["", ""]
        lines.append(_line([*cells, row.get("precision", "float32")]))
    for kind, unit in (("objects", "ms/object"), ("points", "ms to project")):
        grown = ", ".join(f"{count}: {ms:.1f}" for count, ms in figures["growth"][kind].items())
        lines.append(f"{kind} ({unit}): {grown}")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<10}" + "".join(f"{cell:>11}" for cell in cells[1:])


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be whole numbers from 1 on, separated by commas")
    return counts
