"""What commands that let bags be answered have in common: their options, and the way from these to the answers."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from clipoint3d_ros.cli import CommandError
from clipoint3d_ros.evaluation import fleet
from clipoint3d_ros.evaluation.answers import Frame, Replayed, survey
from clipoint3d_ros.evaluation.bags import POINTS_TOPIC, TRUTH_TOPIC, LabelledBag, Topics
from clipoint3d_ros.evaluation.node_process import ReplayError
from clipoint3d_ros.evaluation.playing import Playing, forget_model, play
from clipoint3d_ros.evaluation.recordings import recordings
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.parameter_files import read_parameters
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

_CHOSEN = {"unknown_below": "--unknown-below", "unknown_below_class": "`clipoint3d thresholds`"}

_OWN = ("autostart", "unknown_below_class")  # left at their defaults, whatever a parameter file says


@dataclass(frozen=True)
class Answers:
    """What came of the bags.

    bags, frames, replayed: those that were answered. failed: {bag: why}, of the others. playing: how.
    """

    bags: tuple[LabelledBag, ...]
    frames: tuple[Frame, ...]
    replayed: Replayed
    failed: dict[Path, str]
    playing: Playing


def add_bags(parser: argparse.ArgumentParser) -> None:
    """The bags themselves."""
    parser.add_argument(
        "bags",
        metavar="BAG",
        nargs="+",
        help="rosbag2 folder, .mcap or .db3 file, a folder of these, or a pattern such as 'recordings/*/'",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model answers."""
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
    model.add_argument(
        "--params-file",
        metavar="FILE",
        default="",
        help="parameter file of the nodes, such as config/jetson_orin_nano.yaml; the options here win over it",
    )


def add_replay(parser: argparse.ArgumentParser) -> Any:
    """How the bags are played; returns the group, for more."""
    replay = parser.add_argument_group("replay")
    replay.add_argument("--adapt", choices=("off", "statistics", "gradient"), default="off", help="default: off")
    replay.add_argument("--rate", metavar="X", type=float, default=1.0, help="times the bag's own pace (default: 1)")
    replay.add_argument("--wait", action="store_true", help="next frame after the answer: measures accuracy, not load")
    replay.add_argument(
        "--namespace",
        metavar="NAME",
        default="",
        help="play in this namespace of this shell's ROS domain, for RViz and others to see; default: apart from all",
    )
    replay.add_argument("--offline", action="store_true", help="the same pipeline without ROS")
    replay.add_argument("--timeout", metavar="S", type=float, default=30.0, help="for one answer, in s (default: 30)")
    add_topics(replay)
    return replay


def add_topics(group: Any) -> None:
    """Where the bags keep clouds and truth."""
    group.add_argument(
        "--points-topic", metavar="T", help=f"default: {POINTS_TOPIC}, else the bag's only topic of clouds"
    )
    group.add_argument("--truth-topic", metavar="T", default=TRUTH_TOPIC, help=f"default: {TRUTH_TOPIC}")


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Many recordings."""
    many = parser.add_argument_group(
        "many recordings",
        "Each bag has nodes of its own, with an empty memory, and one that fails does not end the others. Only several "
        "bags with --adapt and none of these options are played one after another to the same nodes: the companion "
        "goes on from bag to bag with the adapter it has.",
    )
    many.add_argument("--jobs", metavar="N", type=int, help="bags at a time, each in processes of its own (default: 1)")
    many.add_argument(
        "--work",
        "--resume",
        metavar="DIR",
        type=Path,
        help="keep finished bags here; the same command with the same folder goes on after a kill",
    )
    many.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the bags on this Ray cluster (or 'auto'), whose machines see the same paths, instead of --jobs",
    )


def answered(args: argparse.Namespace) -> Answers:
    """Play the bags, showing progress; those that fail are told as they do.

    Raises:
        CommandError: the words do not fit together, or no bag could be answered.
    """
    playing = asked(args)
    bags = recordings(args.bags)
    try:
        if is_fleet(args, len(bags)):
            return _one_by_one(bags, playing, args)
        return _together(bags, playing)
    except ReplayError as error:
        raise CommandError(str(error)) from None
    finally:
        forget_model()


def asked(args: argparse.Namespace) -> Playing:
    """The options as they are understood everywhere.

    Raises:
        CommandError: they do not fit together. ParameterError: a parameter's value cannot be used.
    """
    _refuse_what_does_not_fit(args)
    parameters = _located(_from_file(args) | _parameters(args))
    config = build(PerceptionConfig, parameters)
    config.check()
    if config.bundle and args.adapt != "off":
        raise CommandError(f"--adapt {args.adapt} starts from the frozen model, but {args.params_file} gives a bundle")
    _refuse_what_a_bag_cannot_give(config, args.offline)
    return Playing(
        parameters,
        _class_names(config),
        Topics(args.points_topic, args.truth_topic),
        args.offline,
        args.adapt,
        args.wait,
        args.rate,
        args.timeout,
        args.namespace,
        _companion(args),
    )


def is_fleet(args: argparse.Namespace, bags: int) -> bool:
    """Whether every bag has nodes of its own."""
    return bool(args.jobs or args.work or args.ray) or (bags > 1 and args.adapt == "off")


def _together(paths: Sequence[Path], playing: Playing) -> Answers:
    """One after another to the same nodes."""
    bags = tuple(LabelledBag(path, playing.topics) for path in paths)
    frames = tuple(tqdm(survey(bags, playing.config.segments), unit="frame", desc="read"))
    warn_of_missing_clouds(frames)
    with progress(frames) as told:
        return Answers(bags, frames, play(bags, playing, told), {}, playing)


def _one_by_one(paths: Sequence[Path], playing: Playing, args: argparse.Namespace) -> Answers:
    """Each to nodes of its own."""
    if args.ray:
        cores = fleet.on_ray(args.ray)
    else:
        cores = fleet.here if (args.jobs or 1) == 1 else fleet.in_processes(args.jobs)
    with tqdm(total=len(paths), unit="bag", desc="bags") as bar:

        def told(job: fleet.Job, outcome: fleet.Outcome) -> None:
            if isinstance(outcome, str):
                bar.write(f"failed: {outcome}", file=sys.stderr)
            bar.update()

        found = fleet.answer_all(paths, playing, cores, args.work, told)
    done = {path: outcome for path, outcome in found.items() if not isinstance(outcome, str)}
    failed = {path: outcome for path, outcome in found.items() if isinstance(outcome, str)}
    if not done:
        if len(failed) == 1:
            raise CommandError(next(iter(failed.values())))
        raise CommandError(f"none of the {len(failed)} bags could be answered; see the sentences above")
    frames, replayed = fleet.merged(list(done.values()))
    warn_of_missing_clouds(frames)
    return Answers(tuple(LabelledBag(path, playing.topics) for path in done), tuple(frames), replayed, failed, playing)


def _refuse_what_does_not_fit(args: argparse.Namespace) -> None:
    if args.adapt != "off" and (args.bundle or args.offline):
        raise CommandError(
            f"--adapt {args.adapt} starts from the frozen model and needs both nodes: leave --bundle and --offline out"
        )
    if args.pretrained and not args.backbone:
        raise CommandError(f"--pretrained {args.pretrained} needs the --backbone it belongs to")
    for name in ("rate", "timeout"):
        if not (math.isfinite(value := getattr(args, name)) and value > 0):
            raise CommandError(f"--{name} must be above 0, but is {value:g}")
    if args.jobs is not None and args.jobs < 1:
        raise CommandError(f"--jobs must be at least 1, but is {args.jobs}")
    if args.namespace and (args.offline or args.ray or (args.jobs or 1) > 1):
        raise CommandError(
            f"--namespace {args.namespace} shows one replay at a time, through the nodes: leave --offline, --jobs and "
            "--ray out"
        )
    if args.jobs and args.ray:
        raise CommandError("--jobs is for this machine and --ray for a cluster, which has its own count: leave one out")


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The node's parameters that differ from its defaults; `unknown` is off, as accuracy needs it."""
    parameters: dict[str, Any] = {"unknown_below": 0.0}
    for name in ("bundle", "backbone", "pretrained", "classes", "selection", "device"):
        if getattr(args, name):
            parameters[name] = getattr(args, name)
    for word in args.param:
        name, separator, value = word.partition(":=")
        if not separator:
            raise CommandError(f"--param {word} must read NAME:=VALUE, such as min_points:=32")
        if name in parameters or name in ("bundle", *_OWN):
            option = _CHOSEN.get(name, f"--{name}")
            raise CommandError(f"--param {word}: '{name}' is set by the evaluation itself; see {option}")
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise CommandError(f"--param {word}: {value!r} is no YAML value") from None
    return parameters


def _from_file(args: argparse.Namespace) -> dict[str, Any]:
    """What the parameter file gives perception; a replay starts its nodes itself, and scores with `unknown` off."""
    given = read_parameters(args.params_file, "perception", PerceptionConfig) if args.params_file else {}
    said = {
        field.name for field in fields(PerceptionConfig) if field.default in ("", ())
    }  # "" says what the default does
    return {name: value for name, value in given.items() if name not in _OWN and not (value == "" and name in said)}


def _located(parameters: dict[str, Any]) -> dict[str, Any]:
    """With whole paths: the node may run in another folder."""
    for name in ("bundle", "classes", "pretrained"):
        value = parameters.get(name)
        if isinstance(value, str) and value and (name == "bundle" or Path(value).is_file()):
            parameters[name] = str(Path(value).absolute() if name == "bundle" else Path(value).resolve())
    return parameters


def _companion(args: argparse.Namespace) -> dict[str, Any]:
    """What the parameter file gives the adaptation node, refused in words where that node could not use it."""
    if args.adapt == "off" or not args.params_file:
        return {}
    given = read_parameters(args.params_file, "adaptation", AdaptationConfig)
    given.pop("autostart", None)
    build(AdaptationConfig, given)
    return given


def _refuse_what_a_bag_cannot_give(config: PerceptionConfig, offline: bool) -> None:
    if config.frames.asks:
        raise CommandError("gravity_frame and sensor_frame need TF, which is not replayed; set up and viewpoint")
    if config.max_age_s:
        raise CommandError(
            f"max_age_s is {config.max_age_s:g}, but a recorded cloud is older than any limit; leave it at 0"
        )
    if config.input_form == "boxes":
        raise CommandError("input_form 'boxes' needs a topic of boxes, which is not replayed; label the cloud's points")
    if offline and config.fuse_tracks:
        raise CommandError(
            "fuse_tracks judges an object by what the node said of it before, and without ROS each cloud is judged by "
            "itself; set it to false (--param fuse_tracks:=false), or evaluate through the nodes"
        )


def _class_names(config: PerceptionConfig) -> tuple[str, ...]:
    from clipoint3d_ros.clip.bundle import bundled_classes
    from clipoint3d_ros.clip.descriptions import read_classes

    if config.bundle and config.class_source is None:
        return bundled_classes(config.bundle).names
    return read_classes(config.class_source).names


def warn_of_missing_clouds(frames: Sequence[Frame]) -> None:
    lost = [frame for frame in frames if not frame.recorded]
    if lost:
        objects = sum(len(frame.objects) for frame in lost)
        print(
            f"{len(lost)} truth messages have no cloud of their stamp; their {objects} objects count as not answered",
            file=sys.stderr,
        )


@contextmanager
def progress(frames: Sequence[Frame]) -> Iterator[Callable[[int], object]]:
    """A bar over the frames to be played; gives the function that advances it."""
    with tqdm(total=sum(frame.recorded for frame in frames), unit="frame", desc="replay") as bar:
        yield bar.update
