"""`clipoint3d benchmark`: accuracy tables, of frozen models and of adaptation methods."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from clipoint3d_ros.cli import CommandError, UsageError
from clipoint3d_ros.commands import benchmark_adaptation as adaptation
from clipoint3d_ros.commands import benchmark_streams as streams
from clipoint3d_ros.commands import benchmark_views as views
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation.files import write_json, write_whole

if TYPE_CHECKING:
    from clipoint3d_ros.clip.backbone import Backbone

SUMMARY = """Accuracy tables: methods that adapt, in one run, on the same data, seeds and views; and frozen models.

scenes: labelled depth scenes: clean shapes → a real sensor; with --zero-shot frozen models side by side.
pointda, graspnet: PointDA-10 and GraspNetPC-10, domain to domain.
shapes: procedural objects that no training saw: open vocabulary, unknown objects, speed.
streams: online adaptation, object by object: gain over the frozen model, and what it risks.
segmentation: the segmenter on raw scenes, alone and before a frozen model.
views: which views to look at first, and how sure they must be."""
EXAMPLE = "clipoint3d benchmark scenes --jobs 2 --json table.json --markdown table.md --plot table.png"
FROZEN_EXAMPLE = "clipoint3d benchmark scenes --zero-shot --score-on 'test*' --json figures.json"

_KINDS = ("scenes", "pointda", "graspnet", "shapes", "streams", "segmentation", "views")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options, by benchmark."""
    kinds = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True, help=", ".join(_KINDS))
    on_scenes = kinds.add_parser(
        "scenes",
        help="labelled depth scenes",
        description="Adapt from clean shapes to a sensor's unlabelled scenes by every method, and score on others; "
        "with --zero-shot classify every labelled object with frozen models, as the perception node would.",
        epilog=f"examples:\n  {EXAMPLE}\n  {FROZEN_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    on_scenes.add_argument(
        "--scenes",
        metavar="DIR",
        type=Path,
        help="scene folder (default: $CLIPOINT3D_SCENES)",
    )
    on_scenes.add_argument("--zero-shot", action="store_true", help="the frozen model, without adaptation")
    on_scenes.add_argument(
        "--score-on", metavar="GLOB", help="scenes that are scored (default: test*; with --zero-shot all)"
    )
    on_scenes.add_argument(
        "--adapt-on", metavar="GLOB", default="learn*", help="scenes that adaptation sees, unlabelled (%(default)s)"
    )
    on_scenes.add_argument(
        "--halves", action="store_true", help="also adapt on half of the scored scenes, score the other half; both ways"
    )
    on_scenes.add_argument(
        "--source", metavar="KIND[:PATH]", default="procedural", help="labelled objects, as in `train` (%(default)s)"
    )
    on_scenes.add_argument("--classes", metavar="FILE", help="class file; default: the eight tabletop classes")
    on_scenes.add_argument(
        "--selection",
        choices=("auto", "sensor", "entropy", "all"),
        help="with --zero-shot: which views decide (auto); the table has ten views and sensor-facing ones",
    )
    adaptation.add_options(on_scenes)
    _common(on_scenes)
    for kind, domains in adaptation.DOMAINS.items():
        between = kinds.add_parser(
            kind,
            help=f"{kind}: domain to domain",
            description=f"Every method from one domain to another: {', '.join(domains)}.",
            epilog=f"example:\n  clipoint3d benchmark {kind} --root DIR --pairs {domains[0]}:{domains[-1]} "
            "--backbone ViT-B-16 --pretrained openai",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        between.add_argument("--root", metavar="DIR", type=Path, required=True, help="the data set's folder")
        between.add_argument("--pairs", metavar="SOURCE:TARGET,…", help="default: those of the published table")
        between.add_argument("--classes", metavar="FILE", help="class file; default: the ten classes of the data set")
        adaptation.add_options(between)
        _common(between)
    on_shapes = kinds.add_parser(
        "shapes",
        help="procedural objects that no training saw",
        description="Procedural objects that no training saw: trained and unseen classes, synonyms, rejection, speed.",
        epilog="example:\n  clipoint3d benchmark shapes --count 20 --json figures.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    on_shapes.add_argument(
        "--count", metavar="N", type=int, default=20, help="complete clouds a class; scenes in proportion (%(default)s)"
    )
    on_shapes.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        default=Path("runs/corpus"),
        help="folder of generated clouds (%(default)s)",
    )
    on_shapes.add_argument("--workers", metavar="N", type=int, default=2, help="processes that generate (%(default)s)")
    on_shapes.add_argument(
        "--rounds", metavar="N", type=int, default=7, help="objects timed of each model; 0 times none (%(default)s)"
    )
    _common(on_shapes)
    on_streams = kinds.add_parser(
        "streams",
        help="online adaptation on streams of objects",
        description="Show objects one at a time to methods that learn as they go, in many orders and conditions, and "
        "measure their gain over the frozen model and what they risk.",
        epilog=f"examples:\n  {streams.EXAMPLE}\n  {streams.QUICK}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    streams.add_options(on_streams)
    _common(on_streams)
    on_raw = kinds.add_parser(
        "segmentation",
        help="raw scenes into objects",
        description="Segment labelled scenes as the segmenter node does, and name the segments with frozen models.",
        epilog="example:\n  clipoint3d benchmark segmentation --scenes DIR --json figures.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    on_raw.add_argument(
        "--scenes",
        metavar="DIR",
        type=Path,
        help="scene folder (default: $CLIPOINT3D_SCENES)",
    )
    on_raw.add_argument("--score-on", metavar="GLOB", default="*", help="scenes that are scored (default: all)")
    on_raw.add_argument("--classes", metavar="FILE", help="class file; default: the eight tabletop classes")
    on_raw.add_argument("--masks-only", action="store_true", help="score the segments alone, without a model")
    _common(on_raw)
    on_views = kinds.add_parser(
        "views",
        help="which views first",
        description="Learn on simulated scenes which views to look at first, and below which entropy they suffice.",
        epilog=f"example:\n  {views.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    views.add_options(on_views)
    _common(on_views)


def run(args: argparse.Namespace) -> int:
    """Measure, show and write; 0 when all of it is done."""
    from clipoint3d_ros.evaluation import benchmark_tables as tables
    from clipoint3d_ros.evaluation.adaptation import tables as adapted

    if args.benchmark == "streams":
        return streams.run(args)
    if args.benchmark == "segmentation":
        return _on_raw_scenes(args)
    if args.benchmark == "views":
        return views.run(args, _load(args.models, args.device))
    if args.benchmark == "scenes":
        _refuse_what_does_not_fit(args)
    summary, markdown = adapted.summary, adapted.markdown
    if args.benchmark == "shapes":
        figures, summary, markdown = _on_shapes(args), tables.shapes_summary, tables.shapes_markdown
    elif args.benchmark == "scenes" and args.zero_shot:
        figures, summary, markdown = _on_scenes(args), tables.scenes_summary, tables.scenes_markdown
    elif args.benchmark == "scenes":
        args.score_on = args.score_on or "test*"
        figures = adaptation.scenes_table(args, args.scenes or scenes.default_scenes_dir())
    else:
        figures = adaptation.domains_table(args)
    print(summary(figures))
    if args.json:
        write_json(args.json, figures)
    if args.markdown:
        write_whole(args.markdown, markdown(figures) + "\n")
    if getattr(args, "plot", None):
        adapted.plot(figures, args.plot)
    return 0


def _refuse_what_does_not_fit(args: argparse.Namespace) -> None:
    if not args.zero_shot:
        if args.selection is not None:
            raise UsageError(
                f"--selection {args.selection} is of --zero-shot; the table of adaptation methods has ten views and "
                "sensor-facing ones side by side"
            )
        return
    given = [option for option, name in adaptation.OPTIONS.items() if getattr(args, name)]
    if args.halves:
        given.append("--halves")
    if given:
        raise UsageError(
            f"only the table of adaptation methods knows {', '.join(given)}; leave that or --zero-shot away"
        )


class _Weights(argparse.Action):
    """--pretrained belongs to the --backbone before it."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        models = list(namespace.models or [])
        if option_string == "--backbone":
            models.append((values, None))
        elif not models or models[-1][1] is not None:
            parser.error(f"--pretrained {values} must follow the --backbone it belongs to")
        else:
            models[-1] = (models[-1][0], values)
        namespace.models = models


def _common(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("models")
    model.add_argument(
        "--backbone",
        metavar="N",
        dest="models",
        action=_Weights,
        help="open_clip model, local-dir:FOLDER or an embedded one; may be repeated (default: all embedded ones)",
    )
    model.add_argument(
        "--pretrained", metavar="T", dest="models", action=_Weights, help="weight tag or checkpoint of that --backbone"
    )
    model.add_argument("--device", help="torch device; default: a GPU where there is one")
    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="F", type=Path, help="write the figures here")
    out.add_argument("--markdown", metavar="F", type=Path, help="write tables for a model card here")


def _on_scenes(args: argparse.Namespace) -> dict[str, Any]:
    args.score_on = args.score_on or "*"
    folder = args.scenes or scenes.default_scenes_dir()
    names = scenes.scene_names(folder, args.score_on)

    from clipoint3d_ros.clip.descriptions import read_classes
    from clipoint3d_ros.evaluation import zero_shot
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.recognition.config import ClassifierConfig

    classes, config = read_classes(args.classes), ClassifierConfig(selection=args.selection or "auto")
    served = {name: Classifier(backbone, classes, config) for name, backbone in _load(args.models, args.device).items()}
    stream = tqdm(zero_shot.read_objects(folder, args.score_on), total=len(names), unit="scene", desc="classify")
    answers = zero_shot.answer(served, stream)
    figures = {name: zero_shot.figures(served[name], said) for name, said in answers.items()}
    scored = next(iter(figures.values()))["per_class"].values()
    return {
        "scenes": len(names),
        "objects": sum(row["n"] for row in scored),
        "score_on": args.score_on,
        "classes": list(classes.names),
        "models": figures,
    }


def _on_raw_scenes(args: argparse.Namespace) -> int:
    from clipoint3d_ros.clip.descriptions import read_classes
    from clipoint3d_ros.evaluation import segmentation
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.resources import EMBEDDED

    if args.markdown:
        raise UsageError("benchmark segmentation writes no --markdown; take --json")
    folder = args.scenes or scenes.default_scenes_dir()
    names, classifier = scenes.scene_names(folder, args.score_on), None
    if not args.masks_only:
        models = args.models or [(EMBEDDED[0], None)]
        if len(models) > 1:
            raise UsageError("benchmark segmentation takes one --backbone")
        (backbone,) = _load(models, args.device).values()
        classifier = Classifier(backbone, read_classes(args.classes))
    stream = tqdm(scenes.read_scenes(folder, args.score_on), total=len(names), unit="scene", desc="segment")
    figures = segmentation.figures(stream, classifier)
    print(segmentation.summary(figures))
    if args.json:
        write_json(args.json, {"score_on": args.score_on, **figures})
    return 0


def _on_shapes(args: argparse.Namespace) -> dict[str, Any]:
    if args.rounds < 0:
        raise UsageError(f"--rounds must be 0 or more, but is {args.rounds}")

    from clipoint3d_ros.evaluation import procedural

    words = procedural.vocabulary()
    backbones = _load(args.models, args.device)
    objects = procedural.held_out_objects(words, args.count, args.cache, args.workers)
    total = len(backbones) * (len(objects.trained.labels) + len(objects.unseen.labels))
    with tqdm(total=total, unit="object", desc="classify") as bar:
        figures = {name: procedural.figures(b, words, objects, bar.update) for name, b in backbones.items()}
    speeds = _speeds(args.models, objects.trained.points[0], args.rounds)
    return {
        "count": args.count,
        "classes": len(words.trained.names),
        "models": {name: {**found, "speed": speeds.get(name)} for name, found in figures.items()},
    }


def _speeds(
    models: Sequence[tuple[str, str | None]] | None, cloud: np.ndarray, rounds: int
) -> dict[str, dict[str, Any]]:
    """{model: its speed on the CPU}, none where no round is wanted."""
    from clipoint3d_ros.evaluation import speed

    if not rounds:
        return {}
    reference = speed.reference_backbone()
    backbones = tqdm(_load(models, "cpu").items(), unit="model", desc="time")
    return {name: speed.compare(backbone, reference, cloud.astype(np.float32), rounds) for name, backbone in backbones}


def _load(models: Sequence[tuple[str, str | None]] | None, device: str | None) -> dict[str, Backbone]:
    """{name in the table: backbone} of those asked for, else of the embedded models."""
    from clipoint3d_ros.clip.backbone import load_backbone
    from clipoint3d_ros.resources import EMBEDDED

    loaded: dict[str, Backbone] = {}
    for name, pretrained in models if models is not None else [(name, None) for name in EMBEDDED]:
        title = f"{name} {pretrained}" if pretrained else name
        if title in loaded:
            raise CommandError(f"--backbone {title} is named twice; name each model once")
        loaded[title] = load_backbone(name, pretrained, device)
    return loaded
