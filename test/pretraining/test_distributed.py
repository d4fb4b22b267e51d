"""Two processes of torchrun train one model: averaged gradients, one folder."""

import json
import os
import subprocess
import sys

import pytest
import torch

from clipoint3d_ros.pretraining.distributed import Peers, join

SCRIPT = """
import sys, torch
from clipoint3d_ros.pretraining.distributed import join
peers, device = join(torch.device("cpu"))
a, b = torch.full((2, 2), float(peers.rank)), torch.tensor([peers.rank + 10.0])
peers.average([a, b])
assert torch.equal(a, torch.full((2, 2), 0.5)) and b.item() == 10.5, (a, b)
peers.wait()
if peers.first:
    open(sys.argv[1], "w").write(str(peers.count))
peers.leave()
"""
CONFIG = """
name: pair
corpus: {classes: tabletop, complete: 12, tabletop_scenes: 16, floor_scenes: 0, points: 256}
model: {embed_dim: 16, image_size: 32, vision_width: 32, vision_layers: 1, vision_head_width: 16, stem: [4, 8, 16],
        text_width: 16, text_layers: 1, text_heads: 2}
training: {steps: 4, objects: 8, views: 2, warmup: 2, precision: fp32, checkpoint_every: 2}
"""


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def test_alone_there_is_nothing_to_average():
    peers, device = join(torch.device("cpu"))
    assert peers == Peers(0, 1)
    assert device == torch.device("cpu")
    value = torch.tensor([3.0])
    peers.average([value])
    peers.wait()
    peers.leave()
    assert value.item() == 3.0


@pytest.mark.slow
def test_two_processes_average_their_tensors(tmp_path):
    script = tmp_path / "average.py"
    script.write_text(SCRIPT)
    torchrun(str(script), str(tmp_path / "count"))
    assert (tmp_path / "count").read_text() == "2"


@pytest.mark.slow
def test_torchrun_pretrains_one_model(tmp_path):
    config = tmp_path / "pair.yaml"
    config.write_text(CONFIG)
    torchrun("-m", "clipoint3d_ros", "pretrain", str(config), "--out", str(tmp_path / "out"), "--cache", str(tmp_path))
    assert (tmp_path / "out" / "pair" / "open_clip_model.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4], "one of the two writes"
