"""The simulated depth camera: ideal images first, then each fault on its own."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from clipoint3d_ros.geometry.camera import DepthCamera, Image, back_project, look_at, render

SMALL = DepthCamera().scaled(0.25)
PERFECT = replace(
    SMALL, disparity_step=0, axial_floor=0, axial_growth=0, lateral=0, edge_dropout=0, baseline=0, grazing=90
)


def box(size, at):
    mesh = trimesh.creation.box(extents=size)
    mesh.apply_translation(at)
    return mesh.vertices, mesh.faces


def wall(depth, camera):
    shape = (camera.height, camera.width)
    return Image(np.full(shape, depth, np.float32), np.zeros(shape, np.int32), np.ones(shape, np.float32))


def test_the_nearest_surface_wins():
    pose = look_at(np.array([0.0, 0, 2]), np.zeros(3), up=(0, 1, 0))
    image = render([box((4, 4, 0.1), (0, 0, -0.05)), box((0.2, 0.2, 0.2), (0, 0, 0.4))], PERFECT, pose)
    row, column = PERFECT.height // 2, PERFECT.width // 2
    assert image.surface[row, column] == 1
    assert image.depth[row, column] == pytest.approx(1.5, abs=1e-4)
    assert image.surface[2, 2] == 0
    assert image.depth[2, 2] == pytest.approx(2.0, abs=1e-4), "depth is along the optical axis, not along the ray"


def test_back_projection_lands_on_the_surface():
    eye = np.array([0.3, -0.5, 1.2])
    pose = look_at(eye, np.array([0.0, 0, 0.05]))
    image = render([box((2, 2, 0.1), (0, 0, -0.05))], PERFECT, pose)
    points = back_project(image.depth, PERFECT).reshape(-1, 3)
    world = points[np.isfinite(points).all(1)] @ pose[:3, :3].T + pose[:3, 3]
    on_top = world[:, 2] > -0.02
    assert on_top.mean() > 0.9
    np.testing.assert_allclose(world[on_top][:, 2], 0, atol=1e-4)


def test_looking_straight_along_up_is_refused():
    with pytest.raises(ValueError, match="straight along"):
        look_at(np.array([0.0, 0, 1]), np.zeros(3))


def test_a_perfect_sensor_reports_what_is_there():
    depth, surface = PERFECT.sense(wall(1.0, PERFECT), np.random.default_rng(0))
    np.testing.assert_allclose(depth, 1.0, atol=1e-6)
    assert (surface == 0).all()


def test_disparity_comes_in_whole_steps():
    camera = replace(PERFECT, disparity_step=0.125, baseline=0.075, axial_floor=0.01)
    depth, _ = camera.sense(wall(2.0, camera), np.random.default_rng(0))
    steps = camera.baseline * camera.fx / depth[depth > 0] / camera.disparity_step
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert len(np.unique(np.round(steps))) > 1


def test_noise_grows_with_range():
    camera = replace(PERFECT, axial_floor=0.0012, axial_growth=0.0019)
    spread = [camera.sense(wall(z, camera), np.random.default_rng(0))[0].std() for z in (0.6, 2.0, 4.0)]
    assert spread[0] < spread[1] < spread[2]
    assert spread[2] == pytest.approx(0.0012 + 0.0019 * 3.6**2, rel=0.05)


def test_pixels_beside_a_step_drop_out():
    camera = replace(PERFECT, edge_dropout=0.5)
    image = wall(2.0, camera)
    image.depth[:, 80:] = 1.0
    depth, _ = camera.sense(image, np.random.default_rng(0))
    assert (depth[:, 79:81] == 0).mean() == pytest.approx(0.5, abs=0.12)
    assert (depth[:, 5:70] > 0).all()


def test_the_projectors_shadow_falls_on_one_side_of_a_near_object():
    camera = replace(PERFECT, baseline=0.075)
    image = wall(2.0, camera)
    image.depth[:, 60:100] = 0.8
    depth, _ = camera.sense(image, np.random.default_rng(0))
    width = round(camera.baseline * camera.fx * (1 / 0.8 - 1 / 2.0))
    right = (depth[:, 100 : 100 + 3 * width] == 0).sum(1)
    assert (np.abs(right - width) <= 1).all(), f"a shadow of {width} pixels, not of {right[0]}"
    assert (depth[:, :60] > 0).all()


def test_range_and_grazing_incidence_bound_what_returns():
    camera = replace(PERFECT, grazing=70)
    for depth in (0.2, 7.0):
        assert not camera.sense(wall(depth, camera), np.random.default_rng(0))[0].any()
    image = wall(1.0, camera)
    image.incidence[:] = np.cos(np.deg2rad(75))
    assert not camera.sense(image, np.random.default_rng(0))[0].any()


def test_the_same_seed_gives_the_same_image():
    camera = SMALL
    first, second = (camera.sense(wall(1.3, camera), np.random.default_rng(4))[0] for _ in range(2))
    assert (first == second).all()
    assert (first != camera.sense(wall(1.3, camera), np.random.default_rng(5))[0]).any()


def test_a_scaled_camera_sees_the_same_field():
    half = DepthCamera().scaled(0.5)
    corner, whole = half.rays()[0, 0], DepthCamera().rays()[:2, :2].mean((0, 1))
    np.testing.assert_allclose(corner, whole, atol=1e-6)
