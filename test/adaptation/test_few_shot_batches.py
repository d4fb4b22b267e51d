"""What a step of few-shot training sees: drawn from (seed, step) alone, in the configured shares."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from domains_made import RECIPE, changed, looks, solids

from clipoint3d_ros.adaptation.batches import Batch, facing, source_batch, target_batch
from clipoint3d_ros.adaptation.clouds import Clouds, levelled, scanned
from clipoint3d_ros.geometry.views import view_directions

CONFIG = RECIPE.training


def config(**values):
    return changed(**values).training


def same(one, other, but=()):
    names = [f.name for f in fields(Batch) if f.name not in but]
    return all(torch.equal(getattr(one, n).nan_to_num(-1), getattr(other, n).nan_to_num(-1)) for n in names)


@pytest.fixture(scope="module")
def source():
    return levelled(solids(), 256)


@pytest.fixture(scope="module")
def target():
    return levelled(looks(), 256)


@pytest.fixture(scope="module")
def scans(source, target):
    return scanned(source, target, 3, seed=0)


def cubes(sides, seen=False):
    """One cube a class, of these sides."""
    rng = np.random.default_rng(0)
    surface = rng.normal(size=(512, 3))
    surface = torch.from_numpy(surface / np.abs(surface).max(1, keepdims=True) / 2).float()
    count = len(sides)
    return Clouds(
        torch.stack([side * surface for side in sides]),
        torch.arange(count),
        torch.full((count,), seen),
        torch.zeros(count),
        torch.zeros(count),
        metric=True,
    )


def test_a_batch_depends_on_seed_and_step_alone(source, scans, target):
    def drawn(step, **values):
        return source_batch(source, scans, config(**values), step), target_batch(target, config(**values), step)

    first = drawn(5)
    torch.rand(3), np.random.rand(3)  # noqa: NPY002 (the global generators, which must not matter)
    drawn(6)
    assert all(same(a, b) for a, b in zip(first, drawn(5), strict=True))
    assert not any(same(a, b) for a, b in zip(first, drawn(6), strict=True))
    assert not any(same(a, b) for a, b in zip(first, drawn(5, seed=1), strict=True))


def test_a_batch_holds_normalised_clouds_and_different_views_of_each(source, scans):
    batch = source_batch(source, scans, config(views=10), 0)
    assert batch.points.shape == (CONFIG.objects, CONFIG.points, 3)
    torch.testing.assert_close(batch.points.norm(dim=-1).amax(1), torch.ones(CONFIG.objects))
    torch.testing.assert_close(batch.points.mean(1), torch.zeros(CONFIG.objects, 3), atol=1e-5, rtol=0)
    assert batch.chosen.sort(1)[0].tolist() == [list(range(10))] * CONFIG.objects
    assert batch.facing.shape == (CONFIG.objects, 10)
    assert batch.extents.shape == (CONFIG.objects, 3)
    moved = batch.to(torch.device("meta"))
    assert all(part.device.type == "meta" for part in vars(moved).values())


def test_the_point_encoder_sees_the_whole_object_in_its_first_points():
    batch = source_batch(cubes([0.2] * 8), None, config(objects=8, points=256, cut_share=1.0), 0)
    first, whole = (batch.points[:, :count] for count in (64, 256))
    share = (first.amax(1) - first.amin(1)) / (whole.amax(1) - whole.amin(1))
    assert share.mean() > 0.85, "the first points are of one side"


@pytest.mark.parametrize("objects", [2, 4, 5])
def test_classes_are_even_over_the_steps(source, objects):
    seen = Counter()
    for step in range(6):
        labels = Counter(source_batch(source, None, config(objects=objects), step).labels.tolist())
        counts = [labels[c] for c in range(3)]
        assert max(counts) - min(counts) <= 1, "within a step"
        seen += labels
    assert sum(seen.values()) == 6 * objects
    assert {seen[c] for c in range(3)} == {2 * objects}


def test_classes_of_more_objects_are_not_seen_more_often(source):
    rows = torch.cat([torch.arange(len(source)), torch.zeros(20, dtype=torch.int64)])
    many = source.take(rows)
    labels = torch.cat([source_batch(many, None, config(objects=3), step).labels for step in range(4)])
    assert labels.bincount().tolist() == [4, 4, 4]


def test_every_source_object_comes_up():
    sides = torch.tensor([0.1, 0.3, 0.9, 2.7])
    clouds = replace(cubes(sides), labels=torch.tensor([0, 0, 1, 1]))
    plain = config(objects=4, points=256, cut_share=0.0, unknown_size=0.0)
    heights = torch.cat([source_batch(clouds, None, plain, step).extents[:, 0] for step in range(10)])
    drawn = (heights[:, None].log() - sides.log()).abs().argmin(1).bincount(minlength=4)
    assert drawn.sum() == 40
    assert drawn.min() > 4, f"drawn {drawn.tolist()} times"


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.35, 0.65)])
def test_scans_come_in_the_configured_share(source, scans, share, least, most):
    drawn = [source_batch(source, scans, config(objects=12, scan_share=share), step).seen for step in range(10)]
    assert least <= torch.cat(drawn).float().mean() <= most


def test_without_scans_the_source_is_complete(source):
    assert not source_batch(source, None, config(scan_share=1.0), 0).seen.any()


def test_scans_are_those_of_the_object_whose_label_they_bear():
    sides = torch.tensor([0.1, 0.3, 0.9, 2.7])
    whole, each = cubes(sides), 3
    looked = replace(cubes(sides.repeat_interleave(each), seen=True), labels=torch.full((4 * each,), 99))
    plain = config(objects=8, points=256, scan_share=0.5, cut_share=0.0, unknown_size=0.0)
    for step in range(3):
        batch = source_batch(whole, looked, plain, step)
        assert batch.seen.any()
        assert not batch.seen.all()
        torch.testing.assert_close(batch.extents[:, 0], sides[batch.labels], rtol=0.25, atol=0)


@pytest.mark.parametrize("objects", [2, 4, 7, 20])
def test_the_target_shows_every_object_once_before_any_again(target, objects):
    size = len(target)
    numbered = replace(target, labels=torch.arange(size))
    shown = [target_batch(numbered, config(objects=objects), step).labels for step in range(size)]
    rounds = torch.cat(shown)[: size * objects].view(-1, size)
    assert rounds.sort(1)[0].tolist() == [list(range(size))] * objects
    assert len({tuple(row) for row in rounds.tolist()}) > 1, "each round has its own order"


def test_what_the_targets_objects_are_changes_nothing_that_is_seen(source, target):
    other = replace(target, labels=torch.randint(0, 3, (len(target),)))
    for step in range(4):
        one, two = (target_batch(t, CONFIG, step) for t in (target, other))
        assert same(one, two, but=("labels",))
    a, b = (source_batch(source, scanned(source, t, 2, 0), CONFIG, 1) for t in (target, other))
    assert same(a, b)


def test_sizes_are_withheld_in_the_configured_share_and_of_clouds_without_a_unit(target):
    for metric, share, known in ((True, 0.0, 1.0), (True, 1.0, 0.0), (False, 0.0, 0.0)):
        batch = target_batch(replace(target, metric=metric), config(unknown_size=share), 0)
        assert torch.isfinite(batch.extents).float().mean() == known
    some = target_batch(target, config(objects=200, points=32, unknown_size=0.3), 0)
    assert torch.isnan(some.extents).all(1).float().mean() == pytest.approx(0.3, abs=0.1)
    assert torch.isfinite(some.points).all()


def test_facing_weights_sum_to_one_and_are_even_where_there_was_no_sensor(source, scans, target):
    for step in range(5):
        for batch in (source_batch(source, scans, config(views=3), step), target_batch(target, config(views=3), step)):
            torch.testing.assert_close(batch.facing.sum(1), torch.ones(len(batch.labels)))
            assert (batch.facing >= 0).all()
            torch.testing.assert_close(batch.facing[~batch.seen], torch.full((int((~batch.seen).sum()), 3), 1 / 3))


def test_views_that_face_the_sensor_weigh_more_and_rear_views_nothing(target):
    every = torch.arange(10).expand(len(target), -1)
    weights = facing(target, every)
    towards = torch.from_numpy(target.sensors()) / target.distance[:, None]
    cosines = towards @ torch.from_numpy(view_directions()).float().T
    assert (weights[cosines < 0] == 0).all()
    assert (weights.argmax(1) == cosines.argmax(1)).all()
    rear = cosines.argsort(1)[:, :2]
    torch.testing.assert_close(facing(target, rear), torch.full((len(target), 2), 0.5), msg="none faces: even")


def test_rear_views_are_drawn_less_often_the_lower_their_likelihood(target):
    def share(rear):
        batch = target_batch(target, config(objects=100, points=32, rear_views=rear), 0)
        return (batch.facing < 0.01).float().mean()

    assert share(0.0) < 0.2 < share(5.0)
