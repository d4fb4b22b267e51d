"""Which mistakes the report shows, and what it shows of them."""

import numpy as np
import pytest
from replays import replay_by_hand

from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, LabelledBag, Topics, TrueObject
from clipoint3d_ros.evaluation.outcomes import outcomes
from clipoint3d_ros.evaluation.report.mistakes import TILE, Segment, broken, confident_mistakes, looks, place, strip
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

TRUTH = [{"2": "box", "3": "can"}, {"4": "mug", "5": "box", "6": "can"}]
FROZEN = [{"2": ("box", 0.6), "3": ("mug", 0.9)}, {"4": ("mug", 0.8), "5": ("can", 0.7)}]
ADAPTED = [{"2": ("can", 0.4), "3": ("can", 0.9)}, {"4": ("box", 0.8), "5": ("can", 0.6)}]


@pytest.fixture
def replayed(tmp_path):
    return replay_by_hand(tmp_path / "bag", TRUTH, FROZEN, ADAPTED, [0, 1])


def test_the_most_confident_mistakes_of_the_serving_model_come_first(replayed):
    _, frames, both = replayed
    found = outcomes(frames, both)
    assert [one.object.id for one in confident_mistakes(found)] == ["4", "5", "2"], "6 was not answered: no mistake"
    assert [one.object.id for one in confident_mistakes(found, most=1)] == ["4"]
    alone = outcomes(frames, both.__class__(both.classes, both.frozen))
    assert [one.object.id for one in confident_mistakes(alone)] == ["3", "5"]
    assert broken(alone) == []


def test_broken_are_those_that_the_frozen_model_had_right(replayed):
    _, frames, both = replayed
    assert [one.object.id for one in broken(outcomes(frames, both))] == ["4", "2"]


def test_every_listed_object_is_found_again_in_its_bag(replayed):
    bags, frames, both = replayed
    wanted = list(outcomes(frames, both).scored)
    found = looks(wanted, bags, PerceptionConfig())
    assert set(found) == {place(one) for one in wanted}
    for look in found.values():
        assert look.images.shape == (10, TILE, TILE)
        assert look.weights.sum() == pytest.approx(1)
        assert (np.diff(look.weights) <= 0).all(), "those that count most come first"
        assert (look.weights == 0).any(), "the sensor sees one side of an object only"
        assert look.images.min() < 0.5, "the object is to be seen"


@pytest.mark.parametrize("config", [PerceptionConfig(viewpoint=()), PerceptionConfig(selection="all")])
def test_where_no_side_is_preferred_all_views_count_alike(replayed, config):
    bags, frames, both = replayed
    for look in looks(outcomes(frames, both).scored, bags, config).values():
        assert look.weights.tolist() == [0.1] * 10


def test_a_cloud_the_node_refuses_shows_nothing(replayed):
    bags, frames, both = replayed
    assert looks(outcomes(frames, both).scored, bags, PerceptionConfig(max_segments=1)) == {}


def test_a_cloud_that_is_one_object_is_found_without_an_id(tmp_path):
    bags, frames, both = replay_by_hand(tmp_path / "bag", [{"2": "box"}], [{"2": "can"}])
    one = outcomes(frames, both).scored[0]
    whole = one._replace(frame=one.frame.__class__(one.frame.key, 0.0, one.frame.objects, frozenset({""})))
    assert place(whole) == Segment(one.frame.key, "")
    assert set(looks([whole], bags, PerceptionConfig(input_form="object"))) == {place(whole)}


def test_points_without_a_return_do_not_hide_an_object(tmp_path):
    xyz = np.random.default_rng(0).normal((1, 0, 0), 0.03, (80, 3))
    xyz[::3] = np.nan
    with BagWriter(tmp_path / "bag", Topics()) as bag:
        bag.write(5 * SECOND, "level", xyz.astype(np.float32), np.full(80, 2), [TrueObject("2", "box")])
    _, frames, both = replay_by_hand(tmp_path / "other", [{"2": "box"}], [{"2": "can"}])
    found = looks(outcomes(frames, both).scored, [LabelledBag(tmp_path / "bag")], PerceptionConfig())
    assert [np.isfinite(look.images).all() for look in found.values()] == [True]


def test_views_without_a_say_are_pale(replayed):
    bags, frames, both = replayed
    look = next(iter(looks(outcomes(frames, both).scored, bags, PerceptionConfig()).values()))
    picture = np.asarray(strip(look)).reshape(TILE, 10, TILE)
    darkest = picture.min(axis=(0, 2))
    assert (darkest[look.weights == 0] > 180).all()
    assert (darkest[look.weights > 0] < 100).all()
