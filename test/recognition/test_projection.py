"""The first stage by itself: clouds levelled, views chosen and rendered, and what is told of them."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.datasets.shapes import make_shape, surface_points
from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.projection import Projection, Projector

EYE = (1.0, 0.5, 0.8)


def projector(**changes):
    return Projector(ClassifierConfig(**changes), 32, torch.device("cpu"))


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    place = np.array([0.4, 0.1, 0.7])
    return [place + surface_points(make_shape(name, rng).mesh, 600, rng) for name in ("mug", "box", "chair")]


def test_without_sizes_only_the_sizes_go():
    first = torch.rand(2, 3, 8, 8)
    made = Projection(
        first, torch.zeros(2, 3), torch.ones(2, 3) / 3, torch.rand(2, 5, 3), torch.rand(2, 3), torch.ones(2), True
    )
    bare = made.without_sizes()
    assert bare.extents.isnan().all()
    assert not made.extents.isnan().any(), "the one it was made from stays"
    assert bare.images is first
    assert bare.facing
    assert bare.metric_points().isnan().all(), "no metres where the unit is not known"


@pytest.mark.parametrize("eye", [None, EYE])
def test_weights_before_rendering_are_those_of_the_views_rendered(clouds, eye):
    first = projector()
    made, weights = first(clouds, (0, 0, 1), eye), first.view_weights(clouds, (0, 0, 1), eye)
    assert weights.shape == (len(clouds), 10)
    assert torch.equal(weights.gather(1, made.chosen), made.weights)
    assert torch.allclose(weights.sum(1), torch.ones(len(clouds)), atol=1e-6)
    assert made.facing is (eye is not None)


def test_metric_points_have_the_size_and_shape_of_the_clouds(clouds):
    made = projector(points=600)(clouds, (0, 0, 1), EYE)
    points = made.metric_points().numpy()
    for cloud, levelled in zip(clouds, points, strict=True):
        rows = np.sort(np.linalg.norm(cloud - cloud.mean(0), axis=1))
        np.testing.assert_allclose(np.sort(np.linalg.norm(levelled - levelled.mean(0), axis=1)), rows, atol=2e-3)
        assert np.ptp(levelled[:, 1]) == pytest.approx(np.ptp(cloud[:, 2]), abs=1e-3), "y is up"


def test_a_cloud_of_a_sensor_that_is_not_known_counts_its_views_evenly_beside_one_that_is(clouds):
    sparse = np.zeros((3, 3))
    made = projector()([clouds[0], sparse], (0, 0, 1), EYE)
    assert made.usable.tolist() == [True, False]
    assert made.weights[0].max() > 0.2
    assert torch.allclose(made.weights[1], torch.full((made.weights.shape[1],), 0.1))


def test_no_clouds_make_no_views():
    made = projector()([], (0, 0, 1), EYE)
    assert made.images.shape[0] == 0
    assert projector().view_weights([], (0, 0, 1), None).shape == (0, 10)


def test_a_viewpoint_that_is_none_is_refused(clouds):
    for wrong in ((1.0, 2.0), (np.nan, 0, 0), np.zeros((2, 3))):
        with pytest.raises(CloudError, match="viewpoint must be finite"):
            projector()(clouds, (0, 0, 1), wrong)
