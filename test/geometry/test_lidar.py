"""The simulated lidar: its rings, its noise, and that it goes wherever a camera goes."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from clipoint3d_ros.geometry.camera import Image, back_project, look_at, render, visible_shares
from clipoint3d_ros.geometry.lidar import LIDARS, Lidar

PERFECT = replace(Lidar(), noise=0, dropout=0, mixing=0, grazing=90)


def wall(metres, lidar):
    shape = lidar.rays().shape[:2]
    return Image(np.full(shape, metres, np.float32), np.zeros(shape, np.int32), np.ones(shape, np.float32))


def box(size, at):
    mesh = trimesh.creation.box(extents=size)
    mesh.apply_translation(at)
    return mesh.vertices, mesh.faces


@pytest.mark.parametrize("lines", [16, 32, 64])
def test_a_lidar_has_as_many_rings_as_its_name_says(lines):
    lidar = LIDARS[lines]
    rays = lidar.rays()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-6)
    elevation = np.rad2deg(np.arcsin(-rays[..., 1]))
    assert np.ptp(elevation, axis=1).max() < 1e-3, "a ring keeps its elevation"
    rings = elevation[:, 0]
    assert len(rings) == lines
    assert (rings.max(), rings.min()) == pytest.approx(lidar.field[::-1], abs=1e-3)
    assert (np.diff(rings) < 0).all(), "the highest ring comes first"
    azimuth = np.rad2deg(np.arctan2(rays[0, :, 0], rays[0, :, 2]))
    np.testing.assert_allclose(np.diff(azimuth), lidar.step, rtol=1e-2)
    assert lidar.window[0] == pytest.approx(azimuth[0], abs=1e-3)
    assert lidar.window[1] - lidar.step < azimuth[-1] <= lidar.window[1] + 1e-3


@pytest.mark.parametrize("metres", [1.0, 3.0])
def test_range_noise_is_one_to_two_centimetres_at_any_range(metres):
    for lidar in LIDARS.values():
        reading, surface = lidar.sense(wall(metres, lidar), np.random.default_rng(0))
        returned = reading[reading > 0]
        assert 0.01 < returned.std() < 0.02
        assert returned.std() == pytest.approx(lidar.noise, rel=0.05)
        assert returned.mean() == pytest.approx(metres, abs=0.002)
        assert ((surface >= 0) == (reading > 0)).all()
        assert (reading == 0).mean() == pytest.approx(lidar.dropout, abs=0.01)


def test_ranges_lie_along_the_rays():
    pose = look_at(np.array([0.0, 0, 2]), np.zeros(3), up=(0, 1, 0))
    image = render([box((4, 4, 0.1), (0, 0, -0.05))], PERFECT, pose)
    points = back_project(PERFECT.sense(image, np.random.default_rng(0))[0], PERFECT)
    finite = np.isfinite(points).all(-1)
    assert finite.mean() > 0.9
    np.testing.assert_allclose(points[finite][:, 2], 2.0, atol=1e-4)
    aside = image.depth[0, 0]
    assert aside > 2.2, "a range is longer than the depth along the axis"


def test_a_beam_on_an_edge_returns_from_between():
    image = wall(2.0, PERFECT)
    image.depth[:, 100:200], image.surface[:, 100:200] = 1.0, 1
    sharp, _ = PERFECT.sense(image, np.random.default_rng(0))
    assert set(np.unique(sharp)) == {1.0, 2.0}
    mixed, _ = replace(PERFECT, mixing=0.5).sense(image, np.random.default_rng(0))
    between = (mixed > 1.01) & (mixed < 1.99)
    assert 0 < between.mean() < 0.02
    assert between[:, 99:101].any()
    assert between[:, 199:201].any()
    assert not between[:, 110:190].any()


def test_range_and_grazing_incidence_bound_what_returns():
    for metres in (0.1, 90.0):
        assert not Lidar().sense(wall(metres, Lidar()), np.random.default_rng(0))[0].any()
    image = wall(1.0, Lidar())
    image.incidence[:] = np.cos(np.deg2rad(88))
    assert not Lidar().sense(image, np.random.default_rng(0))[0].any()


def test_its_frame_is_its_field_and_window():
    lidar = LIDARS[32]
    assert lidar.contains(lidar.rays()[1:-1, 1:-1] * 3.0).all()
    up, aside = np.tan(np.deg2rad(lidar.field[1])), np.tan(np.deg2rad(lidar.window[1]))
    outside = np.array([[0, -up - 0.01, 1], [0, up + 0.01, 1], [aside + 0.01, 0, 1], [0, 0, -1]])
    assert not lidar.contains(outside).any()
    pose = look_at(np.zeros(3), np.array([0.0, 0, 1]), up=(0, -1, 0))
    share = visible_shares([box((0.2, 0.2, 0.001), (aside, 0, 1))], lidar, pose)
    np.testing.assert_allclose(share, [0.5], atol=0.06)


def test_the_same_seed_gives_the_same_ranges():
    first, second = (Lidar().sense(wall(1.3, Lidar()), np.random.default_rng(4))[0] for _ in range(2))
    assert (first == second).all()
