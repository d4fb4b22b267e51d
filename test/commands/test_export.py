"""`clipoint3d export`."""

import json
import subprocess

import pytest
import torch
from labelled import untrained_backbone

from clipoint3d_ros.cli import main
from clipoint3d_ros.recognition.classifier import Classifier


@pytest.fixture
def runtime():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'clipoint3d_ros[onnx]'")
    return pytest.importorskip("onnxruntime")


def test_patches_are_those_that_the_node_serves(tmp_path, runtime):
    backbone = untrained_backbone(tmp_path / "model")  # trained with all patches
    views = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    views[:, :20] = 1  # empty patches
    served = Classifier.load(backbone=backbone, device="cpu", patches="occupied").backbone.encode_views(views)
    found = {}
    for patches in ("trained", "occupied"):
        out = tmp_path / patches
        assert main(["export", str(out), "--backbone", backbone, "--patches", patches]) == 0
        session = runtime.InferenceSession(str(out / "tower.onnx"), providers=["CPUExecutionProvider"])
        found[patches] = torch.from_numpy(session.run(None, {"views": views.numpy()})[0])
    assert (found["occupied"] - served).abs().max() < 1e-4, "the exported tower is not the served one"
    assert (found["trained"] - served).abs().max() > 1e-3, "patches change nothing here, so the test says nothing"


def test_a_model_is_exported_with_its_script_and_agrees(small_model_folder, tmp_path, capsys, runtime):
    out, report = tmp_path / "out", tmp_path / "new" / "report.json"
    words = ["export", str(out), "--backbone", f"local-dir:{small_model_folder}", "--json", str(report)]
    assert main(words) == 0
    assert "agrees with torch" in capsys.readouterr().out
    row = json.loads(report.read_text())
    assert 0 <= row["worst_difference"] <= row["tolerance"]
    assert sorted(path.name for path in out.iterdir()) == ["build_engine.sh", "tower.onnx"]
    # The script runs trtexec beside the file; here one that only repeats its words.
    fake = tmp_path / "bin" / "trtexec"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\npwd; echo "$@"\n')
    fake.chmod(0o755)
    said = subprocess.run(
        [out / "build_engine.sh", "--int8"],
        env={"PATH": f"{fake.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    folder, given = said.stdout.splitlines()
    assert folder == str(out)
    assert given.startswith("--onnx=tower.onnx --saveEngine=tower.engine --fp16 --minShapes=views:1x")
    assert given.endswith("--int8")


def test_views_that_no_engine_can_take_are_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--usual-views", "9", "--max-views", "3"]) == 2
    assert "--max-views 3" in capsys.readouterr().err
