"""Which views first: what the learner makes of views that are made to be good or bad."""

import json

import numpy as np
import pytest
import torch

from clipoint3d_ros import cli
from clipoint3d_ros.evaluation.serving.learning import Said, figures, look_over, on_demand, threshold, view_order
from clipoint3d_ros.recognition.classifier import Classifier


def made(objects=60, sharp=(3, 1)):
    """Logits (M, 5, 4): view 3 names every object rightly, view 1 most of them, the others hardly say a thing."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(objects) % 4
    logits = torch.randn(objects, 5, 4, generator=rng) * 0.05
    logits[torch.arange(objects), sharp[0], truth] += 8
    right = torch.arange(objects) % 10 != 0
    logits[right, sharp[1], truth[right]] += 5
    return logits, torch.full((objects, 5), 0.2)


def test_the_view_that_tells_most_comes_first():
    order = view_order(made()[0])
    assert order[0] == 3
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_doubting_everything_agrees_with_all_views_and_costs_them_all():
    logits, weights = made()
    first = torch.tensor([False, True, False, True, False]).expand(60, -1)
    found = on_demand(logits, weights, first, 0.0, True)
    assert (found.agreement, found.doubt, found.views) == (1.0, 1.0, 5.0)
    quick = on_demand(logits, weights, first, 0.3, False)
    assert quick.agreement == 1.0
    assert 2.0 < quick.views < 3.0, "one object in ten has a view that says nothing, which leaves a doubt"


def test_the_threshold_falls_where_views_mislead():
    logits, weights = made()
    first = torch.tensor([False, False, False, True, False]).expand(60, -1)
    assert threshold(logits, weights, first, True) == 1.0
    poor = torch.tensor([True, False, False, False, False]).expand(60, -1)
    assert threshold(logits, weights, poor, True) < 1.0


def test_all_views_are_looked_at_and_those_that_face_the_sensor_speak(small_model_folder):
    classifier = Classifier.load(backbone=f"local-dir:{small_model_folder}", classes=["mug", "box"], device="cpu")
    rng = np.random.default_rng(0)
    scenes = [[rng.normal(0, 0.05, (200, 3)) + place for place in ((0.8, 0, 0), (0.7, 0.3, -0.2))] for _ in range(2)]
    facing, anywhere = (look_over(classifier, scenes, known) for known in (True, False))
    assert facing.logits.shape == anywhere.logits.shape == (4, 10, 2)
    assert ((facing.weights > 0).sum(1) < 10).all()
    torch.testing.assert_close(anywhere.weights, torch.full((4, 10), 0.1))
    torch.testing.assert_close(facing.weights.sum(1), torch.ones(4))


def test_of_each_number_of_first_views_it_is_told_what_they_come_to():
    logits, weights = made()
    leaning = weights.clone()
    leaning[:, 3] += 0.5
    told = figures(Said(logits, leaning / leaning.sum(1, keepdim=True)), Said(logits, weights), most=2)
    assert told["order"][0] == 3
    assert [row["first"] for row in told["facing"]] == [1, 2]
    assert told["facing"][0]["agreement"] == told["anywhere"][0]["agreement"] == 1.0
    assert told["facing"][0]["views"] == 1.0, "the squarest view names all of them, and is sure"


@pytest.mark.slow
def test_the_command_learns_and_writes(small_model_folder, tmp_path, capsys):
    words = ["benchmark", "views", "--count", "1", "--backbone", f"local-dir:{small_model_folder}", "--device", "cpu"]
    assert cli.main([*words, "--json", str(tmp_path / "views.json")]) == 0
    assert "without the sensor's place, in this order" in capsys.readouterr().out
    (model,) = json.loads((tmp_path / "views.json").read_text())["models"].values()
    assert sorted(model["order"]) == list(range(10))
    assert cli.main([*words[:2], "--count", "0"]) == 2
