"""Simulated scenes: labels belong to the points, objects stand apart, some stand on others."""

import numpy as np

from clipoint3d_ros.datasets.scenes import FIRST_OBJECT, level_points, read_scenes, write_folder
from clipoint3d_ros.datasets.shapes import MAKERS
from clipoint3d_ros.datasets.tabletop import SceneConfig, populate, scene_config, simulate
from clipoint3d_ros.geometry.camera import DepthCamera

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
