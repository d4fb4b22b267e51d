from __future__ import annotations

import numpy as np
import pytest

from clipoint3d_ros.datasets.objects import NO_LABEL, Objects, few_shot


def objects(labels: list[int], classes: tuple[str, ...] = ("box", "can", "mug")) -> Objects:
    clouds = tuple(np.full((3, 3), i, np.float32) for i in range(len(labels)))
    eyes = np.arange(len(labels) * 3, dtype=np.float32).reshape(-1, 3)
    return Objects("made", classes, clouds, np.array(labels), np.arange(len(labels)) // 2, viewpoints=eyes)


def test_taking_rows_keeps_cloud_label_scene_and_viewpoint_together():
    taken = objects([0, 1, 2, 0]).take([3, 1])
    assert [c[0, 0] for c in taken.clouds] == [3, 1]
    assert taken.labels.tolist() == [0, 1]
    assert taken.scenes.tolist() == [1, 0]
    assert taken.viewpoints.tolist() == [[9, 10, 11], [3, 4, 5]]


def test_a_mask_and_its_rows_take_the_same():
    made = objects([0, 1, 2, 0])
    assert made.take(made.labels == 0).labels.tolist() == made.take([0, 3]).labels.tolist() == [0, 0]


def test_unlabelled_objects_tell_no_label():
    made = objects([0, 1, 2])
    assert (made.unlabelled().labels == NO_LABEL).all()
    assert len(made.unlabelled().labelled()) == 0
    assert made.labels.tolist() == [0, 1, 2]


def test_relabelling_goes_by_name_and_leaves_strangers_without_a_label():
    again = objects([0, 1, 2, NO_LABEL]).relabelled(("mug", "lamp", "box"))
    assert again.labels.tolist() == [2, NO_LABEL, 0, NO_LABEL]
    assert again.classes == ("mug", "lamp", "box")


def test_few_shots_are_so_many_of_each_class_and_never_in_the_rest():
    made = objects([0] * 5 + [1] * 3 + [2] * 1 + [NO_LABEL])
    shots, rest = few_shot(made, 2, np.random.default_rng(0))
    assert np.bincount(shots.labels).tolist() == [2, 2, 1]
    first = {c[0, 0] for c in shots.clouds}
    assert not first & {c[0, 0] for c in rest.clouds}
    assert len(shots) + len(rest) == 9, "an object without a label is in neither"


def test_few_shots_differ_by_seed_and_not_by_call():
    made = objects([0] * 20 + [1] * 20 + [2] * 20)
    drawn = [few_shot(made, 3, np.random.default_rng(seed))[0].clouds for seed in (0, 0, 1)]
    ids = [[c[0, 0] for c in clouds] for clouds in drawn]
    assert ids[0] == ids[1] != ids[2]


def test_a_class_without_an_object_is_named():
    with pytest.raises(ValueError, match="has no object of can"):
        few_shot(objects([0, 2]), 1, np.random.default_rng(0))


def test_no_shots_are_refused():
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        few_shot(objects([0, 1, 2]), 0, np.random.default_rng(0))
