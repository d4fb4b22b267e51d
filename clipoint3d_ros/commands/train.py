"""`clipoint3d train`: few-shot unsupervised adaptation from a labelled source to an unlabelled target."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipoint3d_ros.cli import CommandError

SUMMARY = """Adapt CLIP from a labelled source to an unlabelled target, and write a bundle that the robot serves.

Sources and targets are written as
  procedural                    clean shapes of this package, for the classes it knows
  folders:DIR                   clouds or meshes, one folder a class
  scenes:DIR[:GLOB,…]           labelled depth images of a sensor; of a target the labels are never looked at
  pointda:ROOT:DOMAIN           PointDA-10: modelnet, shapenet or scannet
  graspnet:ROOT:DOMAIN          GraspNetPC-10: synthetic/kinect, real/realsense, …

DIR of --out becomes the bundle, rewritten at every best probe score; DIR.run beside it takes the checkpoint and the
log. The same command goes on where a kill stopped it. Several processes share the work with
`torchrun --nproc-per-node 2 -m clipoint3d_ros train …`."""
EXAMPLE = "clipoint3d train --source procedural --target 'scenes:SCENES:learn*' --shots 64 --out runs/adapter"

LOSSES = ("ce", "ortho", "conf", "transport", "proto", "agree")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, metavar="KIND[:PATH]", help="labelled objects, see above")
    parser.add_argument("--target", metavar="KIND:PATH", help="unlabelled objects; without it only the source is used")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--classes", metavar="FILE", help="class file, or names separated by commas (tabletop)")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone", help="open_clip architecture, local-dir:FOLDER or an embedded one (clipoint3d-tiny)"
    )
    model.add_argument("--pretrained", help="the architecture's tag or checkpoint")
    model.add_argument(
        "--patches",
        choices=("trained", "occupied", "all"),
        default="trained",
        help="of a view, in training and use alike: as the backbone was trained, without empty ones, or all (trained)",
    )
    model.add_argument("--variant", choices=("T", "V", "B"), help="tuned towers: text, vision or both (B)")
    model.add_argument("--device", help="torch device (default: CUDA where there is one)")
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--recipe", type=Path, metavar="FILE", help="YAML file (config/train/clipoint3d.yaml)")
    recipe.add_argument("--shots", type=int, metavar="N", help="labelled source objects a class (64)")
    recipe.add_argument("--steps", type=int, metavar="N", help="of the optimiser")
    recipe.add_argument("--seed", type=int, metavar="N", help="of shots, weights and draws (0)")
    recipe.add_argument("--precision", choices=("fp32", "bf16"), help="of the towers' passes")
    recipe.add_argument(
        "--weight",
        dest="weights",
        metavar="LOSS=W",
        action="append",
        default=[],
        help=f"weight of a loss ({', '.join(LOSSES)}); 0 leaves it out; may be repeated",
    )
    recipe.add_argument(
        "--set",
        dest="changes",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change any value of the recipe, e.g. training.views_at_once=64; may be repeated",
    )
    recipe.add_argument("--stop-at", type=int, metavar="N", help="leave with a checkpoint after this step")
    out = parser.add_argument_group("results")
    out.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    out.add_argument("--tensorboard", type=Path, metavar="DIR", help="log losses and probe score for TensorBoard")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from clipoint3d_ros.adaptation.outcome import adapter_of
    from clipoint3d_ros.adaptation.probing import Probe
    from clipoint3d_ros.adaptation.trainer import Run, prepare, train
    from clipoint3d_ros.clip.backbone import load_backbone, usable_device
    from clipoint3d_ros.clip.bundle import refuse_to_replace_others, save_bundle
    from clipoint3d_ros.clip.descriptions import named_classes, read_classes
    from clipoint3d_ros.datasets.domains import read_domain
    from clipoint3d_ros.evaluation.files import write_json
    from clipoint3d_ros.pretraining.distributed import join

    recipe = _recipe(args)
    refuse_to_replace_others(args.out.resolve())
    config = recipe.training
    classes = read_classes(named_classes(args.classes))
    peers, device = join(usable_device(args.device))
    backbone = load_backbone(args.backbone, args.pretrained, device, patches=args.patches)
    target = read_domain(args.target, classes, count=0, seed=config.seed) if args.target else None
    source = read_domain(args.source, classes, count=config.shots + config.probe, seed=config.seed)
    material = prepare(source, target, recipe)
    if peers.first:
        _tell(material, target)
    told = {"source": args.source, "target": args.target}
    state = args.out.with_name(f"{args.out.name}.run")
    log, close = _logs(state, args.tensorboard) if peers.first else (lambda step, figures: None, lambda: None)
    bar = tqdm(total=config.steps, desc="training", unit="step", disable=not peers.first)

    def report(step: int, figures: dict[str, float]) -> None:
        bar.update(step - bar.n)
        shown = ("loss", *LOSSES, "accuracy", "probe")
        bar.set_postfix({k: f"{figures[k]:.3f}" for k in shown if k in figures})
        log(step, figures)

    def keep(run: Run, probe: Probe) -> None:
        network, adapter = adapter_of(run, backbone, classes, material, recipe, told, early=True)
        save_bundle(args.out, network, backbone, adapter)

    try:
        finished = train(backbone, classes, material, recipe, state, report, keep, args.stop_at, peers=peers)
    except FloatingPointError as error:
        raise CommandError(str(error)) from None
    finally:
        bar.close()
        close()
    peers.wait()
    peers.leave()
    if not peers.first:
        return 0
    if finished.step < config.steps:
        print(f"stopped after step {finished.step}; run the same command without --stop-at to go on")
        return 0
    network, adapter = adapter_of(finished, backbone, classes, material, recipe, told)
    save_bundle(args.out, network, backbone, adapter)
    probe = adapter.probe
    if finished.kept_step == 0 and adapter.statistics is None:
        print("no certain gain on the probe set: the bundle answers as the frozen model does")
    print(
        f"probe set, {probe['objects']} looks: macro {probe['macro_accuracy']:.1%} at step {finished.kept_step}, "
        f"frozen {probe['frozen_macro_accuracy']:.1%}; bundle in {args.out}"
    )
    if args.json:
        figures = {**probe, "step": finished.kept_step, "temperature": adapter.temperature, "version": adapter.version}
        write_json(args.json, figures)
    return 0


def _recipe(args: argparse.Namespace) -> Any:
    from clipoint3d_ros.adaptation.config import TARGET_LOSSES, load_recipe
    from clipoint3d_ros.resources import config_file

    changes = [] if args.target else [f"losses.{name}=0" for name in TARGET_LOSSES]
    changes += args.changes
    for word in args.weights:
        name, equals, _ = word.partition("=")
        if name not in LOSSES or not equals:
            raise CommandError(f"--weight {word} must read LOSS=W with a loss of {', '.join(LOSSES)}")
        changes.append(f"losses.{word}")
    given = {"network.variant": args.variant}
    given.update({f"training.{name}": getattr(args, name) for name in ("shots", "steps", "seed", "precision")})
    changes += [f"{key}={value}" for key, value in given.items() if value is not None]
    return load_recipe(args.recipe or config_file("train/clipoint3d.yaml"), changes)


def _tell(material: Any, target: Any) -> None:
    print(f"source: {len(material.source)} labelled objects, probe set: {len(material.probe)} looks at others")
    if target is not None:
        print(f"target: {len(target)} unlabelled objects of {target.domain}")
        seen = material.scans is not None
        print(
            f"the source is also shown as the target's sensor would see it: {len(material.scans)} scans"
            if seen
            else "no scans: source is not complete, units differ, the target has no viewpoints, or training.scans is 0"
        )


def _logs(state: Path, tensorboard: Path | None) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    """A function that logs a step's figures to `log.jsonl` and TensorBoard, and one that closes them."""
    state.mkdir(parents=True, exist_ok=True)
    lines = (state / "log.jsonl").open("a", buffering=1)
    writer = None
    if tensorboard is not None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise CommandError(
                f"--tensorboard needs the package tensorboard ({error}); pip install tensorboard"
            ) from None
        writer = SummaryWriter(str(tensorboard))

    def log(step: int, figures: dict[str, float]) -> None:
        lines.write(json.dumps({"step": step, **{k: round(v, 5) for k, v in figures.items()}}) + "\n")
        if writer is not None:
            for name, value in figures.items():
                writer.add_scalar(name, value, step)

    def close() -> None:
        lines.close()
        if writer is not None:
            writer.close()

    return log, close
