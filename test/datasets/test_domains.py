"""Domains by their names on the command line."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
import trimesh

from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.domains import FORMS, domain_key, read_domain
from clipoint3d_ros.datasets.objects import NO_LABEL, LacksClasses
from clipoint3d_ros.datasets.scenes import Intrinsics, Scene

CLASSES = describe(["can", "shampoo bottle", "box"])


def read(spec, classes=CLASSES, count=2, seed=0, **split):
    return read_domain(str(spec), classes, count=count, seed=seed, **split)


def scene(name, classes, few=0):
    """Slabs side by side, one instance each from 2 on, 7 × 7 pixels; the last keeps `few` pixels where it is not 0."""
    depth, instance = np.full((20, 60), 1.5), np.ones((20, 60), np.uint8)
    for i in range(len(classes)):
        depth[5:12, 8 * i : 8 * i + 7], instance[5:12, 8 * i : 8 * i + 7] = 1.0 + 0.1 * i, i + 2
    if few:
        rows, columns = np.nonzero(instance == len(classes) + 1)
        depth[rows[few:], columns[few:]] = 0
    named = {i + 2: told for i, told in enumerate(classes) if told}
    return Scene(name, np.array([0.0, -1.0, 0.0]), depth, instance, named, Intrinsics(50, 50, 29.5, 9.5))


def test_procedural_objects_are_complete_metric_and_so_many_of_each_class():
    found = read("procedural", count=3)
    assert found.domain == "procedural"
    assert found.classes == CLASSES.names
    assert np.bincount(found.labels).tolist() == [3, 3, 3]
    assert {c.shape for c in found.clouds} == {(2048, 3)}
    assert found.clouds[0].dtype == np.float32
    assert found.viewpoints is None
    assert found.metric
    assert found.up == (0, 0, 1)
    assert found.scenes.tolist() == list(range(9))


def test_procedural_objects_stand_on_the_floor():
    assert all(-0.01 < c[:, 2].min() < 0.05 for c in read("procedural").clouds)


def test_a_larger_count_only_adds_objects():
    few, many = read("procedural", count=1), read("procedural", count=3)
    for i in range(len(few)):
        np.testing.assert_array_equal(few.clouds[i], many.clouds[i])
    assert few.labels.tolist() == many.labels[:3].tolist()


def test_procedural_objects_depend_on_the_seed_and_nothing_else():
    first, again, other = read("procedural", seed=1), read("procedural", seed=1), read("procedural", seed=2)
    assert all((a == b).all() for a, b in zip(first.clouds, again.clouds, strict=True))
    assert not any((a == b).all() for a, b in zip(first.clouds, other.clouds, strict=True))
    assert not (first.clouds[0] == first.clouds[3]).all(), "two objects of one class differ"


def test_classes_without_a_procedural_shape_are_named():
    with pytest.raises(LacksClasses, match="no procedural shape for spaceship, dragon; there are apple, ball"):
        read("procedural", describe(["box", "spaceship", "dragon"]))


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1, -1)])
def test_no_procedural_objects_or_a_negative_seed_are_refused(count, seed):
    with pytest.raises(ValueError, match=f"but these are {count} and {seed}"):
        read("procedural", count=count, seed=seed)


def test_folders_are_matched_to_classes_by_name_with_spaces_for_signs(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    for i, name in enumerate(["box", "shampoo-bottle", "shampoo_bottle", "unicorn"]):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", points + i)
    trimesh.creation.box().export(tmp_path / "box" / "b.obj")
    found = read(f"folders:{tmp_path}")
    assert found.labels.tolist() == [2, 2, 1, 1, NO_LABEL]
    assert [len(c) for c in found.clouds] == [30, 4096, 30, 30, 30]
    assert found.classes == CLASSES.names
    assert found.domain == tmp_path.name
    assert found.metric
    assert found.viewpoints is None
    assert found.scenes.tolist() == [0, 1, 2, 3, 4]


def test_a_folder_named_exactly_as_a_class_is_that_class(tmp_path):
    (tmp_path / "t-shirt").mkdir()
    np.save(tmp_path / "t-shirt" / "a.npy", np.ones((3, 3)))
    assert read(f"folders:{tmp_path}", describe(["t shirt", "t-shirt"])).labels.tolist() == [1]


def test_folders_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read(f"folders:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match="CLASS/FILE"):
        read(f"folders:{tmp_path}")


def test_scenes_give_every_segment_as_the_sensor_saw_it(tmp_path):
    scenes.write_folder(tmp_path, [scene("learn10", ["box"]), scene("learn2", ["can", "", "unicorn"])])
    found = read(f"scenes:{tmp_path}")
    assert found.labels.tolist() == [0, NO_LABEL, NO_LABEL, 2]
    assert found.scenes.tolist() == [0, 0, 0, 1], "natural order: learn2 before learn10"
    assert found.viewpoints.tolist() == [[0, 0, 0]] * 4
    assert found.domain == tmp_path.name
    assert found.metric
    np.testing.assert_allclose(found.clouds[1][:, 0], 1.1, atol=1e-4, err_msg="x is forward in the levelled frame")
    assert [len(c) for c in found.clouds] == [49] * 4


@pytest.mark.parametrize(("few", "kept"), [(15, 1), (16, 2)])
def test_segments_of_fewer_than_sixteen_points_are_left_out(tmp_path, few, kept):
    scenes.write_folder(tmp_path, [scene("a", ["box", "can"], few=few)])
    assert len(read(f"scenes:{tmp_path}")) == kept


def test_scenes_can_be_chosen_by_globs(tmp_path):
    scenes.write_folder(tmp_path, [scene(n, ["box"]) for n in ("learn1", "test1", "other1")])
    found = read(f"scenes:{tmp_path}:learn*, test*")
    assert len(found) == 2
    assert found.domain == f"{tmp_path.name} learn* test*"
    assert len(read(f"scenes:{tmp_path}:")) == 3
    with pytest.raises(ValueError, match=r"matches 'night\*': it has learn1, other1, test1"):
        read(f"scenes:{tmp_path}:night*")


def test_scenes_without_an_object_are_refused(tmp_path):
    scenes.write_folder(tmp_path, [scene("a", [])])
    with pytest.raises(ValueError, match=r"no scene of 'scenes:.*' holds an object of at least 16 points"):
        read(f"scenes:{tmp_path}")


def test_pointda_is_relabelled_onto_the_classes(tmp_path):
    (tmp_path / "scannet").mkdir()
    with h5py.File(tmp_path / "scannet" / "train_0.h5", "w") as file:
        file["data"], file["label"] = np.ones((3, 5, 3)), np.array([9, 4, 0])
    found = read(f"pointda:{tmp_path}:scannet", describe(["chair", "table"]))
    assert found.labels.tolist() == [1, 0, NO_LABEL]
    assert found.classes == ("chair", "table")
    assert not found.metric


def test_graspnet_is_relabelled_onto_the_classes(tmp_path):
    for label in range(10):
        folder = tmp_path / "test" / "Real" / "kinect" / str(label)
        folder.mkdir(parents=True)
        (folder / "scene_0001_0002.xyz").write_text("0 0 0\n1 1 1\n")
    found = read(f"graspnet:{tmp_path}:Real/kinect", split="test")
    assert found.labels.tolist() == [2, 0] + [NO_LABEL] * 7 + [1]
    assert found.domain == "real/kinect test"


def test_an_unknown_kind_is_answered_with_the_kinds_there_are():
    with pytest.raises(
        ValueError, match=r"domain 'shapes:x' is of no known kind; write procedural, folders:DIR, scenes"
    ):
        read("shapes:x")
    assert [form.partition(":")[0] for form in FORMS] == ["procedural", "folders", "scenes", "pointda", "graspnet"]


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        ("procedural:x", "procedural$"),
        ("folders", "folders:DIR"),
        ("scenes:", r"scenes:DIR\[:GLOB"),
        ("pointda:x", "must be pointda:ROOT:DOMAIN, where DOMAIN is one of modelnet, shapenet, scannet"),
        ("pointda:x:", "must be pointda:ROOT:DOMAIN"),
        ("graspnet:x", "must be graspnet:ROOT:DOMAIN, where DOMAIN is one of synthetic, "),
    ],
)
def test_a_spec_not_written_as_its_kind_demands_is_answered_with_how_to_write_it(spec, form):
    with pytest.raises(ValueError, match=form):
        read(spec)


# Keys of what is kept on disk


@pytest.fixture
def shapes(tmp_path):
    """A folder of a class with a cloud."""
    (tmp_path / "shapes" / "box").mkdir(parents=True)
    np.save(tmp_path / "shapes" / "box" / "a.npy", np.ones((3, 3)))
    return tmp_path / "shapes"


def test_a_domain_of_no_files_is_its_own_key():
    assert domain_key("procedural") == "procedural"


@pytest.mark.parametrize("form", [form for form in FORMS if form != "procedural"])
def test_every_kind_that_reads_files_has_their_state_in_its_key(shapes, form):
    kind = form.partition(":")[0]
    spec = f"{kind}:{shapes}" + {"folders": "", "scenes": ":learn*,test*"}.get(kind, ":scannet")
    before = domain_key(spec)
    assert before.startswith(f"{spec} ")
    assert domain_key(spec) == before, "nothing changed"
    (shapes / "box" / "b.npy").write_bytes(b"more")
    assert domain_key(spec) != before


def touch(path):
    """Another second of change, and nothing else."""
    told = path.stat()
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda shapes: touch(shapes / "box" / "a.npy"),
        lambda shapes: os.truncate(shapes / "box" / "a.npy", 10),
        lambda shapes: (shapes / "box" / "a.npy").rename(shapes / "box" / "c.npy"),
        lambda shapes: (shapes / "box" / "a.npy").unlink(),
        lambda shapes: (shapes / "box").rename(shapes / "can"),
        lambda shapes: (
            (shapes / "box" / "deep" / "er").mkdir(parents=True) or (shapes / "box" / "deep" / "er" / "d.npy").touch()
        ),
    ],
    ids=["written again", "cut", "renamed", "removed", "of another class", "deeper"],
)
def test_a_change_of_any_file_changes_the_key(shapes, change):
    before, told = domain_key(f"folders:{shapes}"), (shapes / "box" / "a.npy").stat()
    change(shapes)
    if (shapes / "box" / "a.npy").is_file() and (shapes / "box" / "a.npy").stat().st_size != told.st_size:
        os.utime(shapes / "box" / "a.npy", ns=(told.st_atime_ns, told.st_mtime_ns))  # the size alone must do
    assert domain_key(f"folders:{shapes}") != before


def test_the_same_name_means_another_folder_in_another_place(shapes, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    here = domain_key("folders:shapes")
    (tmp_path / "elsewhere" / "shapes").symlink_to(shapes)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert domain_key("folders:shapes") == here, "a link means what it leads to"
    (tmp_path / "elsewhere" / "shapes").unlink()
    (tmp_path / "elsewhere" / "shapes").mkdir()
    assert domain_key("folders:shapes") != here


def test_linked_folders_count_and_a_link_back_up_ends(shapes, tmp_path):
    (tmp_path / "mugs").mkdir()
    (tmp_path / "mugs" / "a.npy").touch()
    (shapes / "mug").symlink_to(tmp_path / "mugs")
    (shapes / "box" / "again").symlink_to(shapes)
    (shapes / "box" / "lost.npy").symlink_to(tmp_path / "nowhere")
    before = domain_key(f"folders:{shapes}")
    touch(tmp_path / "mugs" / "a.npy")
    assert domain_key(f"folders:{shapes}") != before


REFUSED = ("shapes:x", "", "folders:", "folders:/nowhere", "scenes", "pointda:x", "procedural:x")


@pytest.mark.parametrize("spec", REFUSED)
def test_what_cannot_be_read_has_a_key_so_that_reading_refuses_it(spec):
    assert domain_key(spec).startswith(spec)
    with pytest.raises((ValueError, FileNotFoundError)):
        read(spec)
