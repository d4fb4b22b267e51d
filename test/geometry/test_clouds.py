"""Clouds: what is refused, and what levelling, normalising and resampling promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipoint3d_ros.geometry.clouds import (
    FURTHEST_M,
    CloudError,
    all_measured,
    doubtful_place,
    doubtful_scale,
    extents,
    farthest_points,
    finite_points,
    level,
    measured,
    normalise,
    random_subset,
    resample,
)

directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


def test_points_without_a_return_are_dropped():
    cloud = np.array([[0, 0, 1], [np.nan, 0, 1], [0, np.inf, 1], [1, 2, 3], [0, 0, -np.inf]], np.float64)
    kept = finite_points(cloud)
    assert kept.dtype == np.float32
    assert kept.tolist() == [[0, 0, 1], [1, 2, 3]]
    assert finite_points(cloud.reshape(1, 5, 3)).tolist() == kept.tolist()
    assert finite_points(np.zeros((0, 3))).shape == (0, 3)
    assert finite_points(np.array([[1e300, 0, 0]])).shape == (0, 3), "what float32 cannot hold is no measurement"


@pytest.mark.parametrize("value", [0.0, 1.0, -FURTHEST_M, FURTHEST_M, np.nan, np.inf, -np.inf, 3e38])
def test_all_coordinates_are_measured_where_each_is(value):
    points = np.ones((5, 3), np.float32)
    points[3, 1] = value
    assert all_measured(points) is bool(measured(points).all()) is (abs(value) < FURTHEST_M)
    assert all_measured(points[:0])


@pytest.mark.parametrize(
    "cloud", [np.zeros(3), np.zeros((4, 2)), np.zeros((4, 4)), np.array([["a", "b", "c"]]), np.zeros((2, 3), complex)]
)
def test_what_is_no_cloud_is_refused_in_words(cloud):
    with pytest.raises(CloudError, match="but this one has"):
        finite_points(cloud)


@given(up=directions, towards=directions)
@settings(max_examples=100, deadline=None)
def test_levelling_is_a_rotation_that_puts_up_to_y_and_the_sensor_over_z(up, towards):
    up, towards = np.array(up), np.array(towards)
    rotation = level(up, towards)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ up / np.linalg.norm(up), [0, 1, 0], atol=1e-6)
    across, _, ahead = rotation @ towards
    sideways = np.linalg.norm(np.cross(up / np.linalg.norm(up), towards / np.linalg.norm(towards)))
    if sideways > 1e-3:
        assert ahead > 0
        assert abs(across) < 1e-6


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (0, 1, 0), (0, 0, -1), (1, 0, 0)])
def test_levelling_without_a_sensor_is_a_rotation(up):
    rotation = level(up)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ up, [0, 1, 0], atol=1e-9)


@pytest.mark.parametrize("up", [(0, 0, 0), (np.nan, 0, 1), (0, 1), "up"])
def test_up_without_a_direction_is_refused(up):
    with pytest.raises((CloudError, ValueError)):
        level(up)


def test_normalised_clouds_fill_the_unit_sphere_and_ignore_place_and_size():
    points = torch.randn(5, 200, 3, generator=torch.Generator().manual_seed(0))
    unit = normalise(points)
    assert torch.allclose(unit.norm(dim=-1).amax(1), torch.ones(5))
    assert unit.mean(1).abs().max() < 1e-6
    assert torch.allclose(normalise(points * 0.01 + 7.0), unit, atol=2e-4)
    assert torch.equal(normalise(torch.full((1, 9, 3), 4.0)), torch.zeros(1, 9, 3))


@pytest.mark.parametrize(("size", "count"), [(1, 8), (5, 8), (8, 8), (20, 8), (3000, 1024)])
def test_a_random_subset_repeats_only_when_it_must(size, count):
    indices = random_subset(size, count)
    assert len(indices) == count
    assert indices.max() < size
    times = np.bincount(indices, minlength=size)
    assert times.max() - times.min() <= 1, "no point comes twice while another has not come as often"
    assert (indices == random_subset(size, count)).all()


def test_farthest_points_cover_evenly():
    rng = torch.Generator().manual_seed(0)
    dense = torch.randn(1, 900, 3, generator=rng) * 0.01
    corners = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]])
    cloud = torch.cat([dense, corners], 1)
    taken = farthest_points(cloud, 5)[0].tolist()
    assert set(taken) >= {900, 901, 902, 903}, "the four far points are among the first five"
    assert len(set(farthest_points(cloud, 300)[0].tolist())) == 300


@pytest.mark.parametrize("method", ["random", "farthest"])
def test_resampling_keeps_to_the_clouds_own_points(method):
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 3)).astype(np.float32) for n in (1, 7, 64, 500)]
    batch = resample(clouds, 64, method)
    assert batch.shape == (4, 64, 3)
    for cloud, points in zip(clouds, batch.numpy(), strict=True):
        own = {tuple(p) for p in cloud}
        assert all(tuple(p) in own for p in points)
        assert len({tuple(p) for p in points}) == min(len(cloud), 64)
    alone = resample(clouds[2:3], 64, method)
    assert torch.equal(alone[0].sort(0).values, batch[2].sort(0).values), "neighbours do not change an object"


def test_resampling_refuses_empty_clouds_and_unknown_methods():
    with pytest.raises(CloudError, match="empty"):
        resample([np.zeros((0, 3), np.float32)], 8)
    with pytest.raises(ValueError, match="'nearest'"):
        resample([], 8, "nearest")
    assert resample([], 8).shape == (0, 8, 3)


def test_extents_do_not_depend_on_the_heading():
    rng = torch.Generator().manual_seed(0)
    block = (torch.rand(1, 4000, 3, generator=rng) - 0.5) * torch.tensor([0.3, 0.1, 0.12])
    for yaw in (0.0, 0.4, 1.2, 2.9):
        cosine, sine = math.cos(yaw), math.sin(yaw)
        turned = block @ torch.tensor([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]]).T
        assert torch.allclose(extents(turned), torch.tensor([[0.1, 0.3, 0.12]]), atol=0.01)
    strays = torch.cat([block, torch.full((1, 8, 3), 2.0)], 1)
    assert (extents(strays) < 0.33).all(), "a few strays do not stretch it"
    assert torch.equal(extents(torch.zeros(2, 1, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("yaw", [0.0, 0.3, 0.8, 1.4])
def test_a_box_seen_over_its_corner_has_its_own_length_and_width(yaw):
    """Only two upright faces are seen, an L from above: its principal axes run along the diagonal."""
    rng = torch.Generator().manual_seed(1)
    along, up = torch.rand(2, 1, 2000, 1, generator=rng)
    front = torch.cat([along * 0.25, up * 0.1, torch.zeros_like(up)], -1)[:, :1200]
    side = torch.cat([torch.zeros_like(up), up * 0.1, along * 0.18], -1)[:, 1200:]
    cosine, sine = math.cos(yaw), math.sin(yaw)
    turned = torch.cat([front, side], 1) @ torch.tensor([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]]).T
    assert torch.allclose(extents(turned), torch.tensor([[0.1, 0.25, 0.18]]), atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("method", ["random", "farthest"])
def test_clouds_reach_a_gpu_in_one_transfer_from_pinned_memory(method):
    clouds = [np.random.default_rng(i).normal(size=(300 + i, 3)).astype(np.float32) for i in range(5)]
    resample(clouds, 128, method, "cuda")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        there = resample(clouds, 128, method, "cuda")
        torch.cuda.synchronize()
    sent = [event.name for event in seen.events() if "HtoD" in event.name]
    assert sum("Pinned" in name for name in sent) == 1, sent
    assert torch.equal(there.cpu(), resample(clouds, 128, method, "cpu"))


def test_objects_of_many_metres_are_doubted_in_words():
    assert doubtful_scale("mug", (0.1, 20.0, 0.1)) == ""
    assert doubtful_scale("mug", np.array([80.0, 120.0, np.float32(95)])).startswith(
        "mug is 120 m across, if its points"
    )


def test_objects_far_from_their_frame_s_origin_are_doubted_in_words():
    assert doubtful_place("object '3'", (3.0, -900.0, 12.0)) == ""
    said = doubtful_place("object '3'", (5e5, -5.4e6, 100.0))
    assert said.startswith("object '3' is 5400 km from its frame's origin, where float32 knows places to 500 mm only")
