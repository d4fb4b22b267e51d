"""Depth views: the reference's values, what turning and permuting a cloud does, and the cases that must not be NaN."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from projection_oracle import plain_depth_views

from clipoint3d_ros.geometry.clouds import normalise
from clipoint3d_ros.geometry.views import (
    FRONT_VIEW,
    TOP_VIEW,
    DepthViews,
    ViewConfig,
    choose_views,
    view_directions,
    view_rotations,
)

REFERENCE = Path(__file__).parent / "reference" / "projection.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as stored:
        return {key: stored[key] for key in stored.files}


def some_clouds(count=3, points=400, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return normalise(torch.randn(count, points, 3, generator=rng) * torch.tensor([1.0, 0.6, 0.3]))


def test_views_equal_the_reference(reference):
    views = DepthViews()(torch.from_numpy(reference["normalised"]))
    assert views.shape == (4, 10, 110, 110)
    worst = (views - torch.from_numpy(reference["depth"])).abs().max()
    assert worst <= 1e-4, f"a pixel differs from the reference by {worst}"


def test_resized_views_equal_the_reference(reference):
    views = DepthViews(size=224)(torch.from_numpy(reference["normalised"][:1]))
    assert (views[0] - torch.from_numpy(reference["depth224_first"])).abs().max() <= 1e-4


def test_rotations_equal_the_reference(reference):
    np.testing.assert_allclose(view_rotations(), reference["rot_bias"] @ reference["rot"], atol=1e-6)


def test_normalisation_equals_the_reference(reference):
    normalised = normalise(torch.from_numpy(reference["points"]))
    assert (normalised - torch.from_numpy(reference["normalised"])).abs().max() <= 1e-6


def test_views_equal_a_plain_transcription_of_the_method():
    points = some_clouds(4, 1024)
    assert (DepthViews()(points) - plain_depth_views(points)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "config",
    [
        ViewConfig(resolution=60, extent=1.0),
        ViewConfig(resolution=50, extent=1.0, pool=3, pool_padding=1, blur=5, blur_sigma=1.0),
        ViewConfig(resolution=64, depth=5, depth_bias=0.5, pool=1, pool_padding=0, blur=1),
    ],
    ids=["to the edges", "other windows", "no windows"],
)
def test_another_projection_equals_its_plain_transcription_too(config):
    points = some_clouds(3, 300)
    assert (DepthViews(config)(points) - plain_depth_views(points, config)).abs().max() <= 1e-5


def test_front_view_looks_from_the_sensor_and_top_view_from_above():
    directions = view_directions()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions[FRONT_VIEW], [0, np.sin(np.pi / 9), np.cos(np.pi / 9)], atol=1e-12)
    assert directions[TOP_VIEW, 1] > 0.97
    assert (directions[:8, 1] > 0.3).all(), "the eight side views look down on the object"


def test_turning_a_cloud_by_45_degrees_moves_its_views_round():
    points = some_clouds()
    angle = np.pi / 2
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
    views, turned = DepthViews()(points), DepthViews()(points @ turn.T)
    directions = torch.from_numpy(view_directions()).float()
    for view in range(8):
        # What was seen from direction d is now seen from its turned place.
        other = int((directions[:8] @ (turn @ directions[view])).argmax())
        close = (views[:, view] - turned[:, other]).abs() < 0.05
        assert close.float().mean() > 0.97, f"view {view} does not reappear as view {other}"


def test_views_do_not_depend_on_the_order_of_points_or_on_neighbours():
    points = some_clouds()
    shuffled = points[:, torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(1))]
    views = DepthViews()(points)
    assert torch.equal(views, DepthViews()(shuffled))
    assert torch.equal(views[1:2], DepthViews()(points[1:2]))
    assert torch.equal(views, DepthViews(objects_per_pass=3)(points))


def test_chosen_views_are_those_of_all_ten():
    points = some_clouds()
    chosen = torch.tensor([[4, 9], [0, 1], [8, 8]])
    every = DepthViews(size=64)(points)
    some = DepthViews(size=64)(points, chosen)
    expected = torch.stack([every[i, chosen[i]] for i in range(3)])
    assert (some - expected).abs().max() < 1e-6


def test_objects_stand_upright_and_near_is_dark():
    # A tall pole with a wide disc on top: its front view is wide in the upper rows.
    height = torch.linspace(-1, 0.9, 500)
    pole = torch.stack([torch.zeros(500), height, torch.zeros(500)], 1)
    angle = torch.linspace(0, 2 * np.pi, 500)
    disc = torch.stack([0.5 * angle.cos(), torch.full((500,), 0.95), 0.5 * angle.sin()], 1)
    front = DepthViews()(normalise(torch.cat([pole, disc])[None]))[0, FRONT_VIEW]
    widths = (front < 1).sum(1)
    occupied = torch.nonzero(widths).flatten()
    top, bottom = widths[occupied[:20]].max(), widths[occupied[-20:]].max()
    assert top > 3 * bottom
    wall = torch.cartesian_prod(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40))
    near = torch.cat([wall, torch.full((1600, 1), 0.5)], 1)
    far = torch.cat([wall[wall[:, 0] > 0], torch.full((int((wall[:, 0] > 0).sum()), 1), -0.5)], 1) * 1.6
    view = DepthViews()(normalise(torch.cat([near, far])[None]))[0, FRONT_VIEW]
    assert view.min() < 0.2
    assert view[view < 1].max() > 0.4


@pytest.mark.parametrize(
    "points", [torch.zeros(1, 1, 3), torch.zeros(2, 50, 3), torch.tensor([[[0.0, 1, 0], [0, -1, 0]]])]
)
def test_clouds_without_extent_give_finite_views(points):
    views = DepthViews()(points)
    assert torch.isfinite(views).all()
    assert ((views >= 0) & (views <= 1)).all()
    assert (views < 1).any((-1, -2)).all(), "even one point is seen"


def test_no_objects_give_no_views_and_no_points_an_error():
    assert DepthViews(size=32)(torch.zeros(0, 10, 3)).shape == (0, 10, 32, 32)
    assert DepthViews()(torch.zeros(0, 10, 3)).shape == (0, 10, 110, 110)
    with pytest.raises(ValueError, match="N at least 1"):
        DepthViews()(torch.zeros(2, 0, 3))


def test_views_are_ten_times_quicker_than_the_plain_transcription():
    """Of the processor's time, by turns; about forty times when measured, on one thread as on two."""
    points = some_clouds(16, 1024)
    views = DepthViews()

    def seconds(render):
        start = time.process_time()
        render(points)
        return time.process_time() - start

    views(points)
    turns = [(min(seconds(views) for _ in range(4)), seconds(plain_depth_views)) for _ in range(2)]
    own, plain = zip(*turns, strict=True)
    ratio = min(plain) / min(own)
    assert ratio >= 10, f"only {ratio:.1f} times quicker"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_views_on_a_gpu_equal_those_on_the_cpu():
    points = some_clouds(16, 1024)
    assert (DepthViews()(points.cuda()).cpu() - DepthViews()(points)).abs().max() <= 1e-4


def test_views_of_a_sensors_clouds_mostly_face_it():
    rng = torch.Generator().manual_seed(0)
    camera = torch.tensor([True] * 500 + [False] * 500)
    chosen = choose_views(camera, torch.full((1000,), 0.5), 2, 0.1, rng)
    assert (chosen[:, 0] != chosen[:, 1]).all(), "two different ones"
    directions = torch.from_numpy(view_directions()).float()
    facing = (directions @ torch.tensor([0.0, np.sin(0.5), np.cos(0.5)]).float() > 0.2)[chosen]
    assert facing[:500].float().mean() > facing[500:].float().mean() + 0.2
    assert (chosen[:500] == FRONT_VIEW).float().mean() > (chosen[500:] == FRONT_VIEW).float().mean()
