"""The serving classifier: one answer a cloud, probabilities, invariances, and every unusable input answered."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.datasets.shapes import make_shape, surface_points
from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.recognition import UNKNOWN

NAMES = ["mug", "box", "tin", "bottle"]


@pytest.fixture(scope="module")
def classifier(small_model_folder):
    return Classifier.load(backbone=f"local-dir:{small_model_folder}", classes=NAMES, device="cpu")


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    return [surface_points(make_shape(name, rng).mesh, 600, rng) for name in ("mug", "box", "bottle", "chair", "tin")]


def probabilities(answers):
    return np.stack([a.probabilities for a in answers])


@pytest.mark.parametrize("viewpoint", [None, (1.0, 0.5, 0.8)])
def test_every_cloud_gets_an_answer_with_probabilities(classifier, clouds, viewpoint):
    answers = classifier.classify(clouds, viewpoint=viewpoint)
    assert len(answers) == len(clouds)
    for answer in answers:
        assert answer.label in NAMES
        assert answer.classes == tuple(NAMES)
        assert answer.probabilities.sum() == pytest.approx(1)
        assert answer.score == pytest.approx(answer.probabilities.max())
        assert 0 <= answer.entropy <= np.log(4) + 1e-9
        assert answer.frozen is None
        scores = [score for _, score in answer.top(3)]
        assert scores == sorted(scores, reverse=True)
        assert answer.top(1)[0] == (answer.label, pytest.approx(answer.score))
        assert len(answer.top(99)) == 4


def test_an_object_does_not_depend_on_its_neighbours(classifier, clouds):
    together = probabilities(classifier.classify(clouds, viewpoint=(1, 0, 1)))
    alone = np.concatenate([probabilities(classifier.classify([c], viewpoint=(1, 0, 1))) for c in clouds])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    capped = classifier.with_config(ClassifierConfig(max_views=3))
    np.testing.assert_allclose(probabilities(capped.classify(clouds, viewpoint=(1, 0, 1))), together, atol=1e-5)


def test_place_size_and_heading_do_not_matter_when_the_sensor_moves_along(classifier, clouds):
    eye = np.array([1.0, 0.3, 0.9])
    before = probabilities(classifier.classify(clouds, viewpoint=eye))
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([3.0, -2, 0.5])
    moved = [c.astype(np.float64) @ turn.T + shift for c in clouds]
    after = probabilities(classifier.classify(moved, viewpoint=turn @ eye + shift))
    np.testing.assert_allclose(after, before, atol=0.02)


def test_up_in_another_axis_gives_the_same_answer(classifier, clouds):
    eye = np.array([1.0, 0.3, 0.9])
    optical = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)  # x forward, z up → x right, y down, z forward
    before = probabilities(classifier.classify(clouds, viewpoint=eye))
    after = probabilities(classifier.classify([c @ optical.T for c in clouds], up=(0, -1, 0), viewpoint=optical @ eye))
    np.testing.assert_allclose(after, before, atol=0.02)


def test_each_object_may_have_its_own_viewpoint(classifier, clouds):
    eyes = np.random.default_rng(1).normal(size=(len(clouds), 3)) * 2
    together = probabilities(classifier.classify(clouds, viewpoint=eyes))
    alone = np.concatenate(
        [probabilities(classifier.classify([c], viewpoint=e)) for c, e in zip(clouds, eyes, strict=True)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_sensor_facing_leaves_rear_views_out(classifier, clouds):
    projection = classifier.project(clouds, viewpoint=(2, 0, 1))
    assert projection.facing
    assert projection.images.shape[1] < 10
    assert torch.allclose(projection.weights.sum(1), torch.ones(len(clouds)), atol=1e-5)
    every = classifier.project(clouds)
    assert not every.facing
    assert every.images.shape[:2] == (len(clouds), 10)
    assert every.images.shape[2:] == (32, 32)


def test_stages_give_what_classify_gives(classifier, clouds):
    projection = classifier.project(clouds, viewpoint=(1, 1, 1))
    features = classifier.encode(projection)
    lengths = (projection.weights > 0).float()  # a view that does not count is not looked at
    assert torch.allclose(features.norm(dim=-1), lengths, atol=1e-5)
    answers = classifier.decide(projection, features)
    np.testing.assert_array_equal(
        probabilities(answers), probabilities(classifier.classify(clouds, viewpoint=(1, 1, 1)))
    )


@pytest.mark.parametrize("viewpoint", [None, (1.0, 0.5, 0.8)])
def test_an_objects_feature_is_the_weighted_mean_of_its_views(classifier, clouds, viewpoint):
    projection = classifier.project(clouds, viewpoint=viewpoint)
    features = classifier.encode(projection)
    rows = classifier.object_features(projection, features)
    assert rows.shape == (len(clouds), features.shape[2])
    # The logits are linear in the views, so those of the mean are the mean of theirs.
    logits = classifier.logits(projection, features)
    torch.testing.assert_close(classifier.view_logits(rows), logits, atol=1e-4, rtol=1e-4)
    if viewpoint is not None:
        torch.testing.assert_close(rows, torch.einsum("bv,bvd->bd", projection.weights, features))
    assert (rows.norm(dim=-1) <= 1 + 1e-5).all()
    alike = features[:, :1].expand_as(features)
    lengths = classifier.object_features(projection, alike).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(len(clouds)), msg="views that agree have the mean's full length")
    assert (rows.norm(dim=-1) < lengths - 1e-4).all(), "views that differ have a shorter mean"


@pytest.mark.parametrize(
    "cloud",
    [np.zeros((0, 3)), np.zeros((1, 3)), np.full((500, 3), np.nan), np.zeros((15, 3), np.float32)],
    ids=["empty", "one point", "all NaN", "too few"],
)
def test_a_cloud_too_small_to_judge_is_unknown_and_harms_nobody(classifier, clouds, cloud):
    answers = classifier.classify([clouds[0], cloud, clouds[1]], viewpoint=(1, 0, 1))
    assert answers[1].label == UNKNOWN
    np.testing.assert_allclose(answers[1].probabilities, 0.25)
    assert answers[1].entropy == pytest.approx(np.log(4))
    assert answers[1].top(3) == [(UNKNOWN, pytest.approx(0.75))]
    expected = probabilities(classifier.classify(clouds[:2], viewpoint=(1, 0, 1)))
    np.testing.assert_allclose(probabilities([answers[0], answers[2]]), expected, atol=1e-5)


def test_coinciding_points_and_a_sensor_inside_the_object_give_finite_answers(classifier, clouds):
    answers = classifier.classify([np.ones((64, 3)), clouds[0]], viewpoint=clouds[0].mean(0))
    assert np.isfinite(probabilities(answers)).all()


def test_no_clouds_give_no_answers(classifier):
    assert classifier.classify([]) == []
    assert classifier.classify([], viewpoint=(0, 0, 0)) == []


def test_unknown_below_the_threshold_the_user_sets(classifier, clouds):
    strict = classifier.with_config(ClassifierConfig(unknown_below=1.0))
    answers = strict.classify(clouds)
    assert {a.label for a in answers} == {UNKNOWN}
    assert all(a.score == pytest.approx(1 - a.probabilities.max()) for a in answers)


def test_a_class_s_own_threshold_holds_in_place_of_the_one_for_all(classifier, clouds):
    plain = [answer.label for answer in classifier.classify(clouds)]
    one = plain[0]
    strict = classifier.with_config(ClassifierConfig(unknown_below_class=((one, 1.0),)))
    assert [a.label for a in strict.classify(clouds)] == [UNKNOWN if label == one else label for label in plain]
    lenient = classifier.with_config(ClassifierConfig(unknown_below=1.0, unknown_below_class=((one, 0.0),)))
    assert [a.label for a in lenient.classify(clouds)] == [one if label == one else UNKNOWN for label in plain]


def test_a_threshold_of_a_class_that_is_not_served_is_refused(classifier):
    config = ClassifierConfig(unknown_below_class=(("cup", 0.5),))
    with pytest.raises(ValueError, match="'cup', but the classes are"):
        classifier.with_config(config)
    assert classifier.with_classes(["cup", "plate"], config).thresholds.tolist() == [0.5, 0.0]


def test_a_higher_temperature_makes_scores_humbler_and_keeps_labels(classifier, clouds):
    plain = classifier.classify(clouds)
    humble = classifier.with_config(ClassifierConfig(temperature=4.0)).classify(clouds)
    assert all(h.entropy >= p.entropy for h, p in zip(humble, plain, strict=True))


def test_classes_can_be_changed_and_share_the_backbone(classifier, clouds):
    other = classifier.with_classes(["chair", "table"])
    assert other.backbone is classifier.backbone
    assert other.classes == ("chair", "table")
    assert {a.label for a in other.classify(clouds)} <= {"chair", "table"}
    assert classifier.classes == tuple(NAMES)


def test_wrong_arguments_are_refused_in_words(classifier, clouds, small_model_folder):
    with pytest.raises(CloudError, match="viewpoint must be finite"):
        classifier.classify(clouds, viewpoint=(0, np.nan, 0))
    with pytest.raises(CloudError, match=r"\(3,\) or \(5, 3\)"):
        classifier.classify(clouds, viewpoint=np.zeros((2, 3)))
    with pytest.raises(CloudError, match="'up'"):
        classifier.classify(clouds, up=(0, 0, 0))
    with pytest.raises(CloudError, match="shape"):
        classifier.classify([np.zeros((5, 2))])
    with pytest.raises(ValueError, match="'/tmp/adapter' is no bundle"):
        Classifier.load(bundle="/tmp/adapter", backbone=f"local-dir:{small_model_folder}")
    with pytest.raises(FileNotFoundError, match="no class file"):
        Classifier.load(backbone=f"local-dir:{small_model_folder}", classes="nowhere.yaml")


def test_the_embedded_model_knows_its_own_shapes():
    """Complete clouds of the tabletop classes, freshly made: most are recognised."""
    classifier = Classifier.load(device="cpu")
    rng = np.random.default_rng(77)
    truths = [name for name in classifier.classes for _ in range(10)]
    clouds = [surface_points(make_shape(name, rng).mesh, 1024, rng) for name in truths]
    answers = classifier.classify(clouds)
    right = np.mean([a.label == t for a, t in zip(answers, truths, strict=True)])
    assert right >= 0.8, f"only {right:.0%} of clean procedural shapes"
