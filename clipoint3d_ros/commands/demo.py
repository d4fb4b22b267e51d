"""`clipoint3d demo`: cluttered scenes of a simulated depth camera, recognised, with pictures; then through ROS 2."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SUMMARY = """The whole story on embedded data: cluttered tabletops seen by a simulated Kinect, every object recognised
by the embedded model, and the same scenes replayed through the real perception node where ROS 2 is at hand.

OUT also keeps what the tutorials start from: scenes/, the labelled depth images as `record` and `train` read them;
objects/, every segment as a cloud (.npy, metres, z up, the sensor at the origin); and, with --shapes N, shapes/, N CAD
meshes of each class."""
EXAMPLE = "clipoint3d demo --out demo_output"

# Scenes no training has drawn: the pretraining's generators are seeded by triples, this one by one number.
SEED = 2026
NAME = "tabletop"  # of the scenes, numbered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder of the pictures (%(default)s)")
    parser.add_argument("--scenes", type=int, default=4, help="how many scenes (%(default)s)")
    parser.add_argument(
        "--shapes", metavar="N", type=int, default=0, help="CAD meshes of each class to write (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the scenes (%(default)s)")
    parser.add_argument("--device", help="torch device (default: CUDA where there is one)")
    parser.add_argument("--no-ros", action="store_true", help="leave out the replay through the node")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from clipoint3d_ros.cli import CommandError
    from clipoint3d_ros.datasets.scenes import Scene, level_points, write_folder
    from clipoint3d_ros.datasets.tabletop import SceneConfig, simulate
    from clipoint3d_ros.evaluation.pictures import draw_scene, draw_views
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.recognition.config import ClassifierConfig

    if args.scenes < 1:
        raise CommandError(f"--scenes must be at least 1, but it is {args.scenes}")
    if args.shapes < 0:
        raise CommandError(f"--shapes must be at least 0, but it is {args.shapes}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "objects").mkdir(exist_ok=True)
    _remove_earlier(args.out)
    classifier = Classifier.load(device=args.device)
    every_view = classifier.with_config(ClassifierConfig(selection="all"))
    print(f"{classifier.name} on {classifier.device}, classes: {', '.join(classifier.classes)}\n")

    rng = np.random.default_rng(args.seed)
    layout = SceneConfig(objects=(6, 8), distance=(0.7, 1.1))
    scenes: list[Scene] = []
    rows: list[tuple[str, int, int, str, str, float]] = []
    for number in tqdm(range(args.scenes), desc="scenes", unit="scene"):
        scene = simulate(f"{NAME}{number + 1}", classifier.classes, rng, layout)
        cloud = level_points(scene)
        objects = {key: cloud[(scene.instance == key) & (scene.depth > 0)] for key in scene.classes}
        answers = classifier.classify(list(objects.values()), up=(0, 0, 1), viewpoint=(0, 0, 0))
        named = dict(zip(objects, answers, strict=True))
        draw_scene(args.out / f"{scene.name}.png", scene, named)
        views = every_view.project(list(objects.values()), up=(0, 0, 1), viewpoint=(0, 0, 0)).images
        truths = [scene.classes[key] for key in objects]
        draw_views(args.out / f"{scene.name}_views.png", views.cpu().numpy(), answers, truths)
        for key, points in objects.items():
            np.save(args.out / "objects" / f"{scene.name}_{key}_{scene.classes[key]}.npy", points)
        rows += [
            (scene.name, key, len(objects[key]), scene.classes[key], answer.label, answer.score)
            for key, answer in named.items()
        ]
        scenes.append(scene)
    write_folder(args.out / "scenes", scenes)
    if args.shapes:
        _write_shapes(args.out / "shapes", classifier.classes, args.shapes, args.seed)

    print(f"\n{'scene':<11}{'object':>7}{'points':>8}  {'it is a':<9}{'recognised as':<15}score")
    for name, key, points, truth, label, score in rows:
        mark = "" if label == truth else "   wrong"
        print(f"{name:<11}{key:>7}{points:>8}  {truth:<9}{label:<15}{score:4.0%}{mark}")
    right = sum(row[3] == row[4] for row in rows)
    print(f"\n{right} of {len(rows)} objects right; pictures in {args.out}/")

    if not args.no_ros:
        return _replay(scenes, args.out)
    return 0


def _remove_earlier(out: Path) -> None:
    """An earlier demo's scenes, else taken for this one's where it had more; nothing of anybody else's."""
    for pattern in (f"{NAME}[0-9]*.png", f"objects/{NAME}[0-9]*.npy", f"scenes/scenes/{NAME}[0-9]*.npz"):
        for path in out.glob(pattern):
            path.unlink()
    listing = out / "scenes" / "scenes.json"
    if listing.is_file():
        index, files = json.loads(listing.read_text()), out / "scenes" / "scenes"
        others = {name: each for name, each in index.items() if (files / f"{name}.npz").exists()}
        if others:
            listing.write_text(json.dumps(others))
        else:
            listing.unlink()


def _write_shapes(folder: Path, classes: Sequence[str], count: int, seed: int) -> None:
    """CAD models as a household of them would be: one folder a class, STL in metres, z up."""
    from tqdm import tqdm

    from clipoint3d_ros.datasets.shapes import make_shape

    for label, name in enumerate(tqdm(classes, desc="shapes", unit="class")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = make_shape(name, np.random.default_rng((seed, label, number)))
            shape.mesh.export(folder / name / f"{number + 1:03}.stl")


def _replay(scenes: list, out: Path) -> int:
    """The same scenes as a rosbag through the real node over DDS."""
    import shutil

    from clipoint3d_ros import cli
    from clipoint3d_ros.evaluation.recording import record

    if importlib.util.find_spec("rclpy") is None or importlib.util.find_spec("vision_msgs") is None:
        print("\nROS 2 with vision_msgs is not at hand here, so the replay through the perception node is left out")
        return 0
    bag = out / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    print("\nthe same scenes as a rosbag, through the perception node over DDS:")
    record(bag, scenes)
    return cli.main(
        ["evaluate", str(bag), "--wait", "--json", str(out / "figures.json"), "--report", str(out / "report")]
    )
