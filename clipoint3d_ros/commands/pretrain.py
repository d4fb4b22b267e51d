"""`clipoint3d pretrain`: train an embedded CLIP from procedural shapes."""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict
from pathlib import Path

SUMMARY = """Train a small CLIP contrastively on procedural objects, complete and as simulated sensors see them.

Several processes share the work with `torchrun --nproc-per-node 2 -m clipoint3d_ros pretrain CONFIG --out DIR`."""
EXAMPLE = "clipoint3d pretrain config/pretrain/clipoint3d-tiny.yaml --out runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the model's YAML file, see config/pretrain")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and the published model")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/corpus"), help="folder of generated clouds (%(default)s)"
    )
    parser.add_argument(
        "--set",
        dest="changes",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a value of the file, e.g. training.steps=800 or model.size_token=false; may be repeated",
    )
    parser.add_argument("--stop-at", type=int, help="leave with a checkpoint after this step; run again to go on")
    parser.add_argument("--workers", type=int, default=2, help="processes that generate clouds (%(default)s)")
    parser.add_argument("--device", default=None, help="torch device (default: CUDA where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the held-out figures here")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from clipoint3d_ros.clip.backbone import LOCAL_DIR, load_backbone, usable_device
    from clipoint3d_ros.clip.descriptions import load_descriptions
    from clipoint3d_ros.evaluation.files import write_json
    from clipoint3d_ros.pretraining import heldout
    from clipoint3d_ros.pretraining.config import load_pretrain_config
    from clipoint3d_ros.pretraining.corpus import generate
    from clipoint3d_ros.pretraining.distributed import join
    from clipoint3d_ros.pretraining.training import publish, train
    from clipoint3d_ros.resources import config_file

    config = load_pretrain_config(args.config, args.changes)
    peers, device = join(usable_device(args.device))
    classes = load_descriptions(config_file(f"classes/{config.corpus.classes}.yaml"))
    if peers.first:
        generate(classes.names, config.corpus, args.cache, args.workers)
    peers.wait()
    corpus = generate(classes.names, config.corpus, args.cache, workers=0, progress=False)
    if peers.first:
        print(f"{len(corpus.labels)} clouds, {int(corpus.camera.sum())} of them seen by simulated sensors")

    bar = tqdm(total=config.training.steps, desc="training", unit="step", disable=not peers.first)

    def report(step: int, figures: dict[str, float]) -> None:
        bar.update(step - bar.n)
        if step % 10 == 0:
            bar.set_postfix({k: f"{figures[k]:.3f}" for k in ("loss", "view", "accuracy")})

    finished = train(config, corpus, classes, args.out, device, args.stop_at, report, peers)
    bar.close()
    peers.leave()
    if not peers.first:
        return 0
    if finished.step < config.training.steps:
        print(f"stopped after step {finished.step}; run the same command without --stop-at to go on")
        return 0

    model = args.out / config.name
    facts = {"steps": finished.step, "seed": config.training.seed, "clouds": len(corpus.labels)}
    publish(finished, config, model, {"training": facts})
    held_out = generate(classes.names, heldout.held_out_config(config.corpus), args.cache, args.workers)
    figures = heldout.measure(load_backbone(f"{LOCAL_DIR}{model}", device=device), classes, held_out)
    measured = {key: round(value, 4) for key, value in asdict(figures).items()}
    fitted = {key: measured.pop(key) for key in ("temperature", "unknown_logit")}
    publish(finished, config, model, {**fitted, "training": {**facts, "held_out": measured}})
    told = f"complete {figures.complete:.1%}, camera {figures.camera:.1%}; temperature {figures.temperature:.2f}"
    print(f"held out, macro of {len(classes.names)} classes: {told}; in {model}")
    if args.json:
        ran = {"minutes": finished.seconds / 60, "machine": platform.processor() or platform.machine()}
        write_json(args.json, {**asdict(figures), **facts, **ran})
    return 0
