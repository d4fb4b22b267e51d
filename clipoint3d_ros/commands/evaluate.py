"""`clipoint3d evaluate`: replay labelled bags through the perception node and score its answers."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from clipoint3d_ros.cli import CommandError
from clipoint3d_ros.evaluation.answers import Frame, Replayed, survey
from clipoint3d_ros.evaluation.bags import POINTS_TOPIC, TRUTH_TOPIC, LabelledBag, Topics
from clipoint3d_ros.evaluation.console import summary
from clipoint3d_ros.evaluation.files import write_whole
from clipoint3d_ros.evaluation.scoring import score
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

SUMMARY = """Replay labelled bags through the real perception node over DDS and score what it answers.

A bag needs a topic of clouds (sensor_msgs/PointCloud2) and one of truth (vision_msgs/Detection3DArray): a truth
message belongs to the cloud of the same header stamp, a truth object to the segment of the same id, and its name is
the class_id of its best hypothesis. `record` writes such bags."""
EXAMPLE = "clipoint3d evaluate tabletop_bag --wait --json figures.json --report report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("bags", metavar="BAG", nargs="+", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    model = parser.add_argument_group("model")
    model.add_argument("--bundle", metavar="D", default="", help="adapter bundle, scored beside its frozen model")
    model.add_argument("--backbone", metavar="N", default="", help="open_clip model; default: the bundle's or embedded")
    model.add_argument("--pretrained", metavar="T", default="", help="weight tag or checkpoint of --backbone")
    model.add_argument("--classes", metavar="FILE", default="", help="class file; default: the bundle's or tabletop")
    model.add_argument("--selection", choices=("auto", "sensor", "entropy", "all"), help="which views decide")
    model.add_argument("--device", help="torch device; default: a GPU where there is one")
    model.add_argument(
        "--param",
        metavar="NAME:=VALUE",
        action="append",
        default=[],
        help="any other parameter of the perception node, e.g. up:='[0.0, -1.0, 0.0]'; may be repeated",
    )
    replay = parser.add_argument_group("replay")
    replay.add_argument("--adapt", choices=("off", "statistics", "gradient"), default="off", help="default: off")
    replay.add_argument("--rate", metavar="X", type=float, default=1.0, help="times the bag's own pace (default: 1)")
    replay.add_argument("--wait", action="store_true", help="next frame after the answer: measures accuracy, not load")
    replay.add_argument("--offline", action="store_true", help="the same pipeline without ROS")
    replay.add_argument("--timeout", metavar="S", type=float, default=30.0, help="for one answer, in s (default: 30)")
    replay.add_argument(
        "--points-topic", metavar="T", help=f"default: {POINTS_TOPIC}, else the bag's only topic of clouds"
    )
    replay.add_argument("--truth-topic", metavar="T", default=TRUTH_TOPIC, help=f"default: {TRUTH_TOPIC}")
    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="F", type=Path, help="write the figures here")
    out.add_argument("--report", metavar="DIR", type=Path, help="write a page here: figures, plots, the worst mistakes")
    out.add_argument(
        "--unknown-below", metavar="P", type=float, default=0.0, help="report what a threshold P would call unknown"
    )


def run(args: argparse.Namespace) -> int:
    """Replay, score, show and write; 0 when all of it is done."""
    _refuse_what_is_to_come(args)
    parameters = _parameters(args)
    config = build(PerceptionConfig, parameters)
    config.check()
    _refuse_what_a_bag_cannot_give(config)
    classes = _class_names(config)
    bags = [LabelledBag(path, Topics(args.points_topic, args.truth_topic)) for path in args.bags]
    frames = list(tqdm(survey(bags, config.segments), unit="frame", desc="read"))
    _warn_of_missing_clouds(frames)
    replayed = (_offline if args.offline else _through_the_node)(bags, frames, classes, parameters, args)
    figures = score(frames, replayed, args.unknown_below)
    print(summary(figures))
    if args.json:
        write_json(args.json, figures)
    if args.report:
        from clipoint3d_ros.evaluation.report.page import write_report

        print(f"report: {write_report(args.report, figures, bags, frames, replayed, config, _notes(args))}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`ros2 run clipoint3d_ros evaluate_bag`."""
    from clipoint3d_ros import cli

    return cli.main(["evaluate", *(sys.argv[1:] if arguments is None else arguments)])


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write whole or not at all: a reader never sees half a file."""
    write_whole(path, json.dumps(figures, indent=1, allow_nan=False) + "\n")


def _refuse_what_is_to_come(args: argparse.Namespace) -> None:
    if args.adapt != "off" and (args.bundle or args.offline):
        raise CommandError(
            f"--adapt {args.adapt} starts from the frozen model and needs both nodes: leave --bundle and --offline out"
        )
    if args.pretrained and not args.backbone:
        raise CommandError(f"--pretrained {args.pretrained} needs the --backbone it belongs to")
    if not 0 <= args.unknown_below <= 1:
        raise CommandError(f"--unknown-below must lie in [0, 1], but is {args.unknown_below:g}")
    for name in ("rate", "timeout"):
        if not (math.isfinite(value := getattr(args, name)) and value > 0):
            raise CommandError(f"--{name} must be above 0, but is {value:g}")


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The node's parameters that differ from its defaults; `unknown` is off, as accuracy needs it."""
    parameters: dict[str, Any] = {"unknown_below": 0.0}
    if args.bundle:  # the node may run in another folder
        parameters["bundle"] = str(Path(args.bundle).absolute())
    for name in ("backbone", "pretrained", "classes", "selection", "device"):
        if getattr(args, name):
            parameters[name] = getattr(args, name)
    for word in args.param:
        name, separator, value = word.partition(":=")
        if not separator:
            raise CommandError(f"--param {word} must read NAME:=VALUE, such as min_points:=32")
        if name in parameters or name in ("bundle", "autostart"):
            option = {"unknown_below": "--unknown-below"}.get(name, f"--{name}")
            raise CommandError(f"--param {word}: '{name}' is set by the evaluation itself; see {option}")
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise CommandError(f"--param {word}: {value!r} is no YAML value") from None
    for name in ("classes", "pretrained"):  # likewise
        if Path(parameters.get(name, "")).is_file():
            parameters[name] = str(Path(parameters[name]).resolve())
    return parameters


def _refuse_what_a_bag_cannot_give(config: PerceptionConfig) -> None:
    if config.frames.asks:
        raise CommandError("gravity_frame and sensor_frame need TF, which is not replayed; set up and viewpoint")
    if config.input_form == "boxes":
        raise CommandError("input_form 'boxes' needs a topic of boxes, which is not replayed; label the cloud's points")


def _class_names(config: PerceptionConfig) -> tuple[str, ...]:
    from clipoint3d_ros.clip.bundle import bundled_classes
    from clipoint3d_ros.recognition.classifier import read_classes

    if config.bundle and config.class_source is None:
        return bundled_classes(config.bundle).names
    return read_classes(config.class_source).names


def _notes(args: argparse.Namespace) -> dict[str, str]:
    """How the answers came about, for the report's reader."""
    pace = f"{args.rate:g} × the bag's pace"
    if args.offline:
        pace = "offline, without the nodes"
    elif args.wait:
        pace = "in step, the next frame after the answer"
    weights = f" ({args.pretrained})" if args.pretrained else ""
    model = args.backbone or ("the bundle's" if args.bundle else "clipoint3d-tiny, embedded")
    bundle = {"bundle": args.bundle} if args.bundle else {}
    others = {"parameters": ", ".join(args.param)} if args.param else {}
    return {"model": model + weights, **bundle, "adaptation": args.adapt, "pace": pace, **others}


def _warn_of_missing_clouds(frames: Sequence[Frame]) -> None:
    lost = [frame for frame in frames if not frame.recorded]
    if lost:
        objects = sum(len(frame.objects) for frame in lost)
        print(
            f"{len(lost)} truth messages have no cloud of their stamp; their {objects} objects count as not answered",
            file=sys.stderr,
        )


def _offline(
    bags: Sequence[LabelledBag],
    frames: Sequence[Frame],
    classes: Sequence[str],
    parameters: dict[str, Any],
    args: argparse.Namespace,
) -> Replayed:
    from clipoint3d_ros.evaluation.offline import replay_offline
    from clipoint3d_ros.recognition.classifier import Classifier

    config = build(PerceptionConfig, parameters)
    classifier = Classifier.load(
        bundle=config.bundle or None,
        backbone=config.backbone or None,
        pretrained=config.pretrained or None,
        classes=config.class_source,
        device=config.device or None,
        config=config.classifier,
    )
    with _progress(frames) as told:
        return replay_offline(bags, classifier, config, told)


def _through_the_node(
    bags: Sequence[LabelledBag],
    frames: Sequence[Frame],
    classes: Sequence[str],
    parameters: dict[str, Any],
    args: argparse.Namespace,
) -> Replayed:
    try:
        from clipoint3d_ros.evaluation.replay import ReplayConfig, replay
    except ImportError as error:
        raise CommandError(
            f"the replay needs ROS 2 with vision_msgs ({error}); run `make setup`, source your ROS installation, "
            "or evaluate with --offline"
        ) from None
    from clipoint3d_ros.evaluation.node_process import ReplayError

    pace = ReplayConfig(adapt=args.adapt, wait=args.wait, rate=args.rate, timeout=args.timeout)
    try:
        with _progress(frames) as told:
            return replay(bags, classes, parameters, pace, told)
    except ReplayError as error:
        raise CommandError(str(error)) from None


@contextmanager
def _progress(frames: Sequence[Frame]) -> Iterator[Callable[[int], object]]:
    """A bar over the frames to be played; gives the function that advances it."""
    with tqdm(total=sum(frame.recorded for frame in frames), unit="frame", desc="replay") as bar:
        yield bar.update
