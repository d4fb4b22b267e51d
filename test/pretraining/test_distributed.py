"""Two processes of torchrun train one model: shared work, averaged gradients, one folder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from domains_made import solids
from labelled import scene_folder
from safetensors.torch import load_file

from clipoint3d_ros import cli
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
GATHER = """
import torch
from clipoint3d_ros.pretraining.distributed import Peers, join

def loss(peers, weight, scale):
    # The weight acts on each process's own rows, and on the whole.
    gathered = peers.gather(whole[peers.share(5)] * weight, 5)
    assert gathered.shape == (5, 3)
    return scale * (gathered * weight[0]).square().sum(), gathered

peers, _ = join(torch.device("cpu"))
whole = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
found = []
for one in (Peers(), peers):
    weight, scale = torch.tensor([2.0, 3.0, 4.0], requires_grad=True), torch.tensor(1.5, requires_grad=True)
    total, gathered = loss(one, weight, scale)
    total.backward()
    one.average([weight.grad, scale.grad])
    found.append((gathered.detach(), total.detach(), weight.grad, scale.grad))
for alone, shared in zip(*found):
    torch.testing.assert_close(alone, shared)
peers.leave()
"""
RECIPE = """
network: {rank: 2, dropout: 0.0, points: 32}
losses: {agree: 1.0}
transport: {unbalanced: 0.5, iterations: 20}
training: {shots: 1, probe: 1, steps: 2, objects: 3, views: 2, points: 64, scans: 2, warmup: 1,
           patches: 6, optimiser: sgd, learning_rate: 0.3, probe_every: 2, checkpoint_every: 2, keep_margin: 1.0,
           certain: 0.0}
"""
CONFIG = """
name: pair
corpus: {classes: tabletop, complete: 8, tabletop_scenes: 4, floor_scenes: 0, points: 256}
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


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_rows_evenly_and_in_order(count):
    for size in (0, 1, 6, 7, 100):
        parts = [Peers(rank, count).share(size) for rank in range(count)]
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(size))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_alone_the_rows_are_the_whole():
    rows = torch.ones(4, 2, requires_grad=True)
    assert Peers().gather(rows, 4) is rows


@pytest.mark.slow
def test_two_processes_see_all_rows_and_their_averaged_gradient_is_that_of_one(tmp_path):
    script = tmp_path / "gather.py"
    script.write_text(GATHER)
    torchrun(str(script))


@pytest.mark.slow
def test_torchrun_trains_one_bundle_that_is_the_one_of_a_single_process(small_model_folder, tmp_path):
    objects = solids(each=2, classes=("box", "can"))
    for i, (cloud, label) in enumerate(zip(objects.clouds, objects.labels, strict=True)):
        (tmp_path / "shapes" / objects.classes[label]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "shapes" / objects.classes[label] / f"{i}.npy", cloud)
    scene_folder(tmp_path / "scenes", count=1)
    (tmp_path / "pair.yaml").write_text(RECIPE)
    words = [
        *("train", "--source", f"folders:{tmp_path / 'shapes'}", "--target", f"scenes:{tmp_path / 'scenes'}"),
        *("--classes", "box,can", "--recipe", str(tmp_path / "pair.yaml"), "--device", "cpu"),
        *("--backbone", f"local-dir:{small_model_folder}"),
    ]
    (tmp_path / "two").mkdir()
    torchrun("-m", "clipoint3d_ros", *words, "--out", str(tmp_path / "two" / "adapter"))
    assert cli.main([*words, "--out", str(tmp_path / "one" / "adapter")]) == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["adapter", "adapter.run"]

    def left(folder):
        lines = (tmp_path / folder / "adapter.run" / "log.jsonl").read_text().splitlines()
        meta = json.loads((tmp_path / folder / "adapter" / "bundle.json").read_text())
        return load_file(tmp_path / folder / "adapter" / "adapter.safetensors"), meta, [json.loads(x) for x in lines]

    (alone, meta, log), (shared, shared_meta, shared_log) = left("one"), left("two")
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    assert shared_meta["version"] == meta["version"] == 3
    assert shared_meta["temperature"] == pytest.approx(meta["temperature"], rel=0.05)
    assert [line["step"] for line in shared_log] == [1, 2], "one of the two writes"
    for line, other in zip(log, shared_log, strict=True):
        for name in line.keys() - {"seconds"}:
            assert other[name] == pytest.approx(line[name], rel=1e-2, abs=1e-3), f"{name} of step {line['step']}"
