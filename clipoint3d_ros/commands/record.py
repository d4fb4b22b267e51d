"""`clipoint3d record`: scene folder to labelled rosbag2."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation.bags import POINTS_TOPIC, TRUTH_TOPIC, Topics
from clipoint3d_ros.evaluation.recording import RecordConfig, record

SUMMARY = "Write a folder of labelled depth scenes as a rosbag2 (mcap): labelled clouds and their ground truth."
EXAMPLE = "clipoint3d record --scenes ../shared/data/mosd tabletop_bag --only 'test*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("out", metavar="OUT", type=Path, help="the bag's folder; must not exist yet")
    parser.add_argument("--scenes", metavar="DIR", type=Path, required=True, help="scene folder (scenes.json, scenes/)")
    parser.add_argument("--rate", metavar="HZ", type=float, default=2.0, help="stamps a second (default: 2)")
    parser.add_argument("--only", metavar="GLOB", action="append", help="only scenes of such names; may be repeated")
    parser.add_argument("--points-topic", metavar="T", default=POINTS_TOPIC, help=f"default: {POINTS_TOPIC}")
    parser.add_argument("--truth-topic", metavar="T", default=TRUTH_TOPIC, help=f"default: {TRUTH_TOPIC}")


def run(args: argparse.Namespace) -> int:
    """Record the folder; 0 when the bag is complete."""
    only = args.only or "*"
    config = RecordConfig(rate=args.rate, topics=Topics(args.points_topic, args.truth_topic))
    names = scenes.scene_names(args.scenes, only)

    def stream():  # begun once the bag may be written
        yield from tqdm(scenes.read_scenes(args.scenes, only), total=len(names), unit="scene", desc="record")

    count = record(args.out, stream(), config)
    made = "1 scene" if count == 1 else f"{count} scenes"
    print(f"{args.out}: {made} at {config.rate:g} Hz on {args.points_topic}, truth on {args.truth_topic}")
    return 0
