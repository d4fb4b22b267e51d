"""`clipoint3d classify`: label clouds or meshes on disk."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipoint3d_ros.recognition.recognition import Recognition

SUMMARY = "Label clouds or meshes on disk, one object a file."
EXAMPLE = "clipoint3d classify mug.ply scan.pcd --classes config/classes/household.yaml --up 0 0 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="cloud (.pcd .ply .xyz .npy …) or mesh (.obj .stl …)"
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="class file, or names separated by commas (default: the bundle's, else tabletop)",
    )
    parser.add_argument("--bundle", metavar="DIR", help="adapter to serve, as a folder (default: the frozen model)")
    parser.add_argument(
        "--backbone",
        help="open_clip architecture, or local-dir:FOLDER (default: the bundle's, else the embedded model)",
    )
    parser.add_argument("--pretrained", help="the architecture's tag or checkpoint")
    parser.add_argument("--download", action="store_true", help="fetch the tag's weights once if they are not here")
    vector: dict[str, Any] = {"nargs": 3, "type": _number, "metavar": ("X", "Y", "Z")}
    parser.add_argument("--up", **vector, default=(0.0, 0.0, 1.0), help="against gravity in the files' frame (0 0 1)")
    parser.add_argument("--viewpoint", **vector, help="where the sensor stood, metres in the files' frame")
    parser.add_argument(
        "--unknown-below",
        type=float,
        default=0.0,
        metavar="P",
        help="unknown below this score of the best class: probability times that of being of any class",
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="hypotheses shown (%(default)s)")
    parser.add_argument("--device", help="torch device (default: CUDA where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write labels and probabilities here")


def run(args: argparse.Namespace) -> int:
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # what must fail fails now

    import numpy as np
    from tqdm import tqdm

    from clipoint3d_ros.clip.descriptions import named_classes
    from clipoint3d_ros.datasets.files import read_points
    from clipoint3d_ros.evaluation.files import write_whole
    from clipoint3d_ros.geometry.clouds import doubtful_scale
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.recognition.config import ClassifierConfig

    # Before the model is loaded, or even fetched.
    clouds = [read_points(path) for path in tqdm(args.files, desc="reading", unit="file", disable=len(args.files) < 20)]
    classifier = Classifier.load(
        args.bundle,
        args.backbone,
        args.pretrained,
        named_classes(args.classes),
        args.device,
        ClassifierConfig(unknown_below=args.unknown_below),
        args.download,
    )
    for path, cloud in zip(args.files, clouds, strict=True):
        if doubt := doubtful_scale(str(path), np.ptp(cloud, axis=0)):
            print(f"clipoint3d classify: {doubt}", file=sys.stderr)
    found = []
    for start in tqdm(range(0, len(clouds), 32), desc="recognising", disable=len(clouds) <= 32):
        found += classifier.classify(clouds[start : start + 32], args.up, args.viewpoint)
    width = max(len(str(path)) for path in args.files)
    for path, recognition in zip(args.files, found, strict=True):
        print(f"{path!s:<{width}}  {_words(recognition, args.top)}")
    if args.json:
        rows = [
            {
                "file": str(path),
                "label": r.label,
                "score": r.score,
                "entropy": r.entropy,
                "familiarity": r.familiarity,
                "probabilities": dict(zip(r.classes, r.probabilities.tolist(), strict=True)),
            }
            for path, r in zip(args.files, found, strict=True)
        ]
        told = {"classes": list(classifier.classes), "objects": rows}
        write_whole(args.json, json.dumps(told, indent=2) + "\n")
    return 0


def _words(recognition: Recognition, count: int) -> str:
    hypotheses = ", ".join(f"{name} {score:.0%}" for name, score in recognition.best(count))
    if recognition.label in recognition.classes:
        return hypotheses
    return f"{recognition.label} {recognition.score:.0%}, else {hypotheses}"


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' must be a number; give three, such as 0 0 1")
    return value
