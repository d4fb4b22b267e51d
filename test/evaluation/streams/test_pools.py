"""Pools of simulated objects, and of real ones."""

import numpy as np
import pytest
from labelled import scene_folder
from streams_made import CLASSES, SIZES

from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.datasets.objects import NO_LABEL
from clipoint3d_ros.evaluation.streams.pools import (
    CLEAN,
    KEPT,
    Sizes,
    Variant,
    corruptions,
    is_wear,
    probe_pool,
    real_pool,
    simulated_pool,
)
from clipoint3d_ros.geometry.corruption import KINDS


def test_a_pool_has_as_many_looks_as_asked_for(pool):
    assert len(pool.clean) == SIZES.known
    assert len(pool.unknown) == SIZES.unknown
    assert len(corruptions()) == 3 * len(KINDS)
    assert all(len(pool.rows_of(variant)) == SIZES.each for variant in corruptions())
    worn = sum(len(pool.rows_of(v)) for v in pool.variants if is_wear(v))
    assert worn == SIZES.worn * SIZES.known
    assert len(pool) == SIZES.known + SIZES.unknown + SIZES.each * 3 * len(KINDS) + worn


def test_clouds_are_those_of_the_sensor_s_near_side_in_metres(pool):
    assert set(pool.labels[pool.clean]) <= {0, 1, 2}
    assert (pool.labels[pool.unknown] == NO_LABEL).all()
    for row in pool.clean[:6]:
        cloud = pool.cloud(row)
        assert cloud.dtype == np.float32
        assert 16 <= len(cloud) <= KEPT
        assert 0.2 < np.linalg.norm(cloud.mean(0)) < 3, "the sensor is the origin"


def test_a_corrupted_cloud_is_the_same_every_time_and_not_the_clean_one(pool):
    for variant in corruptions():
        row = pool.rows_of(variant)[0]
        first, second = pool.cloud(row), pool.cloud(row)
        clean = pool.objects.clouds[pool.base[row]]
        assert np.array_equal(first, second)
        assert first.shape != clean.shape or not np.array_equal(first, clean)


def test_the_same_seed_gives_the_same_pool_and_another_one_another(pool, tmp_path, streams_cache):
    few = Sizes(known=6, unknown=2, each=1, worn=1, resolution=0.25)
    again = simulated_pool(CLASSES, few, tmp_path, progress=False)
    assert again.digest == simulated_pool(CLASSES, few, streams_cache, progress=False).digest
    assert all(np.array_equal(a, b) for a, b in zip(again.objects.clouds[:6], pool.objects.clouds[:6], strict=True))
    other = Sizes(known=6, unknown=2, each=1, worn=1, resolution=0.25, seed=5)
    assert simulated_pool(CLASSES, other, tmp_path, progress=False).digest != again.digest


def test_real_scenes_give_their_named_objects_only(tmp_path):
    scene_folder(tmp_path)
    pool = real_pool(describe(["box", "can"]), tmp_path, "s*")
    assert (len(pool), len(pool.clean), len(pool.unknown)) == (6, 6, 0)
    assert pool.variants == (CLEAN,)
    assert sorted(set(pool.scenes.tolist())) == [0, 1, 2]
    with pytest.raises(ValueError, match="has an object of bed"):
        real_pool(describe(["bed"]), tmp_path, "s*")


def test_the_probe_holds_every_class_alike(pool):
    probe = probe_pool(CLASSES, SIZES)
    assert np.bincount(probe.labels).tolist() == [2, 2, 2]
    assert probe.viewpoint(0) is None


def test_what_cannot_be_simulated_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match="no procedural shape for gadget"):
        simulated_pool(describe(["gadget"]), SIZES, tmp_path)
    with pytest.raises(ValueError, match="must be at least 1"):
        Sizes(long=0)
    with pytest.raises(ValueError, match="are drawn from 'known'"):
        Sizes(known=10, each=11)
    assert Variant() == CLEAN
