"""Rows from predictions made by hand."""

import json

import numpy as np
import pytest
import torch

from clipoint3d_ros.adaptation.config import Recipe
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.adaptation.looking import Looks
from clipoint3d_ros.evaluation.adaptation.protocol import Protocol
from clipoint3d_ros.evaluation.adaptation.rows import by_views, count, rows
from clipoint3d_ros.evaluation.adaptation.runs import Cell, Plan, Start
from clipoint3d_ros.evaluation.files import write_json

START = Start("small", "tag")


def scored(labels, scenes, eyes=True, names=("box", "can", "mug")):
    clouds = tuple(np.zeros((1, 3), np.float32) for _ in labels)
    viewpoints = np.zeros((len(labels), 3), np.float32) if eyes else None
    return Objects("made", names, clouds, np.array(labels), np.array(scenes), viewpoints=viewpoints)


def said(predictions, classes=3):
    """Looks all of whose views say so."""
    logits = 5 * torch.eye(classes)[torch.tensor(predictions)]
    return Looks(logits[:, None].repeat(1, 10, 1), torch.full((len(predictions), 10), 0.1))


def table(objects, answers, seeds=(0, 1), starts=(START,), tmp=None):
    """The rows of {method: one list of predictions a seed}."""
    protocol = Protocol("learn*", describe(list(objects.classes)), lambda seed: objects, objects, objects)
    plan = Plan(lambda: (protocol,), starts, tuple(answers), seeds, Recipe(), tmp)
    looks = {
        Cell(0, start, method, seed): said(predictions, len(objects.classes))
        for start in starts
        for method, each in answers.items()
        for seed, predictions in zip(seeds, each, strict=False)
    }
    return rows(plan, (protocol,), looks)


def of(found, method, views="ten", start=START.title):
    (row,) = (r for r in found if (r["method"], r["views"], r["start"]) == (method, views, start))
    return row


@pytest.fixture(scope="module")
def found():
    """Five objects in three scenes; no mug. Two seeds."""
    objects = scored([0, 0, 0, 1, 1], [4, 4, 7, 7, 9])
    return table(
        objects,
        {
            "zero-shot": [[0, 1, 1, 1, 1]],
            "linear probe": [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0]],
            "prompts only": [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]],
            "CLIPoint3D-B": [[0, 0, 0, 1, 1], [0, 0, 0, 2, 1]],
        },
    )


def test_accuracies_by_hand(found):
    row = of(found, "linear probe")
    assert row["accuracy_by_seed"] == [3 / 5, 3 / 5]
    assert row["accuracy"] == pytest.approx(3 / 5)
    assert row["accuracy_std"] == 0
    assert row["macro_by_seed"] == pytest.approx([(2 / 3 + 1 / 2) / 2, (1 + 0) / 2])
    assert row["macro_accuracy"] == pytest.approx((7 / 12 + 1 / 2) / 2)
    assert row["macro_std"] == pytest.approx(1 / 24), "the seeds' spread"
    assert (row["objects"], row["scenes"], row["seeds"]) == (5, 3, [0, 1])
    assert (row["protocol"], row["start"], row["views"], row["policy"]) == ("learn*", "small tag", "ten", "entropy")
    assert row["per_class"] == {
        "box": {"n": 3, "accuracy": pytest.approx((2 / 3 + 1) / 2)},
        "can": {"n": 2, "accuracy": pytest.approx((1 / 2 + 0) / 2)},
        "mug": {"n": 0, "accuracy": None},
    }


def test_rows_come_by_views_in_the_plans_order(found):
    names = ["zero-shot", "linear probe", "prompts only", "CLIPoint3D-B"]
    assert [(r["views"], r["method"]) for r in found] == [(v, n) for v in ("ten", "sensor") for n in names]
    assert {r["policy"] for r in found if r["views"] == "sensor"} == {"sensor"}


def test_the_base_is_the_best_source_only_row(found):
    # Macro accuracies: linear probe 13/24, prompts only 2/3, ours 11/12 over both seeds.
    row = of(found, "CLIPoint3D-B")
    assert row["gain_base"] == "prompts only"
    assert row["gain"] == pytest.approx((1 + 3 / 4) / 2 - 2 / 3)
    assert row["over_frozen_base"] == "zero-shot"
    assert row["over_frozen"] == pytest.approx((1 + 3 / 4) / 2 - 2 / 3)
    assert row["over_frozen_ci95"][0] <= row["over_frozen"] <= row["over_frozen_ci95"][1]


@pytest.mark.parametrize("views", ["ten", "sensor"])
def test_methods_that_say_the_same_have_no_gain_over_each_other(found, views):
    row = of(found, "prompts only", views)
    assert (row["over_frozen"], row["over_frozen_ci95"]) == (0.0, [0.0, 0.0])
    assert (row["gain"], row["gain_ci95"]) == (0.0, [0.0, 0.0])


def test_gains_are_paired_by_scene():
    """In every scene ours is right on one object more, however hard the scene is."""
    base, ours, scenes = [], [], []
    for scene in range(12):
        right = scene % 3
        base += [0] * right + [1] * (4 - right)
        ours += [0] * (right + 1) + [1] * (3 - right)
        scenes += [scene] * 4
    found = table(scored([0] * 48, scenes), {"LoRA only": [base], "CLIPoint3D-V": [ours]}, seeds=(0,))
    row = of(found, "CLIPoint3D-V")
    assert row["macro_ci95"][1] - row["macro_ci95"][0] > 0.1, "scenes differ"
    assert row["gain"] == pytest.approx(1 / 4)
    assert row["gain_ci95"] == pytest.approx([1 / 4, 1 / 4]), "but the gain is the same in each"
    assert row["over_frozen"] is row["over_frozen_ci95"] is row["over_frozen_base"] is None


def test_without_a_source_only_row_there_is_no_gain():
    row = of(table(scored([0, 1], [0, 1]), {"CLIPoint3D-T": [[0, 1]]}, seeds=(0,)), "CLIPoint3D-T")
    assert row["gain"] is row["gain_ci95"] is row["gain_base"] is None


def test_intervals_contain_the_mean_and_narrow_with_the_scenes():
    rng = np.random.default_rng(0)
    widths = []
    for scenes in (10, 160):
        labels = rng.integers(3, size=4 * scenes)
        answers = [np.where(rng.random(len(labels)) < 0.7, labels, (labels + 1) % 3).tolist() for _ in range(2)]
        row = of(table(scored(labels, np.arange(len(labels)) // 4), {"CLIPoint3D-B": answers}), "CLIPoint3D-B")
        for key, mean in (("accuracy_ci95", "accuracy"), ("macro_ci95", "macro_accuracy")):
            low, high = row[key]
            assert 0 <= low < row[mean] < high <= 1
        widths.append(row["macro_ci95"][1] - row["macro_ci95"][0])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.4)


def test_scenes_are_drawn_and_not_objects():
    """Each scene is half right: whatever scenes are drawn, the accuracy stays."""
    row = of(table(scored([0] * 8, np.arange(8) // 2), {"zero-shot": [[0, 1] * 4]}), "zero-shot")
    assert row["accuracy_ci95"] == [0.5, 0.5]


def test_a_method_that_no_seed_changes_shows_one_and_is_compared_with_all(found):
    assert of(found, "zero-shot")["seeds"] == [0]
    assert len(of(found, "zero-shot")["macro_by_seed"]) == 1


def test_a_3d_encoders_row_is_the_same_from_every_start():
    starts = (START, Start("other"))
    answers = {"PointNet": [[0, 0], [0, 1]], "CLIPoint3D-B": [[0, 1], [0, 1]]}
    found = table(scored([0, 1], [0, 1]), answers, starts=starts)
    first, second = (of(found, "PointNet", start=start.title) for start in starts)
    assert {**first, "start": None} == {**second, "start": None}


def test_pointclip_looks_at_all_ten_views_evenly():
    found = table(scored([0, 1], [0, 1]), {"PointCLIP": [[0, 1]]})
    assert [(row["views"], row["policy"]) for row in found] == [("ten", "all"), ("sensor", "sensor")]


def test_sensor_facing_rows_need_a_sensor():
    found = table(scored([0, 1], [0, 1], eyes=False), {"zero-shot": [[0, 1]]})
    assert [row["views"] for row in found] == ["ten"]


@pytest.mark.parametrize("labels", [[0, 0, 0], [2, 0, 2]])
def test_rows_can_be_written_as_json_whatever_classes_are_missing(tmp_path, labels):
    answers = {"zero-shot": [[0, 0, 0]], "LoRA only": [[1, 1, 1], [2, 2, 2]]}
    found = table(scored(labels, [0, 1, 2]), answers)
    write_json(tmp_path / "rows.json", {"rows": found})
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["per_class"]["can"] == {"n": 0, "accuracy": None}


def test_counts_are_by_seed_scene_and_class():
    counts = count([np.array([0, 1, 1]), np.array([0, 0, 2])], scored([0, 0, 1], [5, 8, 8]))
    assert counts.total.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert counts.right.tolist() == [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]]


@pytest.mark.parametrize("eyes", [True, False])
def test_one_method_by_its_views(eyes):
    objects = scored([0, 0, 1], [0, 1, 1], eyes)
    looks = said([0, 1, 1])
    looks.logits[:, 5:] = 20 * torch.eye(3)[torch.tensor([0, 0, 0])][:, None]  # five views surer of another answer
    looks.facing[:] = torch.tensor([0.2] * 5 + [0.0] * 5)
    protocol = Protocol("learn*", describe(list(objects.classes)), lambda seed: objects, objects, objects)
    plan = Plan(lambda: (protocol,), (START,), ("CLIPoint3D-B",), (3,), Recipe(), None)
    found = by_views(
        plan, (protocol,), {Cell(0, START, "CLIPoint3D-B", 3): looks}, "CLIPoint3D-B", ("entropy", "sensor", "first-5")
    )
    told = {row["policy"]: row["accuracy"] for row in found}
    expected = {"entropy": 2 / 3, "sensor": 2 / 3, "first-5": 2 / 3}
    assert told == {key: pytest.approx(value) for key, value in expected.items() if eyes or key != "sensor"}
    by_class = {row["policy"]: row["per_class"]["can"]["accuracy"] for row in found}
    assert (by_class["entropy"], by_class["first-5"]) == (0.0, 1.0), "the surer views, and the first ones"
    for row in found:
        assert (row["method"], row["start"], row["protocol"]) == ("CLIPoint3D-B", "small tag", "learn*")
        assert (row["seeds"], row["objects"], row["scenes"]) == ([3], 3, 2)
        assert row["macro_ci95"][0] <= row["macro_accuracy"] <= row["macro_ci95"][1]
