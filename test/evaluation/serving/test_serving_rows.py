"""The bench's rows: each adds one saving, and their times and accuracies are of the same objects."""

import dataclasses

import numpy as np
import pytest
import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.evaluation.serving import accuracy, timing
from clipoint3d_ros.evaluation.serving.machine import matrix_rate, tower_operations
from clipoint3d_ros.evaluation.serving.rows import serving_rows
from clipoint3d_ros.evaluation.zero_shot import NamedObject

CLASSES = describe(["box", "mug", "bowl"])


@pytest.fixture(scope="module")
def backbones(small_model_folder):
    own = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    every = dataclasses.replace(own, preprocessing=dataclasses.replace(own.preprocessing, drop_empty=False))
    return {"trained": own, "occupied": own, "all": every}


def clouds(count=4):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(300, 3)) * 0.05 + rng.normal(size=3)).astype(np.float32) for _ in range(count)]


def test_every_row_is_timed_by_stage(backbones):
    rows = serving_rows("fp32")
    found = timing.measure(backbones, rows, CLASSES, clouds(), 5, 2, 0.5, False)
    assert list(found) == [row.name for row in rows] == ["one_pass", "exact", "occupied", "facing", "served"]
    for name, row in found.items():
        assert row["ms_per_object"] > 0, name
        assert 0 < row["matrix_share"] < 1.5, f"{name} is faster than the machine: {row['matrix_share']}"
        for stage in row["stages_ms"].values():
            assert stage["p50"] <= stage["p95"] <= stage["p99"]


def test_a_given_share_of_objects_is_in_doubt(backbones):
    row = serving_rows("fp32")[-1]
    served = timing.classifier_of(row, backbones["occupied"], CLASSES, 0.25)
    projection = served.project(clouds(4), viewpoint=timing.SENSOR)
    assert [int(served._in_doubt(projection, projection.images[:1]).sum()) for _ in range(8)] == [0, 0, 0, 1] * 2
    looked = served.encode(projection).any(-1).sum(1)
    assert sorted((looked > 2).tolist()) == [False, False, False, True]


def test_exact_rows_agree_and_no_row_looks_at_more_than_the_one_before(backbones):
    scene = [NamedObject("s", name, cloud) for name, cloud in zip(["box", "mug", "bowl", "cup"], clouds(), strict=True)]
    found = accuracy.measure(backbones, serving_rows("fp32"), CLASSES, [scene, []])
    assert found["exact"]["agreement"] == 1.0
    assert found["exact"]["largest_difference"] < 1e-5
    assert found["exact"]["objects"] == 3, "a cup is none of the classes"
    looked = [row["views"] for row in found.values()]
    assert looked[0] == 10
    assert looked == sorted(looked, reverse=True)
    with pytest.raises(ValueError, match="among the classes"):
        accuracy.measure(backbones, serving_rows("fp32"), CLASSES, [scene[3:]])


def test_growth_is_told_for_every_count(backbones):
    row = serving_rows("fp32")[-1]
    grown = timing.growth(backbones["occupied"], row, CLASSES, clouds(), [1, 3], [500, 5000], 0.25)
    assert list(grown["objects"]) == ["1", "3"]
    assert list(grown["points"]) == ["500", "5000"]
    assert min([*grown["objects"].values(), *grown["points"].values()]) > 0


def test_a_vit_b_16_takes_the_published_operations():
    from open_clip.transformer import VisionTransformer

    with torch.device("meta"):
        tower = VisionTransformer(224, 16, 768, 12, 12, 4.0, output_dim=512)
    assert tower_operations(tower) == pytest.approx(35e9, rel=0.02), "17.5 G multiply-adds an image"
    assert matrix_rate(torch.float32, torch.device("cpu"), 128, 2) > 1e8
