"""Corruptions of metric clouds."""

import numpy as np
import pytest

from clipoint3d_ros.geometry.corruption import KINDS, MIN_POINTS, SEVERITIES, corrupt

EYE = np.array([0.0, -1.5, 0.6])
SAME_COUNT = ("jitter", "scale", "rotate", "range_noise")


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(1024, 3))
    return (0.1 * direction / np.linalg.norm(direction, axis=1, keepdims=True) + [0.4, 0.1, 0.2]).astype(np.float32)


def harm(kind, severity, cloud):
    """How far a corruption of a severity goes: points moved, lost or added, mean over draws."""
    found = []
    for seed in range(12):
        made = corrupt(kind, severity, cloud, np.random.default_rng(seed), EYE)
        same = len(made) == len(cloud)
        found.append(np.linalg.norm(made - cloud, axis=1).mean() if same else abs(len(made) - len(cloud)))
    return np.mean(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_does_more_harm(cloud, kind):
    harms = [harm(kind, severity, cloud) for severity in SEVERITIES]
    assert all(np.diff(harms) > 0), f"{kind}: {harms}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_a_finite_float32_cloud_of_the_right_count(cloud, kind):
    for severity in SEVERITIES:
        made = corrupt(kind, severity, cloud, np.random.default_rng(3), EYE)
        assert made.dtype == np.float32
        assert made.shape[1:] == (3,)
        assert np.isfinite(made).all()
        if kind in SAME_COUNT:
            assert len(made) == len(cloud)
        else:
            assert (len(made) < len(cloud)) == kind.startswith("drop")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_draws_give_the_same_cloud_and_leave_the_given_one_alone(cloud, kind):
    before = cloud.copy()
    first, second = (corrupt(kind, 4, cloud, np.random.default_rng(7), EYE) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(cloud, before)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_follow_the_cloud_s_own_size(cloud, kind):
    """Range noise is in metres; the others are in radii: a cloud twice as large is corrupted twice as much."""
    if kind == "range_noise":
        return
    small = corrupt(kind, 3, cloud, np.random.default_rng(1), EYE)
    large = corrupt(kind, 3, 2 * cloud, np.random.default_rng(1), EYE)
    assert np.allclose(large, 2 * small, atol=1e-5)


@pytest.mark.parametrize("kind", ["drop_global", "drop_local"])
def test_a_small_cloud_keeps_some_points(cloud, kind):
    assert len(corrupt(kind, 5, cloud[:20], np.random.default_rng(0))) >= MIN_POINTS
    assert len(corrupt(kind, 5, cloud[:3], np.random.default_rng(0))) == 3


def test_a_local_drop_leaves_a_hole_and_a_global_one_does_not(cloud):
    def emptiest(made):
        """Distance from any lost point to the nearest left one, the largest."""
        return max(np.linalg.norm(made - point, axis=1).min() for point in cloud)

    holes = [emptiest(corrupt("drop_local", 4, cloud, np.random.default_rng(s))) for s in range(6)]
    thinned = [emptiest(corrupt("drop_global", 2, cloud, np.random.default_rng(s))) for s in range(6)]
    assert np.mean(holes) > 1.5 * np.mean(thinned)


def test_range_noise_keeps_every_point_on_its_ray_and_grows_with_range(cloud):
    made = corrupt("range_noise", 5, cloud, np.random.default_rng(0), EYE)
    before, after = cloud - EYE, made - EYE
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert np.allclose(cosine, 1, atol=1e-5)
    far = corrupt("range_noise", 5, cloud + np.float32([0, 3, 0]), np.random.default_rng(0), EYE)
    assert np.std(far - cloud - [0, 3, 0]) > 2 * np.std(made - cloud)


def test_what_cannot_be_corrupted_is_refused_in_words(cloud):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no corruption 'rain'; there are jitter, scale"):
        corrupt("rain", 1, cloud, rng)
    with pytest.raises(ValueError, match="severity must be 1 to 5, but is 6"):
        corrupt("jitter", 6, cloud, rng)
    with pytest.raises(ValueError, match="give the viewpoint"):
        corrupt("range_noise", 1, cloud, rng)
    with pytest.raises(ValueError, match="N of at least 1"):
        corrupt("jitter", 1, cloud[:0], rng)
