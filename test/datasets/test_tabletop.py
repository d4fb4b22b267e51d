"""Simulated scenes: labels belong to the points, objects stand apart, some stand on others."""

from dataclasses import replace

import numpy as np
import pytest

from clipoint3d_ros.datasets.scenes import FIRST_OBJECT, level_points, read_scenes, write_folder
from clipoint3d_ros.datasets.shapes import MAKERS, make_shape
from clipoint3d_ros.datasets.tabletop import Placed, SceneConfig, populate, scan, scene_config, simulate
from clipoint3d_ros.geometry.camera import REALSENSE, TOF, DepthCamera
from clipoint3d_ros.geometry.lidar import LIDARS

CLASSES = ("box", "can", "tin", "book", "pot", "bowl", "mug", "carton")
CAMERA = DepthCamera().scaled(0.5)


def footprint(placed):
    low, high = placed.shape.mesh.bounds
    return low[:2] + placed.at[:2], high[:2] + placed.at[:2]


def test_objects_on_the_ground_overlap_by_no_more_than_the_gap_allows():
    rng = np.random.default_rng(0)
    config = SceneConfig(objects=(8, 8), stacking=0.0)
    for _ in range(10):
        placed = populate(CLASSES, rng, config)
        for i, first in enumerate(placed):
            for second in placed[:i]:
                (a, b), (c, d) = footprint(first), footprint(second)
                assert (np.maximum(a, c) - np.minimum(b, d)).max() > config.gap[0] - 1e-9


def test_stacked_objects_stand_on_another():
    rng = np.random.default_rng(0)
    stacked = []
    for _ in range(20):
        placed = populate(CLASSES, rng, SceneConfig(objects=(8, 8), stacking=1.0))
        heights = {round(float(np.ptp(p.shape.mesh.bounds[:, 2]) + p.at[2]), 9) for p in placed}
        for p in placed:
            if p.at[2] > 0:
                stacked.append(p)
                assert round(float(p.at[2]), 9) in heights, "it floats"
    assert len(stacked) >= 10


def test_a_simulated_scene_is_labelled_as_the_real_ones_are():
    scene = simulate("one", CLASSES, np.random.default_rng(3), camera=CAMERA)
    assert scene.depth.shape == scene.instance.shape == (240, 320)
    assert ((scene.instance > 0) == (scene.depth > 0)).all(), "every return belongs to something"
    assert set(scene.classes.values()) <= set(CLASSES)
    assert scene.classes
    for key in scene.classes:
        assert key >= FIRST_OBJECT
        assert (scene.instance == key).sum() >= SceneConfig().min_points
    cloud = level_points(scene)
    ground = cloud[scene.instance == 1][:, 2]
    objects = cloud[scene.instance >= FIRST_OBJECT][:, 2]
    assert np.percentile(ground, 95) - np.percentile(ground, 5) < 0.05, "a levelled table is level"
    assert np.median(objects) > np.median(ground)


def test_scenes_survive_being_written_and_read(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [simulate(f"scene{i}", CLASSES, rng, camera=CAMERA) for i in range(2)]
    write_folder(tmp_path, scenes)
    for before, after in zip(scenes, read_scenes(tmp_path), strict=True):
        assert before.classes == after.classes
        assert (before.instance == after.instance).all()
        np.testing.assert_allclose(before.depth, after.depth, atol=0.51e-4)
        np.testing.assert_allclose(before.up, after.up, atol=1e-6)


def test_the_same_seed_gives_the_same_scene():
    first, second = (simulate("s", CLASSES, np.random.default_rng(9), camera=CAMERA) for _ in range(2))
    assert (first.depth == second.depth).all()


def test_furniture_stands_on_a_floor_farther_away():
    furniture = [name for name, maker in MAKERS.items() if not maker.tabletop]
    config = scene_config(furniture)
    assert np.mean(config.distance) > 2 * np.mean(scene_config(CLASSES).distance)
    scene = simulate("room", furniture, np.random.default_rng(2), camera=CAMERA)
    seen = scene.depth[scene.instance >= FIRST_OBJECT]
    assert np.median(seen) > config.distance[0] * 0.8


SENSORS = {"kinect": CAMERA, "realsense": REALSENSE.scaled(0.5), "tof": TOF.scaled(0.5), "lidar": LIDARS[64]}


@pytest.mark.parametrize("name", SENSORS)
def test_every_sensor_scans_the_same_way(name):
    sensor = SENSORS[name]
    rng = np.random.default_rng(5)
    config = SceneConfig(objects=(5, 5), stacking=0.0)
    placed = populate(CLASSES, rng, config)
    found = scan(placed, rng, config, sensor)
    assert found.points.shape == (*found.instance.shape, 3) == sensor.rays().shape
    assert found.points.dtype == np.float32
    assert (np.isfinite(found.points).all(-1) == (found.instance > 0)).all(), "every return belongs to something"
    assert set(found.visible) == {FIRST_OBJECT + i for i in range(5)}
    assert all(0 <= share <= 1 for share in found.visible.values())
    assert set(np.unique(found.instance)) <= {0, 1, *found.visible}
    height = found.points @ found.up
    ground = height[found.instance == 1]
    level = np.median(ground)
    assert np.abs(ground - level).max() < 0.25, "flying points aside, the table is flat"
    for key, share in found.visible.items():
        if share > 0.8:
            top = np.percentile(height[found.instance == key], 95) - level
            whole = np.ptp(placed[key - FIRST_OBJECT].shape.mesh.bounds[:, 2])
            assert top == pytest.approx(whole, abs=0.04), "the object is as high above the table as its mesh"


def test_a_lone_object_in_the_middle_is_wholly_visible_and_a_hidden_one_less():
    rng = np.random.default_rng(0)
    near, level = SceneConfig(distance=(1.0, 1.0), elevation=(15.0, 15.0)), []
    alone = [Placed(make_shape("box", rng), np.zeros(3))]
    assert scan(alone, rng, near, CAMERA).visible[FIRST_OBJECT] == pytest.approx(1, abs=0.02)
    row = [Placed(make_shape("box", rng), np.array([0.0, y, 0.0])) for y in (-0.6, 0.0, 0.6)]
    for _ in range(20):
        level.append(
            min(scan(row, rng, SceneConfig(distance=(1.5, 1.5), elevation=(5.0, 5.0)), CAMERA).visible.values())
        )
    assert min(level) < 0.8 < max(level), "along the row one hides another, across it none does"


def test_a_look_past_the_middle_has_the_frame_cut_objects():
    rng = np.random.default_rng(0)
    config = scene_config(CLASSES)
    one = [Placed(make_shape("box", rng), np.zeros(3))]
    cut = {}
    for aside in (0.0, 1.0):
        looks = [scan(one, rng, replace(config, aside=aside), LIDARS[16]) for _ in range(60)]
        cut[aside] = np.mean([look.visible[FIRST_OBJECT] < 0.99 for look in looks])
    assert cut[1.0] > cut[0.0] + 0.3


def test_distances_cover_what_robots_meet_and_near_ones_more():
    furniture = [name for name, maker in MAKERS.items() if not maker.tabletop]
    near, far = scene_config(CLASSES).distance, scene_config(furniture).distance
    assert near[0] <= 0.45
    assert near[1] >= far[0]
    assert far[1] >= 4.0
    rng = np.random.default_rng(0)
    one = [Placed(make_shape("can", rng), np.zeros(3))]
    looks = [scan(one, rng, replace(scene_config(CLASSES), aside=0.0), LIDARS[16]) for _ in range(150)]
    distances = [
        np.nanmin(np.linalg.norm(x.points[x.instance == 2], axis=-1)) for x in looks if (x.instance == 2).any()
    ]
    assert np.median(distances) < np.mean(near) - 0.1


def test_the_frame_cuts_few_objects_unless_the_look_goes_past():
    rng = np.random.default_rng(0)
    config = SceneConfig(objects=(3, 5))
    wide = [scan(populate(CLASSES, rng, config), rng, config, CAMERA) for _ in range(8)]
    edge = [np.concatenate([w.instance[0], w.instance[-1], w.instance[:, 0], w.instance[:, -1]]) for w in wide]
    assert np.mean([(e >= FIRST_OBJECT).any() for e in edge]) < 0.5
