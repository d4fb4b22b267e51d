"""`clipoint3d benchmark views`: which views to look at first, learnt on simulated scenes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipoint3d_ros.cli import UsageError
from clipoint3d_ros.evaluation.files import write_json

if TYPE_CHECKING:
    from clipoint3d_ros.clip.backbone import Backbone

EXAMPLE = "clipoint3d benchmark views --backbone clipoint3d-tiny --json views.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", metavar="N", type=int, default=260, help="simulated scenes (%(default)s)")


def run(args: argparse.Namespace, backbones: Mapping[str, Backbone]) -> int:
    """Learn, print and write; 0 when all of it is done."""
    if args.count < 1:
        raise UsageError(f"--count must be at least 1, but is {args.count}")
    if args.markdown:
        raise UsageError("benchmark views writes no --markdown; take --json")

    from tqdm import tqdm

    from clipoint3d_ros.clip.descriptions import read_classes
    from clipoint3d_ros.evaluation.serving import learning
    from clipoint3d_ros.evaluation.serving.objects import simulated_scenes
    from clipoint3d_ros.recognition.classifier import Classifier

    bar = tqdm(simulated_scenes(args.count), total=args.count, unit="scene", desc="simulate")
    scenes = [[each.points for each in objects] for objects in bar]
    told: dict[str, Any] = {"scenes": args.count, "objects": sum(map(len, scenes)), "models": {}}
    print(f"{told['objects']} objects of {args.count} simulated scenes")
    for name, backbone in backbones.items():
        classifier = Classifier(backbone, read_classes(None))
        facing, anywhere = (
            learning.look_over(classifier, tqdm(scenes, unit="scene", desc=f"{name}, {words}"), known)
            for known, words in ((True, "facing"), (False, "anywhere"))
        )
        found = told["models"][name] = learning.figures(facing, anywhere)
        print(f"\n{name}\nwithout the sensor's place, in this order: {', '.join(map(str, found['order']))}")
        print(f"{'views':<10}{'first':>6}{'sure below':>12}{'named as with all':>19}{'in doubt':>10}{'looked at':>11}")
        for kind in ("facing", "anywhere"):
            for row in found[kind]:
                print(
                    f"{kind:<10}{row['first']:>6}{row['sure_below']:>12.1f}{row['agreement']:>18.1%} "
                    f"{row['doubt']:>9.1%}{row['views']:>11.1f}"
                )
    if args.json:
        write_json(args.json, told)
    return 0
