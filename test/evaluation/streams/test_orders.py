"""Orders of a stream, and the named streams."""

import numpy as np
import pytest
from streams_made import SIZES

from clipoint3d_ros.datasets.objects import NO_LABEL
from clipoint3d_ros.evaluation.streams import orders
from clipoint3d_ros.evaluation.streams.pools import CLEAN, corruptions, is_wear
from clipoint3d_ros.evaluation.streams.streams import STREAMS, find_streams

ROWS = np.arange(100, 400)
LABELS = np.arange(300) % 6


def label_of(order):
    return LABELS[order - 100]


def test_shuffled_and_ordered_streams_show_every_object_once():
    rng = np.random.default_rng(0)
    for made in (
        orders.shuffled(ROWS, rng),
        orders.dirichlet(ROWS, LABELS, 0.1, rng),
        orders.by_class(ROWS, LABELS, rng),
        orders.by_scene(ROWS, ROWS // 7, rng),
    ):
        assert sorted(made) == ROWS.tolist()


def test_class_order_shows_one_class_after_another():
    order = label_of(orders.by_class(ROWS, LABELS, np.random.default_rng(0)))
    assert orders.stretches(order) == 6


def test_the_smaller_delta_the_longer_the_runs_of_one_class():
    def changes(delta):
        made = [orders.dirichlet(ROWS, LABELS, delta, np.random.default_rng(seed)) for seed in range(5)]
        return np.mean([orders.stretches(label_of(order)) for order in made])

    mixed = orders.stretches(label_of(orders.shuffled(ROWS, np.random.default_rng(0))))
    assert changes(0.1) < changes(10.0) < mixed / 4
    with pytest.raises(ValueError, match="delta must be above 0"):
        orders.dirichlet(ROWS, LABELS, 0.0, np.random.default_rng(0))


def test_scene_order_keeps_each_scene_together_and_its_own_order():
    scenes = ROWS // 7
    order = orders.by_scene(ROWS, scenes, np.random.default_rng(3))
    assert orders.stretches(order // 7) == len(np.unique(scenes))
    assert all(np.diff(order[order // 7 == scene]).min(initial=1) > 0 for scene in np.unique(scenes))
    assert not np.array_equal(order, ROWS), "the scenes themselves are shuffled"


def test_at_most_four_classes_are_active_in_a_stretch_and_others_come():
    order = orders.few_active(ROWS, LABELS, np.random.default_rng(0), most=2, stretch=(30, 30))
    assert len(order) == len(ROWS)
    per_stretch = [set(label_of(order[i : i + 30]).tolist()) for i in range(0, 300, 30)]
    assert max(map(len, per_stretch)) <= 2
    assert len(set().union(*per_stretch)) > 2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_of_unknown_objects_is_as_asked(share):
    order = orders.with_unknown(np.arange(1000), np.arange(5000, 5500), share, np.random.default_rng(0))
    assert (order >= 5000).mean() == pytest.approx(share, abs=0.005)
    assert len(set(order.tolist())) == len(order)
    with pytest.raises(ValueError, match="between 0 and 1"):
        orders.with_unknown(ROWS, ROWS, 1.0, np.random.default_rng(0))


def test_corruptions_come_kind_by_kind_growing_between_clean_stretches(pool):
    order = orders.continual(pool, np.random.default_rng(0))
    seen = [pool.variants[v] for v in pool.variant[order]]
    assert seen[0] == seen[-1] == CLEAN
    kinds = [v.kind for v in seen]
    middle = [k for k in kinds if k]
    assert orders.stretches([sorted(set(middle)).index(k) for k in middle]) == len(set(middle)) == 8
    for kind in set(middle):
        severities = [v.severity for v in seen if v.kind == kind]
        assert severities == sorted(severities)
        assert set(severities) == {3, 4, 5}
    first, last = kinds.index(middle[0]), len(kinds) - kinds[::-1].index(middle[-1])
    assert not set(order[:first]) & set(order[last:]), "the clean objects afterwards are others"


def test_a_long_run_is_as_long_as_asked_and_meets_every_class_and_wear(pool):
    order = orders.endless(pool, 2000, np.random.default_rng(0), stretch=(20, 60))
    assert len(order) == 2000
    assert set(pool.labels[order].tolist()) == set(pool.labels[pool.clean].tolist())
    worn = np.array([is_wear(v) for v in pool.variants])[pool.variant[order]]
    assert 0.5 < worn.mean() < 0.8
    assert not any(v in corruptions() for v in {pool.variants[v] for v in pool.variant[order]})


def test_every_named_stream_follows_from_its_seed_alone(pool):
    for stream in STREAMS:
        if stream.pool == "real":
            continue
        first, again, other = (stream.rows(pool, seed, SIZES) for seed in (0, 0, 1))
        assert np.array_equal(first, again), stream.name
        assert not np.array_equal(first, other), stream.name
        strange = (pool.labels[first] == NO_LABEL).mean()
        wanted = float(stream.name.rpartition("-")[2]) / 100 if stream.name.startswith("unknown") else 0
        assert strange == pytest.approx(wanted, abs=0.03), stream.name


def test_streams_are_found_by_name_and_by_group():
    assert find_streams(None) == STREAMS
    assert [s.name for s in find_streams("iid,real,iid")][:2] == ["iid", "real-iid"]
    assert len(find_streams("real")) == 4
    with pytest.raises(ValueError, match="no stream 'night'; there are real-iid"):
        find_streams("night")
