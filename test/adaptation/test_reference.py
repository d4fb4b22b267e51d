"""What adaptation starts from: gathered from a labelled source, kept on disk, read again only where it is the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from domains_made import CLASSES, looks, solids
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from clipoint3d_ros.adaptation.reference import (
    ReferenceConfig,
    gather_reference,
    kept_reference,
    split_source,
    viewpoints,
    words_alone,
)
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.datasets.objects import LacksClasses

pytestmark = pytest.mark.usefixtures("quick_probes")
CONFIG = ReferenceConfig(shots=3, probe=2, looks=2, points=64)


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="module")
def gathered(backbone):
    return gather_reference(backbone, CLASSES, solids(), CONFIG)


class Source:
    """Counts how often it is read."""

    def __init__(self, classes=CLASSES.names):
        self.classes, self.read = classes, 0

    def __call__(self):
        self.read += 1
        return solids(classes=self.classes)


@pytest.fixture
def keep(tmp_path, backbone):
    """Asks for the reference that a folder keeps; anything about it may differ."""

    def ask(source, classes=CLASSES, told="solids", config=CONFIG, backbone=backbone):
        return kept_reference(tmp_path / "kept", backbone, classes, source, told, config)

    return ask


def files(tmp_path):
    return sorted((tmp_path / "kept").iterdir())


def same(one, other):
    mine, theirs = tensors(one), tensors(other)
    parts = mine.keys() == theirs.keys() and all(torch.equal(part, theirs[name]) for name, part in mine.items())
    told = [(each.helpful, each.temperature, each.probe.looks) for each in (one, other)]
    return parts and told[0] == told[1]


def tensors(reference):
    probe = {name: part for name, part in vars(reference.probe).items() if name != "looks"}
    return {**{f"statistics.{name}": part for name, part in vars(reference.statistics).items()}, **probe}


# Gathered


def test_statistics_are_of_the_shots_and_the_probe_set_of_other_objects(gathered, backbone):
    width = backbone.visual.output_dim
    assert gathered.statistics.mean.shape == (3, width)
    assert gathered.statistics.covariance.shape == (width, width)
    assert gathered.statistics.count.tolist() == [6, 6, 6], "three shots a class, two looks at each"
    assert torch.bincount(gathered.probe.labels).tolist() == [4, 4, 4]
    assert gathered.probe.logits.shape == (12, 3)
    for part in tensors(gathered).values():
        assert bool(torch.isfinite(part).all())
    assert (gathered.statistics.weights > 0).all()
    assert 0 < gathered.temperature < math.inf


def test_the_same_source_gives_the_same_reference(gathered, backbone):
    assert same(gather_reference(backbone, CLASSES, solids(), CONFIG), gathered)
    assert not same(gather_reference(backbone, CLASSES, solids(), replace(CONFIG, seed=1)), gathered)


def test_what_a_sensor_saw_is_looked_at_as_it_was_seen(backbone):
    seen = gather_reference(backbone, CLASSES, looks(each=5), CONFIG)
    assert seen.statistics.count.tolist() == [3, 3, 3], "an object that was seen from one place has one look"
    assert len(seen.probe.labels) == 6


def test_a_certainty_no_source_reaches_leaves_it_unhelpful(backbone):
    told = gather_reference(backbone, CLASSES, solids(), replace(CONFIG, certain=1e6))
    assert told.helpful is False


def test_words_alone_are_no_help_of_their_own_and_nothing_to_be_judged_by():
    text = torch.eye(3, 8)
    told = words_alone(text, 20.0, 2.0, "no procedural shape for cereal box")
    assert (told.probe, told.helpful, told.temperature) == (None, False, 2.0)
    assert told.missing == "no procedural shape for cereal box"
    assert torch.equal(told.statistics.mean, text)


def test_no_object_is_learned_from_and_judged_by():
    source = solids(each=8)
    shots, held = split_source(source, CLASSES, ReferenceConfig(shots=4, probe=2))
    learned, judged = ({cloud.tobytes() for cloud in part.clouds} for part in (shots, held))
    assert (len(learned), len(judged)) == (12, 6)
    assert not learned & judged


@pytest.mark.parametrize(("each", "shots", "probe"), [(2, 1, 1), (3, 2, 1), (6, 5, 1), (10, 8, 2)])
def test_a_small_source_leaves_a_fifth_of_each_class_to_judge_by(each, shots, probe):
    learned, judged = split_source(solids(each=each), CLASSES, ReferenceConfig(shots=64, probe=16))
    assert np.bincount(learned.labelled().labels).tolist() == [shots] * 3
    assert np.bincount(judged.labelled().labels).tolist() == [probe] * 3


@pytest.mark.parametrize(("objects", "poorest"), [(3, "1 objects of class box"), (5, "1 objects of class plate")])
def test_too_few_objects_are_refused_with_the_class(backbone, objects, poorest):
    source = solids().take(np.arange(objects))
    with pytest.raises(LacksClasses, match=f"solids has {poorest}; the reference needs at least 2 of each"):
        gather_reference(backbone, CLASSES, source, CONFIG)


# Kept


def test_a_kept_reference_is_read_and_the_source_is_not(keep, tmp_path):
    first, second = Source(), Source()
    gathered = keep(first)
    (file,) = files(tmp_path)
    again = keep(second)
    assert (first.read, second.read) == (1, 0)
    assert same(again, gathered)
    assert files(tmp_path) == [file], "something else was left beside it"


def test_other_classes_settings_or_sources_are_gathered_anew_and_kept_beside(keep, tmp_path):
    keep(Source())
    swapped = describe(["can", "box", "plate"])
    for change in (
        {"classes": swapped},
        {"classes": replace(CLASSES, template="a thing called {}")},
        {"told": "others"},
        {"config": replace(CONFIG, shots=2)},
    ):
        source = Source(change.get("classes", CLASSES).names)
        keep(source, **change)
        assert source.read == 1, f"what was kept was taken for {change}"
        keep(source, **change)
        assert source.read == 1
    assert len(files(tmp_path)) == 5


def test_another_model_is_gathered_anew(keep, backbone):
    keep(Source())
    source = Source()
    keep(source, backbone=replace(backbone, checksum="another"))
    assert source.read == 1


def broken(file, how):
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_text("no safetensors\n" * 100)
    elif how == "folder":
        file.unlink()
        file.mkdir()
    else:
        tensors = load_file(file)
        with safe_open(file, "pt") as opened:
            told = opened.metadata()
        if how == "no part":
            del tensors["probe.logits"]
        elif how == "not finite":
            tensors["statistics.mean"][0, 0] = math.nan
        elif how == "shape":
            tensors["statistics.mean"] = tensors["statistics.mean"][:2].clone()
        elif how == "foreign":
            told = {"reference": told["reference"].replace('"identity": "', '"identity": "0')}
        elif how == "no words":
            told = {}
        save_file(tensors, file, metadata=told)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "no part", "not finite", "shape", "foreign", "no words"])
def test_a_damaged_file_is_gathered_anew_and_mended(keep, tmp_path, how):
    gathered = keep(Source())
    (file,) = files(tmp_path)
    broken(file, how)
    source = Source()
    assert same(keep(source), gathered)
    assert source.read == 1
    assert same(keep(source), gathered)
    assert source.read == 1, "the damaged file is still there"
    assert files(tmp_path) == [file]


def test_a_source_that_fails_leaves_nothing(keep, tmp_path):
    def fails():
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        keep(fails)
    assert not (tmp_path / "kept").exists()


def test_what_cannot_be_kept_is_still_a_reference(keep, tmp_path):
    (tmp_path / "kept").write_text("a file where the folder should be")
    source = Source()
    assert keep(source).statistics.mean.shape[0] == 3
    assert source.read == 1


# Settings


@pytest.mark.parametrize("change", [{"shots": 0}, {"probe": 0}, {"looks": 0}, {"points": 0}])
def test_counts_are_at_least_one(change):
    with pytest.raises(ValueError, match="must be at least 1"):
        ReferenceConfig(**change)


@pytest.mark.parametrize(
    "change",
    [{"elevation": (60.0, 10.0)}, {"distance": (2.0, 1.0)}, {"distance": (0.0, 1.0)}, {"distance": (math.nan, 1.0)}],
)
def test_ranges_are_low_to_high(change):
    (name,) = change
    with pytest.raises(ValueError, match=rf"{name} of the reference must be \(low, high\)"):
        ReferenceConfig(**change)


def test_viewpoints_lie_in_their_ranges_and_fill_them():
    told = viewpoints(ReferenceConfig(elevation=(10.0, 60.0), distance=(0.5, 2.0)), seed=0)
    degrees, metres = np.degrees(told.elevation.numpy()), told.distance.numpy()
    assert degrees.min() >= 10 - 1e-3
    assert degrees.max() <= 60 + 1e-3
    assert np.ptp(degrees) > 45
    assert metres.min() >= 0.5 - 1e-6
    assert metres.max() <= 2.0 + 1e-6
    assert abs(np.median(np.log(metres))) < 0.2, "as many near ones as far ones, on a scale of ratios"
