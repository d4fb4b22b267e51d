"""What methods may see: no label of the target, no scored scene among those adapted to."""

from dataclasses import replace

import numpy as np
import pytest

from clipoint3d_ros.clip.descriptions import describe, load_descriptions
from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.datasets.graspnet import CLASSES as GRASPED
from clipoint3d_ros.datasets.objects import NO_LABEL
from clipoint3d_ros.evaluation.adaptation.protocol import (
    DomainSource,
    domains_protocol,
    halves_protocols,
    join,
    scenes_protocol,
)
from clipoint3d_ros.resources import config_file


@pytest.fixture(scope="module")
def halves(classes, scene_dir):
    return halves_protocols(classes, str(scene_dir), "learn*", "test*", count=3)


@pytest.fixture(scope="module")
def graspnet(tmp_path_factory):
    """One object a class: of two domains to train on, and of one to score."""
    root, rng = tmp_path_factory.mktemp("graspnet"), np.random.default_rng(0)
    for place in ("train/Synthetic/kinect", "train/Real/kinect", "test/Real/kinect"):
        for label in range(len(GRASPED)):
            (root / place / str(label)).mkdir(parents=True)
            np.savetxt(root / place / str(label) / "scene_0001_0002.xyz", rng.normal(size=(20, 3)))
    return root


def keys(objects):
    """Each object's cloud as bytes."""
    return [cloud.tobytes() for cloud in objects.clouds]


def test_a_targets_labels_are_gone_and_every_scored_object_has_one(column, classes, scene_dir):
    known = read_domain(f"scenes:{scene_dir}:learn*", classes, count=0, seed=0)
    assert (known.labels != NO_LABEL).any(), "there were labels to lose"
    assert keys(column.target) == keys(known)
    assert (column.target.labels == NO_LABEL).all()
    assert (column.scored.labels != NO_LABEL).all()
    assert (column.name, column.classes) == ("learn*", classes)


def test_both_domains_between_data_sets_keep_to_their_splits(graspnet):
    classes = load_descriptions(config_file("classes/graspnetpc10.yaml"))
    made = domains_protocol(classes, "graspnet", str(graspnet), "synthetic/kinect", "real/kinect", count=1)
    assert made.name == "synthetic/kinect → real/kinect"
    assert made.source(0).domain == "synthetic/kinect train"
    assert (made.source(0).labels != NO_LABEL).all()
    assert (made.target.domain, made.scored.domain) == ("real/kinect train", "real/kinect test")
    assert (made.target.labels == NO_LABEL).all()
    assert made.scored.labels.tolist() == list(range(10))
    assert not set(keys(made.target)) & set(keys(made.scored))


def test_no_scored_scene_of_a_half_is_adapted_to(halves):
    for half in halves:
        assert not set(keys(half.target)) & set(keys(half.scored))
        assert (half.target.labels == NO_LABEL).all()


def test_both_halves_together_score_every_object_once(halves, classes, scene_dir):
    every = read_domain(f"scenes:{scene_dir}:test*", classes, count=0, seed=0).labelled()
    assert sorted(keys(halves[0].scored) + keys(halves[1].scored)) == sorted(keys(every))
    assert not set(halves[0].scored.scenes) & set(halves[1].scored.scenes)


def test_a_half_adapts_to_all_that_was_learned_from_and_to_the_other_half(halves, column):
    for half, other in (halves, halves[::-1]):
        assert set(keys(column.target)) < set(keys(half.target))
        assert set(keys(other.scored)) < set(keys(half.target))
    assert halves[0].name != halves[1].name


def test_a_half_without_anything_to_score_is_refused(classes, scene_dir):
    with pytest.raises(ValueError, match=r"nothing to score of 'learn\* and even scenes of test1'"):
        halves_protocols(classes, str(scene_dir), "learn*", "test1")


def test_classes_that_no_scored_object_is_of_are_refused_in_words(scene_dir):
    with pytest.raises(ValueError, match="no object, or none left, of the classes bed, sofa"):
        scenes_protocol(describe(["bed", "sofa"]), str(scene_dir), "learn*", "test*")


def test_joined_objects_keep_their_order_and_their_scenes_apart(column):
    joined = join(column.target, column.scored)
    assert keys(joined) == keys(column.target) + keys(column.scored)
    assert joined.labels.tolist() == column.target.labels.tolist() + column.scored.labels.tolist()
    own, other = joined.scenes[: len(column.target)], joined.scenes[len(column.target) :]
    assert not set(own) & set(other)
    assert len(joined.viewpoints) == len(joined)


@pytest.mark.parametrize(
    "change",
    [{"up": (0.0, 1.0, 0.0)}, {"metric": False}, {"viewpoints": None}, {"classes": ("box", "can", "mug")}],
    ids=lambda change: next(iter(change)),
)
def test_objects_of_another_frame_unit_or_class_list_are_not_joined(column, change):
    with pytest.raises(ValueError, match="differ in classes, frame or unit and cannot be joined"):
        join(column.target, replace(column.scored, **change))


def test_the_digest_is_the_same_for_the_same_data_read_again(column, classes, scene_dir):
    again = scenes_protocol(classes, str(scene_dir), "learn*", "test[12]", count=3)
    assert again.digest == column.digest


def test_the_digest_changes_with_the_data(column, classes):
    target, scored = column.target, column.scored
    moved = (target.clouds[0] + np.float32(1e-4), *target.clouds[1:])
    swapped = (target.clouds[0][:, [1, 0, 2]], *target.clouds[1:])  # the same sum
    others = [
        {"target": replace(target, clouds=moved)},
        {"target": replace(target, clouds=swapped)},
        {"target": replace(target, viewpoints=target.viewpoints + 1)},
        {"target": replace(target, up=(0.0, 1.0, 0.0))},
        {"target": target.take(range(2))},
        {"scored": replace(scored, labels=scored.labels[::-1].copy())},
        {"scored": replace(scored, metric=False)},
        {"name": "other"},
        {"classes": replace(classes, template="a {class}")},
        {"source": DomainSource("folders:elsewhere", classes, 3)},
        {"source": DomainSource("procedural", classes, 4)},
    ]
    digests = [replace(column, **change).digest for change in others]
    assert len({column.digest, *digests}) == 1 + len(others)


def test_the_digest_changes_with_the_files_of_the_source_and_a_procedural_one_s_stays_as_it_was(column, tmp_path):
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "a.npy").write_bytes(b"one")
    own = DomainSource(f"folders:{tmp_path}", column.classes, 3)
    before = replace(column, source=own).digest
    assert replace(column, source=own).digest == before, "nothing changed"
    (tmp_path / "box" / "b.npy").write_bytes(b"two")
    assert replace(column, source=own).digest != before
    # Runs on disk are found by this line.
    told = repr(DomainSource("procedural", column.classes, 3))
    assert told == f"DomainSource(spec='procedural', classes={column.classes!r}, count=3)"


def test_procedural_sources_are_fresh_for_each_seed_and_files_the_same_for_all(classes, graspnet):
    shapes = DomainSource("procedural", classes, 1)
    assert keys(shapes(0)) == keys(shapes(0))
    assert not set(keys(shapes(0))) & set(keys(shapes(1)))
    files = DomainSource(f"graspnet:{graspnet}:real/kinect", describe(list(GRASPED)), 1)
    assert keys(files(0)) == keys(files(1))
