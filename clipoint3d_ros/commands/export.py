"""`clipoint3d export`: the vision tower as ONNX, and the script that makes a TensorRT engine of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = (
    "Write the vision tower as it is served (LoRA merged) as ONNX, with a script to build a TensorRT engine of it."
)
EXAMPLE = "clipoint3d export exported --bundle adapter"

ONNX_FILE, SCRIPT_FILE = "tower.onnx", "build_engine.sh"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("out", metavar="OUT", type=Path, help=f"folder for {ONNX_FILE} and {SCRIPT_FILE}")
    parser.add_argument("--bundle", metavar="DIR", help="adapter to serve, as a folder (default: the frozen model)")
    parser.add_argument("--backbone", help="open_clip architecture, or local-dir:FOLDER (default: the bundle's)")
    parser.add_argument("--pretrained", help="the architecture's tag or checkpoint")
    parser.add_argument(
        "--patches",
        choices=("trained", "occupied", "all"),
        default="trained",
        help="of a view, as the node's parameter: as the backbone or bundle was trained, without empty ones, or all",
    )
    parser.add_argument("--max-views", metavar="N", type=int, default=640, help="of a TensorRT pass (default: 640)")
    parser.add_argument(
        "--usual-views", metavar="N", type=int, default=150, help="that TensorRT tunes for (default: 150, 15 objects)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was exported there")


def run(args: argparse.Namespace) -> int:
    """Export and compare; 0 when the files are there and agree with torch, or nothing is here to compare with."""
    from clipoint3d_ros.cli import CommandError, UsageError
    from clipoint3d_ros.evaluation.files import write_json
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.recognition.onnx_tower import (
        TOLERANCE,
        MissingRuntime,
        tensorrt_script,
        worst_difference,
        write_onnx,
    )

    if not 1 <= args.usual_views <= args.max_views:
        raise UsageError(f"--usual-views {args.usual_views} must be from 1 to --max-views {args.max_views}")
    classifier = Classifier.load(args.bundle, args.backbone, args.pretrained, device="cpu", patches=args.patches)
    backbone, prompts = classifier.backbone, 0
    if classifier.adapter is not None:
        backbone, prompts = classifier.adapter.network.backbone, classifier.adapter.network.tokens
    print(f"writing the vision tower of {classifier.name} (half a minute and more)", file=sys.stderr)
    path, script = args.out / ONNX_FILE, args.out / SCRIPT_FILE
    served = write_onnx(backbone, path, prompts)
    script.write_text(tensorrt_script(served, path.name, args.max_views, args.usual_views))
    script.chmod(0o755)
    try:
        worst = worst_difference(backbone, path, served)
    except MissingRuntime as error:
        worst = None
        print(f"not compared with torch: {error}", file=sys.stderr)
    print(f"{path}: inputs {', '.join(served.input_names)}; {script} builds its TensorRT engine on the Jetson")
    if args.json:
        row = {"onnx": str(path), "inputs": served.input_names, "worst_difference": worst, "tolerance": TOLERANCE}
        write_json(args.json, row)
    if worst is not None and worst > TOLERANCE:
        raise CommandError(f"{path} differs from torch by {worst:.2g}, more than {TOLERANCE:g}; do not use it")
    if worst is not None:
        print(f"ONNX Runtime agrees with torch within {worst:.1e} (tolerance {TOLERANCE:g})")
    return 0
