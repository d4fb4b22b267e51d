"""The simulated depth camera: ideal images first, then each fault on its own."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from clipoint3d_ros.geometry.camera import (
    KINECT,
    REALSENSE,
    TOF,
    DepthCamera,
    Image,
    back_project,
    look_at,
    render,
    smooth_noise,
    visible_shares,
)

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


def before_a_wall(camera, near=1.0, far=2.0):
    """A strip at `near`, surface 1, a third of the image wide, before a wall at `far`, surface 0."""
    image = wall(far, camera)
    strip = slice(camera.width // 3, 2 * camera.width // 3)
    image.depth[:, strip], image.surface[:, strip] = near, 1
    return image, strip


@pytest.mark.parametrize("metres", [1.0, 3.0])
@pytest.mark.parametrize(
    ("camera", "sigma"),
    [
        (KINECT, lambda z: 0.0012 + 0.0019 * (z - 0.4) ** 2),
        (REALSENSE, lambda z: 0.08 * z**2 / (0.05 * 425)),
        (TOF, lambda z: 0.0015 + 0.0002 * (z - 0.4) ** 2),
    ],
    ids=["kinect", "realsense", "tof"],
)
def test_noise_on_a_wall_is_what_was_measured_of_each_camera(camera, sigma, metres):
    depth, _ = camera.sense(wall(metres, camera), np.random.default_rng(0))
    quantum = camera.disparity_step * metres**2 / (camera.baseline * camera.fx) if camera.disparity_step else 0
    expected = np.hypot(sigma(metres), quantum / np.sqrt(12))
    assert depth[depth > 0].std() == pytest.approx(expected, rel=0.15)
    assert depth[depth > 0].mean() == pytest.approx(metres, rel=0.005)
    assert (depth > 0).mean() > 0.9


def test_a_matching_window_smooths_its_noise_and_a_time_of_flight_pixel_does_not():
    for camera, least, most in ((REALSENSE, 0.6, 1.0), (TOF, -0.05, 0.05)):
        depth, _ = replace(camera, holes=0).sense(wall(2.0, camera), np.random.default_rng(0))
        off = depth[50:400, 50:500] - 2.0
        alike = np.corrcoef(off[:, 1:].ravel(), off[:, :-1].ravel())[0, 1]
        assert least < alike < most, f"neighbours' noise correlates by {alike:.2f}"


def test_smooth_noise_is_standard_normal_everywhere():
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise((40, 30), 7.0, rng) for _ in range(2000)])
    np.testing.assert_allclose(fields.std(0), 1, atol=0.1)
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.1)


def test_stereo_fattens_what_is_near_over_what_lies_behind():
    camera = replace(REALSENSE, lateral=0, edge_dropout=0, holes=0, baseline=1e-3, subpixel=0, disparity_step=0)
    image, strip = before_a_wall(camera)
    depth, surface = camera.sense(image, np.random.default_rng(0))
    width = strip.stop - strip.start
    growth = (surface == 1).sum(1) - width
    assert growth.min() >= 0
    assert growth.max() <= 2 * camera.fattening
    assert 1 < growth.mean() < 2 * camera.fattening - 1
    assert growth.std() > 0.3, "it grows unevenly"
    np.testing.assert_allclose(depth[surface == 1], 1.0, atol=0.01)
    np.testing.assert_allclose(depth[surface == 0], 2.0, atol=0.01)


def test_time_of_flight_leaves_pixels_flying_between_two_surfaces():
    for camera, flying in ((TOF, True), (KINECT, False)):
        depth, surface = camera.sense(before_a_wall(camera)[0], np.random.default_rng(0))
        between = (depth > 1.1) & (depth < 1.9)
        assert between.any() == flying
        if flying:
            assert 0.3 < between.sum() / (4 * camera.height) < 0.8, "of the two pixels at each of two edges"
            assert ((depth[between] < 1.5) == (surface[between] == 1)).mean() > 0.95, "they belong to what is closer"


def test_stereo_finds_no_texture_in_patches():
    camera = replace(REALSENSE, holes=0.1, edge_dropout=0)
    depth, _ = camera.sense(wall(1.0, camera), np.random.default_rng(0))
    hole = depth == 0
    assert hole.mean() == pytest.approx(0.1, abs=0.03)
    assert hole[:, 1:][hole[:, :-1]].mean() > 0.8, "a hole's neighbour is a hole"


def test_a_half_hidden_box_is_half_visible():
    eye = np.array([0.0, 0, 2])
    pose = look_at(eye, np.zeros(3), up=(0, 1, 0))
    target, screen = box((0.2, 0.2, 0.2), (0, 0, 0)), box((0.5, 0.5, 0.01), (0.25, 0, 1.0))
    shares = visible_shares([target, screen], SMALL, pose)
    np.testing.assert_allclose(shares, [0.5, 1.0], atol=0.05)
    np.testing.assert_allclose(visible_shares([target], SMALL, pose), [1.0])


def test_the_frame_cuts_what_is_visible():
    camera = SMALL
    edge = (camera.width - 0.5 - camera.cx) / camera.fx  # of the image, metres aside at one metre
    pose = look_at(np.zeros(3), np.array([0.0, 0, 1]), up=(0, -1, 0))
    flat = (0.2, 0.2, 0.001)
    at = [0.0, edge - 0.05, edge, edge + 0.05, edge + 0.2]
    shares = [float(visible_shares([box(flat, (x, 0, 1))], camera, pose)[0]) for x in at]
    # Of directions, not of the image's area, which grows towards its edge: a little more than the area inside.
    np.testing.assert_allclose(shares, [1, 0.75, 0.5, 0.25, 0], atol=0.07)


@pytest.mark.parametrize("camera", [KINECT, REALSENSE, TOF], ids=["kinect", "realsense", "tof"])
def test_a_frame_contains_its_own_rays_and_no_others(camera):
    rays = camera.rays()
    assert camera.contains(rays).all()
    assert not camera.contains(-rays).any(), "nothing behind the camera is in the frame"
    assert not camera.contains(rays[:, -1] + [1 / camera.fx, 0, 0]).any()
