"""Levelled clouds, and source objects as the target's sensor would see them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from domains_made import looks, solids

from clipoint3d_ros.adaptation.clouds import Clouds, can_scan, levelled, scanned
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import random_subset
from clipoint3d_ros.recognition.classifier import ClassifierConfig

DIRECTIONS = np.concatenate([np.eye(3), -np.eye(3)])


def one(cloud, viewpoint=None, up=(0.0, 0.0, 1.0)):
    eyes = None if viewpoint is None else np.array([viewpoint], np.float32)
    return Objects("one", ("a",), (np.asarray(cloud, np.float32),), np.zeros(1, np.int64), np.zeros(1), up, eyes)


def places(elevations, distances):
    """A target of which only matters from where it was seen."""
    count = len(elevations)
    return Clouds(
        torch.zeros(count, 4, 3),
        torch.full((count,), -1),
        torch.ones(count, dtype=torch.bool),
        torch.tensor(elevations),
        torch.tensor(distances),
        metric=True,
    )


def ball(radius=0.1, points=1500):
    directions = np.random.default_rng(0).normal(size=(points, 3))
    return levelled(one(radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)), points)


def rotation(seed):
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turned * np.sign(np.linalg.det(turned))


def test_a_levelled_cloud_has_the_sensors_azimuth_at_front_by_hand():
    middle = np.array([2.0, 0.0, -1.0])
    clouds = levelled(one(middle + 0.1 * DIRECTIONS, viewpoint=(0, 0, 0)), 6)
    # It stands ahead of the sensor: ahead goes to −z, for the sensor is at +z; left to −x; up to +y.
    expected = 0.1 * np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, -1, 0]])
    np.testing.assert_allclose(clouds.points[0], expected[random_subset(6, 6)], atol=1e-6)
    assert clouds.distance.item() == pytest.approx(5**0.5)
    assert clouds.elevation.item() == pytest.approx(np.arctan2(1, 2))
    np.testing.assert_allclose(clouds.sensors(), [[0, 1, 2]], atol=1e-6)
    assert clouds.seen.tolist() == [True]


def test_a_sensor_below_the_object_has_an_elevation_below_zero():
    clouds = levelled(one([0, 0, 2] + 0.1 * DIRECTIONS, viewpoint=(1, 0, 0)), 6)
    assert clouds.elevation.item() == pytest.approx(np.arctan2(-2, 1))
    np.testing.assert_allclose(clouds.sensors(), [[0, -2, 1]], atol=1e-6)


@pytest.mark.parametrize(("height", "elevation"), [(3.0, np.pi / 2), (-3.0, -np.pi / 2), (0.0, 0.0)])
def test_a_sensor_straight_above_below_or_inside_is_answered(height, elevation):
    clouds = levelled(one(0.1 * DIRECTIONS, viewpoint=(0, 0, height)), 6)
    assert torch.isfinite(clouds.points).all()
    assert clouds.elevation.item() == pytest.approx(elevation, abs=1e-3)
    assert clouds.distance.item() == pytest.approx(abs(height))
    assert np.isfinite(clouds.sensors()).all()
    assert np.linalg.norm(clouds.sensors()) > 0


@pytest.mark.parametrize("seed", range(3))
def test_turning_cloud_up_and_viewpoint_together_changes_nothing(seed):
    cloud, eye = np.random.default_rng(seed).normal(size=(40, 3)) * [1, 2, 3], np.array([7.0, -2.0, 4.0])
    turned, shift = rotation(seed), np.array([0.5, -3.0, 2.0])
    plain = levelled(one(cloud, eye), 64)
    moved = levelled(one(cloud @ turned.T + shift, turned @ eye + shift, tuple(turned[:, 2])), 64)
    torch.testing.assert_close(plain.points, moved.points, atol=2e-5, rtol=0)
    torch.testing.assert_close(plain.elevation, moved.elevation)
    torch.testing.assert_close(plain.distance, moved.distance)


def test_complete_clouds_have_no_sensor_and_keep_labels_and_unit():
    objects = replace(solids(each=1), metric=False)
    clouds = levelled(objects, 128)
    assert clouds.points.shape == (3, 128, 3)
    assert clouds.points.dtype == torch.float32
    assert clouds.labels.tolist() == [0, 1, 2]
    assert not clouds.seen.any()
    assert clouds.elevation.tolist() == clouds.distance.tolist() == [0, 0, 0]
    assert not clouds.metric
    assert len(clouds) == 3


def test_clouds_of_fewer_points_repeat_them():
    cloud = levelled(one(DIRECTIONS), 15).points[0]
    rows, counts = np.unique(cloud.numpy().round(5), axis=0, return_counts=True)
    assert len(rows) == 6
    assert set(counts) == {2, 3}


def test_rows_are_taken_with_all_that_belongs_to_them():
    clouds = levelled(looks(each=2), 64)
    taken = clouds.take(torch.tensor([4, 1]))
    assert taken.labels.tolist() == [clouds.labels[4], clouds.labels[1]]
    for name in ("points", "seen", "elevation", "distance"):
        assert torch.equal(getattr(taken, name), getattr(clouds, name)[[4, 1]])


def test_scans_do_not_depend_on_what_the_targets_objects_are():
    source, target = levelled(solids(each=1), 256), levelled(looks(), 256)
    plain = scanned(source, target, 2, seed=0)
    shuffled = replace(target, labels=torch.randperm(len(target)))
    again = scanned(source, shuffled, 2, seed=0)
    for name in ("points", "labels", "seen", "elevation", "distance"):
        assert torch.equal(getattr(plain, name), getattr(again, name)), name
    assert not torch.equal(plain.points, scanned(source, target, 2, seed=1).points), "the seed draws"


def test_scans_of_one_object_stand_in_a_row():
    source = levelled(solids(each=2), 256)
    scans = scanned(source, levelled(looks(), 256), 3, seed=0)
    assert len(scans) == 3 * len(source)
    assert scans.labels.tolist() == source.labels.repeat_interleave(3).tolist()
    height = scans.points[..., 1].amax(1) - scans.points[..., 1].amin(1)
    own = (source.points[..., 1].amax(1) - source.points[..., 1].amin(1)).repeat_interleave(3)
    assert (height <= own + 1e-4).all(), "a scan is taller than the object it is said to be of"
    assert scans.points.shape[1:] == source.points.shape[1:]
    assert scans.seen.all()
    assert scans.metric


def test_scans_look_from_where_the_targets_objects_were_seen():
    target = places([0.2, 0.7, 1.2], [2.0, 4.0, 8.0])
    scans = scanned(ball(), target, 30, seed=0)
    # Seen from a place, a ball's middle lies up to a radius nearer.
    nearest = (scans.elevation[:, None] - target.elevation).abs().argmin(1)
    torch.testing.assert_close(scans.elevation, target.elevation[nearest], atol=0.1, rtol=0)
    torch.testing.assert_close(scans.distance, target.distance[nearest], atol=0.1, rtol=0)
    assert len(nearest.unique()) == 3, "every place takes part"


def test_a_scan_shows_the_side_that_faces_its_sensor():
    radius, distance = 0.1, 1.0
    scans = scanned(ball(radius), places([0.5], [distance]), 4, seed=0)
    reach = np.linalg.norm(scans.points.numpy() - scans.sensors()[:, None], axis=2)
    horizon = (distance**2 - radius**2) ** 0.5
    assert reach.max() < horizon + 0.02, "a point beyond the horizon is seen"
    assert reach.min() == pytest.approx(distance - radius, abs=5e-3)
    torch.testing.assert_close(scans.points.mean(1), torch.zeros(4, 3), atol=0.01, rtol=0)


def test_scans_have_more_than_a_few_points():
    scans = scanned(levelled(solids(each=1, points=2048), 2048), levelled(looks(), 256), 4, seed=0)
    fewest = min(len(np.unique(cloud.numpy(), axis=0)) for cloud in scans.points)
    assert fewest >= 48 >= ClassifierConfig().min_points


def test_a_sensor_within_the_object_stands_back():
    scans = scanned(ball(radius=1.0), places([0.5], [0.1]), 2, seed=0)
    assert (scans.distance > 1).all()
    assert torch.isfinite(scans.points).all()


@pytest.mark.parametrize("points", [1, 2, 10])
def test_objects_of_few_points_are_scanned_too(points):
    cloud = np.random.default_rng(0).normal(size=(points, 3))
    scans = scanned(levelled(one(cloud), 32), places([0.5], [3.0]), 2, seed=0)
    assert scans.points.shape == (2, 32, 3)
    assert torch.isfinite(scans.points).all()


def test_scans_of_what_does_not_suit_are_refused_in_words():
    source, target = levelled(solids(each=1), 64), levelled(looks(each=1), 64)
    assert can_scan(source, target)
    blind = replace(target, seen=torch.zeros(len(target), dtype=torch.bool))
    for wrong in ((source, replace(target, metric=False)), (source, blind), (target, target)):
        assert not can_scan(*wrong)
        with pytest.raises(ValueError, match="complete source, a target with known viewpoints, and one unit"):
            scanned(*wrong, 2, seed=0)
    with pytest.raises(ValueError, match="complete source"):
        scanned(source, target.take(torch.arange(0)), 2, seed=0)
