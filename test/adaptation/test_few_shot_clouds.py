"""Levelled clouds, and source objects as the target's sensor would see them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from domains_made import looks, solids

from clipoint3d_ros.adaptation.clouds import Clouds, can_scan, levelled, misshapen, scanned, worn
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import random_subset
from clipoint3d_ros.recognition.config import ClassifierConfig

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


# Other proportions


def mirrored(points=200, seed=0):
    """A cloud around the origin that is its own mirror image, so that no taper moves its axis."""
    half = np.random.default_rng(seed).normal(size=(points, 3)) * [0.1, 0.2, 0.05]
    half[:, 1] -= half[:, 1].mean()  # its mean is the origin
    return np.concatenate([half, half * [-1, 1, -1]])


def test_proportions_by_nothing_are_the_same():
    cloud = mirrored()
    np.testing.assert_allclose(misshapen(cloud, 0.0, np.random.default_rng(0)), cloud, atol=1e-6)


@pytest.mark.parametrize("amount", [0.1, 0.25, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_misshapen_cloud_stands_upright_around_the_origin_and_is_stretched_within_bounds(amount, seed):
    cloud = mirrored()
    other = misshapen(cloud, amount, np.random.default_rng(seed))
    assert other.dtype == np.float32
    np.testing.assert_allclose(other.mean(0), 0, atol=1e-6)
    tallness = other[:, 1] / cloud[:, 1]
    np.testing.assert_allclose(tallness, tallness[0], rtol=1e-3, err_msg="heights are stretched alike, so up stays up")
    assert np.exp(-amount) <= tallness[0] <= np.exp(amount)
    for axis in (0, 2):
        widths = other[:, axis] / cloud[:, axis]
        assert (widths >= np.exp(-amount) * (1 - amount / 2) - 1e-3).all()
        assert (widths <= np.exp(amount) * (1 + amount / 2) + 1e-3).all()
        # The section grows or shrinks steadily from bottom to top.
        line = np.polyval(np.polyfit(cloud[:, 1], widths, 1), cloud[:, 1])
        np.testing.assert_allclose(widths, line, rtol=1e-3)


def test_proportions_differ_in_every_axis_from_draw_to_draw_and_follow_the_generator():
    cloud, rng = mirrored(), np.random.default_rng(0)
    drawn = [np.ptp(misshapen(cloud, 0.25, rng), axis=0) for _ in range(20)]
    stretches = np.array(drawn) / np.ptp(cloud, axis=0)
    assert (stretches.std(0) > 0.05).all()
    assert np.abs(np.corrcoef(stretches.T)[np.triu_indices(3, 1)]).max() < 0.7, "the axes are stretched alike"
    np.testing.assert_array_equal(np.ptp(misshapen(cloud, 0.25, np.random.default_rng(0)), axis=0), drawn[0])


def test_a_misshapen_cloud_whose_taper_moves_its_mean_is_centred_again():
    lean = np.array([[0.1, 1.0, 0.2], [-0.1, -1.0, -0.2]])  # the upper end to one side: a taper moves the middle
    for seed in range(5):
        np.testing.assert_allclose(misshapen(lean, 0.5, np.random.default_rng(seed)).mean(0), 0, atol=1e-6)


@pytest.mark.parametrize("cloud", [np.zeros((1, 3)), np.random.default_rng(0).normal(size=(9, 3)) * [1, 0, 1]])
def test_a_point_and_a_flat_cloud_are_misshapen_too(cloud):
    other = misshapen(cloud - cloud.mean(0), 0.25, np.random.default_rng(0))
    assert np.isfinite(other).all()
    assert np.ptp(other[:, 1]) == 0


def test_scans_are_of_the_objects_own_proportions_unless_told_otherwise():
    source, target = levelled(solids(each=1), 256), levelled(looks(), 256)
    plain, other = (scanned(source, target, 6, 0, misshape) for misshape in (0.0, 0.4))
    assert other.labels.tolist() == plain.labels.tolist()

    def tallness(scans):
        height = scans.points[..., 1].amax(1) - scans.points[..., 1].amin(1)
        own = source.points[..., 1].amax(1) - source.points[..., 1].amin(1)
        return height / own.repeat_interleave(6)

    assert (tallness(plain) <= 1 + 1e-4).all()
    assert (tallness(other) <= np.exp(0.4) + 1e-4).all()
    assert tallness(other).max() > 1.1, "no scan is of a taller object"
    assert torch.equal(other.points, scanned(source, target, 6, 0, 0.4).points), "the seed draws"


# What sensors and segmenters do


def test_worn_clouds_keep_their_labels_and_viewpoints():
    clouds = levelled(looks(each=2), 256)
    before = clouds.points.clone()
    for cut_share in (0.0, 1.0):
        spoilt = worn(clouds, 100, cut_share, seed=0)
        assert spoilt.points.shape == (len(clouds), 100, 3)
        assert spoilt.points.dtype == torch.float32
        assert torch.isfinite(spoilt.points).all()
        assert spoilt.metric == clouds.metric
        for name in ("labels", "seen", "elevation", "distance"):
            assert torch.equal(getattr(spoilt, name), getattr(clouds, name)), name
    assert torch.equal(clouds.points, before), "the clouds given have changed"


def test_how_clouds_are_worn_is_drawn_from_the_seed():
    clouds = levelled(looks(each=2), 256)
    one, again, other = (worn(clouds, 100, 0.5, seed).points for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_worn_cloud_is_of_the_same_object():
    clouds = levelled(looks(each=2), 256)
    radius = clouds.points.norm(dim=-1).amax(1)
    spoilt = worn(clouds, 256, 0.0, seed=0).points.norm(dim=-1).amax(1)
    assert (spoilt < 1.15 * radius).all(), "a stretch of 8 % and a noise of 1.2 % make it larger than that"
    assert (spoilt > 0.85 * radius).all()


def test_the_share_of_clouds_that_lack_a_part_is_the_configured_one():
    many = ball(points=300).take(torch.zeros(200, dtype=torch.int64))

    def spoilt(cut_share):
        middles = worn(many, 300, cut_share, seed=0).points.mean(1).norm(dim=1)
        return float((middles > 0.01).float().mean())  # of a ball of 0.1 whose part is missing

    assert spoilt(0.0) < 0.05
    assert spoilt(0.0) < spoilt(0.5) - 0.2 < spoilt(1.0) - 0.4
