"""Segments against the truth: every object has one fate, and the chain is never better than its masks allow."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipoint3d_ros.cli import main
from clipoint3d_ros.datasets import scenes, tabletop
from clipoint3d_ros.evaluation.segmentation import figures, overlap, summary

TRUTH = np.repeat([0, 1, 2, 3], 100)


def test_the_truth_itself_is_matched_whatever_its_numbers():
    found = overlap(TRUTH, np.repeat([0, 1, 9, 4], 100))
    assert found.fate == ("matched", "matched")
    assert found.iou.tolist() == [1.0, 1.0]
    assert found.segment.tolist() == [9, 4]
    assert found.extra == 0


@pytest.mark.parametrize(
    ("labels", "fates", "iou"),
    [
        (np.repeat([0, 1, 2, 2], 100), ("matched", "under_segmented"), [0.5, 0.0]),  # one segment over both
        (np.repeat([0, 1, 2, 3, 4, 5], [100, 100, 40, 35, 25, 100]), ("over_segmented", "matched"), [0.4, 1.0]),
        (np.repeat([0, 1, 0, 3], 100), ("missed", "matched"), [0.0, 1.0]),
        (np.repeat([0, 2, 2, 3], 100), ("matched", "matched"), [0.5, 1.0]),  # half of the segment is the table
        (np.repeat([2, 2, 2, 3], 100), ("under_segmented", "matched"), [1 / 3, 1.0]),
        (np.zeros(400, int), ("missed", "missed"), [0.0, 0.0]),
    ],
)
def test_each_object_has_one_fate(labels, fates, iou):
    found = overlap(TRUTH, labels)
    assert found.fate == fates
    np.testing.assert_allclose(found.iou, iou)


def test_segments_on_nothing_and_small_objects_are_told_apart():
    found = overlap(np.repeat([0, 2, 3], [300, 150, 20]), np.repeat([7, 0, 2, 3], [200, 100, 150, 20]))
    assert found.ids == (2,)
    assert found.extra == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw")
    camera = tabletop.DepthCamera().scaled(1 / 2)
    rng = np.random.default_rng(0)
    scenes.write_folder(path, (tabletop.simulate(f"s{i}", ["box", "mug"], rng, None, camera) for i in range(3)))
    return path


def test_simulated_scenes_are_mostly_segmented(folder):
    told = figures(scenes.read_scenes(folder))
    fates = [told[f] for f in ("matched", "over_segmented", "under_segmented", "missed")]
    assert sum(fates) == told["objects"] > 3
    assert told["mean_iou"] > 0.5  # of half a Kinect's resolution
    assert told["chain"] is None
    assert 0 < told["ms"]["p50"] <= told["ms"]["max"]
    assert f"{told['mean_iou']:.3f}" in summary(told)


def test_no_objects_are_nothing_to_score(folder):
    with pytest.raises(ValueError, match="nothing to score"):
        figures([])


def test_the_command_scores_the_chain_beside_the_truth_s_masks(folder, small_model_folder, tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = ["benchmark", "segmentation", "--scenes", str(folder), "--backbone", f"local-dir:{small_model_folder}"]
    assert main([*words, "--device", "cpu", "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["scenes"] == 3
    assert told["chain"]["matched"] <= told["chain"]["objects"]
    assert told["chain"]["segments"]["accuracy"] <= told["chain"]["matched"] / told["chain"]["objects"]
    assert "raw cloud → segments → names" in capsys.readouterr().out


def test_the_command_scores_masks_alone_without_a_model(folder, tmp_path, capsys):
    out = tmp_path / "masks.json"
    assert main(["benchmark", "segmentation", "--scenes", str(folder), "--masks-only", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["chain"] is None
    assert main(["benchmark", "segmentation", "--scenes", str(folder / "none")]) == 1
    assert "no scene folder" in capsys.readouterr().err
