"""Baselines on two shapes that anything can tell apart: balls and plates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipoint3d_ros.adaptation.batches import source_batch, target_batch
from clipoint3d_ros.adaptation.clouds import levelled
from clipoint3d_ros.adaptation.config import TrainingConfig
from clipoint3d_ros.adaptation.trainer import Material
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.point_encoder import PointNet
from clipoint3d_ros.clip.sentences import Sentences
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.adaptation.baselines import (
    POINTCLIP_TEMPLATE,
    POINTS,
    VIEWS,
    _Reverse,
    linear_probe,
    point_encoder,
    pointclip,
    zero_shot,
)
from clipoint3d_ros.evaluation.adaptation.looking import look
from clipoint3d_ros.recognition.classifier import Classifier

SHAPES = describe(["ball", "plate"])


def shapes(each, seed=0, points=128):
    """Balls and flat plates in turn, as complete objects."""
    rng = np.random.default_rng(seed)
    clouds = []
    for _ in range(each):
        ball, plate = rng.normal(size=(2, points, 3))
        clouds.append(0.1 * ball / np.linalg.norm(ball, axis=1, keepdims=True))
        clouds.append(plate / np.linalg.norm(plate, axis=1, keepdims=True) * [0.1, 0.1, 0.005])
    labels = np.arange(2 * each) % 2
    return Objects("shapes", SHAPES.names, tuple(c.astype(np.float32) for c in clouds), labels, np.arange(2 * each))


def material(each=4):
    source = levelled(shapes(each), 128)
    return Material(source, None, None, source)


def accuracy(looks, objects):
    return float((looks.choose("all").argmax(1).numpy() == objects.labels).mean())


def loss(looks, objects):
    return float(F.cross_entropy(looks.choose("all"), torch.from_numpy(objects.labels)))


def test_a_linear_probe_held_to_its_start_says_what_zero_shot_says(backbone):
    scored = shapes(3, seed=1)
    probed, frozen = linear_probe(backbone, SHAPES, material(), scored, l2=1e6), zero_shot(backbone, SHAPES, scored)
    torch.testing.assert_close(probed.logits, frozen.logits, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(probed.facing, frozen.facing)


def test_a_linear_probe_tells_separable_shapes_apart(backbone):
    scored = shapes(3, seed=1)
    probed, frozen = linear_probe(backbone, SHAPES, material(), scored), zero_shot(backbone, SHAPES, scored)
    assert accuracy(probed, scored) == 1.0
    assert loss(probed, scored) < 0.5 * loss(frozen, scored)


def test_a_linear_probes_source_of_unknown_unit_is_looked_at_without_its_size(backbone):
    source = material(2).source
    sizeless = Material(replace(source, metric=False), None, None, source)
    scored = shapes(1, seed=1)
    first = linear_probe(backbone, SHAPES, Material(source, None, None, source), scored)
    assert not torch.allclose(first.logits, linear_probe(backbone, SHAPES, sizeless, scored).logits)


def test_pointclip_says_one_sentence_a_class(backbone, column, classes):
    frozen = replace(backbone, _sentences=Sentences())
    looks = pointclip(frozen, classes, column.scored)
    said = [s for s in frozen._sentences._known if s.startswith("point cloud")]
    assert said == [POINTCLIP_TEMPLATE.format(name) for name in classes.names]
    classifier = Classifier(frozen, classes)
    classifier.text = frozen.encode_sentences(said)
    torch.testing.assert_close(looks.logits, look(classifier, column.scored).logits)


def test_pointclip_reads_no_description_and_zero_shot_does(backbone, column, classes):
    other = replace(classes, descriptions=(("round",), ("flat",), ("high",)))
    assert torch.equal(
        pointclip(backbone, classes, column.scored).logits, pointclip(backbone, other, column.scored).logits
    )
    first, second = (zero_shot(backbone, c, column.scored).logits for c in (classes, other))
    assert not torch.allclose(first, second)
    assert not torch.allclose(pointclip(backbone, classes, column.scored).logits, first)


def test_the_reversal_is_the_identity_whose_gradient_is_turned_round_and_scaled():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.arange(15.0).view(5, 3)
    y = _Reverse.apply(x, 0.3)
    assert torch.equal(y, x)
    (y * weight).sum().backward()
    torch.testing.assert_close(x.grad, -0.3 * weight)


SMALL = TrainingConfig(steps=40, objects=8, points=48, warmup=0)


def test_a_3d_encoder_learns_balls_and_plates_in_a_few_steps():
    scored = shapes(6, seed=1)
    assert accuracy(point_encoder(SHAPES, material(8), SMALL, scored, torch.device("cpu"), False), scored) >= 0.9


def test_a_3d_encoder_gives_every_view_the_same_answer():
    looks = point_encoder(SHAPES, material(), replace(SMALL, steps=1), shapes(1), torch.device("cpu"), False)
    assert looks.logits.shape == (2, VIEWS, 2)
    assert (looks.logits == looks.logits[:, :1]).all()
    for policy in ("entropy", "sensor", "first-3"):
        torch.testing.assert_close(looks.choose(policy), looks.logits[:, 0])


def test_a_3d_encoder_follows_its_seed_and_leaves_the_callers_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (
        point_encoder(SHAPES, material(), replace(SMALL, steps=1, seed=s), shapes(1), torch.device("cpu"), False)
        for s in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.logits, again.logits)
    assert not torch.allclose(first.logits, other.logits)


@pytest.mark.parametrize("points", [128, 64])
def test_a_3d_encoder_is_scored_on_points_of_the_whole_cloud(monkeypatch, points):
    """Sensors give their points row by row: the first of them are an object's upper edge."""
    seen = []
    forward = PointNet.forward

    def watched(self, clouds):
        if not self.training:
            seen.append(clouds)
        return forward(self, clouds)

    monkeypatch.setattr(PointNet, "forward", watched)
    balls = shapes(2, points=points).take([0, 2])
    rows = replace(balls, clouds=tuple(c[np.argsort(-c[:, 2])] for c in balls.clouds))
    config = replace(SMALL, steps=1, points=128)
    point_encoder(SHAPES, material(), config, rows, torch.device("cpu"), False)
    (clouds,) = seen
    assert clouds.shape == (2, 128, 3)
    sides = clouds.amax(1) - clouds.amin(1)
    assert (sides[:, 1] > 0.6 * sides[:, 0]).all(), "a strip of a ball is no ball"


@pytest.mark.parametrize(("points", "seen"), [(POINTS + 40, POINTS), (48, 48)])
def test_a_3d_encoder_sees_as_many_points_in_training_as_when_scored(monkeypatch, points, seen):
    counts = set()
    forward = PointNet.forward
    monkeypatch.setattr(PointNet, "forward", lambda self, c: counts.add(c.shape[1]) or forward(self, c))
    point_encoder(SHAPES, material(), replace(SMALL, steps=1, points=points), shapes(1), torch.device("cpu"), True)
    assert counts == {seen}


def test_the_point_encoders_few_points_are_of_the_whole_object_in_training():
    config = replace(SMALL, points=128, cut_share=0.0)
    balls = levelled(shapes(8).take(np.arange(16) % 2 == 0), 128)
    for batch in (source_batch(balls, None, config, 0), target_batch(balls, config, 0)):
        middle = batch.points[:, :16].mean(1).norm(dim=1)
        assert middle.mean() < 0.4, "sixteen points of a unit ball's surface lie around its middle"
