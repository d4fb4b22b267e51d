"""Faults of segmenters: what they add is foreign and touching, what they lose is bounded."""

import numpy as np
import pytest

from clipoint3d_ros.datasets import segmentation
from clipoint3d_ros.datasets.segmentation import bleed, erode, faulty, miss_part, split

FAR, NEAR = 1.0, 0.9
OBJECT = np.s_[20:60, 30:70]
NEIGHBOUR = np.s_[20:60, 70:90]


@pytest.fixture
def scene():
    """An object before a wall 10 cm behind it, a neighbour at its right as near as itself, some points missing."""
    depth = np.full((80, 100), FAR)
    depth[OBJECT] = depth[NEIGHBOUR] = NEAR
    v, u = np.mgrid[:80, :100]
    points = np.stack([(u - 50) / 500 * depth, (v - 40) / 500 * depth, depth], -1).astype(np.float32)
    mask = np.zeros((80, 100), bool)
    mask[OBJECT] = True
    points[::7, 72] = np.nan
    return mask, points


def test_bleeding_adds_only_foreign_points_of_the_objects_depth(scene):
    mask, points = scene
    sides = []
    for seed in range(60):
        found = bleed(mask, points, np.random.default_rng(seed))
        assert (found & mask).sum() == mask.sum(), "it loses nothing"
        added = found & ~mask
        assert np.isfinite(points[added]).all()
        assert (points[added][:, 2] == np.float32(NEAR)).all(), "the wall behind is too far away to bleed into"
        v, u = np.nonzero(added)
        assert set(u) <= {70, 71, 72, 73}
        assert not v.size or (v.min() >= 20 and v.max() < 60)
        sides.append(added.any())
    assert 0.3 < np.mean(sides) < 0.9, "one side at a time"


def test_a_part_that_is_missed_is_a_tenth_to_a_third(scene):
    mask, points = scene
    for seed in range(40):
        found = miss_part(mask, points, np.random.default_rng(seed))
        assert not (found & ~mask).any()
        assert 0.1 - 1e-3 <= 1 - found.sum() / mask.sum() <= 0.33 + 1e-3


def test_what_a_split_keeps_lies_on_one_side_of_a_plane(scene):
    mask, points = scene
    for seed in range(40):
        found = split(mask, points, np.random.default_rng(seed))
        assert not (found & ~mask).any()
        assert 0.45 - 1e-3 <= found.sum() / mask.sum() <= 0.8 + 1e-3
        v, u = np.nonzero(found)
        lost_v, lost_u = np.nonzero(mask & ~found)
        aside = np.array([v.mean() - lost_v.mean(), u.mean() - lost_u.mean()])
        kept, lost = np.stack([v, u], 1) @ aside, np.stack([lost_v, lost_u], 1) @ aside
        assert np.percentile(kept, 10) > np.percentile(lost, 60)


def test_erosion_loses_the_rim_only(scene):
    mask, points = scene
    for seed in range(10):
        found = erode(mask, points, np.random.default_rng(seed))
        assert found[22:58, 32:68].all()
        assert not found[20].any()
        assert not found[:, 69].any()
        assert not (found & ~mask).any()


def test_a_faulty_segment_keeps_at_least_two_fifths_and_differs(scene):
    mask, points = scene
    before = mask.copy()
    kept, differs = [], []
    for seed in range(300):
        found = faulty(mask, points, np.random.default_rng(seed))
        kept.append((found & mask).sum() / mask.sum())
        differs.append((found != mask).any())
        assert np.isfinite(points[found]).all()
    assert min(kept) >= segmentation.KEPT
    assert np.mean(differs) > 0.98
    assert 0.1 < np.mean(np.array(kept) == 1) < 0.5, "some only bleed"
    assert (mask == before).all(), "the object's own mask is left alone"


def test_objects_at_the_frames_corner_and_lone_points_are_fine():
    points = np.random.default_rng(0).normal(size=(12, 12, 3)).astype(np.float32)
    for corner in (np.s_[:3, :3], np.s_[-1:, -1:]):
        mask = np.zeros((12, 12), bool)
        mask[corner] = True
        for seed in range(40):
            found = faulty(mask, points, np.random.default_rng(seed))
            assert found.shape == mask.shape
            assert (found & mask).any()


def test_the_same_seed_gives_the_same_fault(scene):
    mask, points = scene
    first, second = (faulty(mask, points, np.random.default_rng(3)) for _ in range(2))
    assert (first == second).all()
