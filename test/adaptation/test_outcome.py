"""What a training leaves is calibrated, counted, and the same from disk as in memory."""

import json
from dataclasses import asdict
from functools import partial

import pytest
import torch
from domains_made import CLASSES, RECIPE, changed, looks, solids

from clipoint3d_ros.adaptation import probing
from clipoint3d_ros.adaptation.outcome import adapter_of
from clipoint3d_ros.adaptation.probing import look_over
from clipoint3d_ros.adaptation.trainer import prepare, train
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle, read_meta, save_bundle
from clipoint3d_ros.recognition.calibration import fit_temperature
from clipoint3d_ros.recognition.classifier import Classifier, ClassifierConfig

RECIPE = changed(RECIPE, steps=2, probe_every=1, keep_margin=1.0)
TOLD = {"source": "solids", "target": "looks"}


@pytest.fixture(scope="module", autouse=True)
def quick_probes():
    """Probes look at a few points of each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "ClassifierConfig", partial(ClassifierConfig, points=64))
        yield


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="module")
def material():
    return prepare(solids(), looks(each=2), RECIPE)


@pytest.fixture(scope="module")
def bests():
    """What an adapter was at each best score."""
    return []


@pytest.fixture(scope="module")
def run(backbone, material, bests):
    def keep(run, probe):
        network, adapter = adapter_of(run, backbone, CLASSES, material, RECIPE, TOLD)
        bests.append((run.step, probe, {k: v.clone() for k, v in network.adapter().items()}, adapter))

    return train(backbone, CLASSES, material, RECIPE, on_best=keep)


@pytest.fixture(scope="module")
def left(run, backbone, material):
    """The network before the merge, and the adapter."""
    return adapter_of(run, backbone, CLASSES, material, RECIPE, TOLD)


def test_the_temperature_is_fitted_on_the_probe_set(left, backbone, material):
    _, adapter = left
    probe = look_over(adapter.network, backbone, CLASSES, material.probe)
    assert adapter.temperature == fit_temperature(probe.logits, probe.labels)
    losses = [torch.nn.functional.cross_entropy(probe.logits / t, probe.labels) for t in (adapter.temperature, 1.0)]
    assert losses[0] <= losses[1] + 1e-4
    assert adapter.probe["objects"] == len(material.probe)
    assert adapter.probe["macro_accuracy"] == pytest.approx(probe.macro_accuracy, abs=1e-4)
    frozen = look_over(None, backbone, CLASSES, material.probe)
    assert adapter.probe["frozen_macro_accuracy"] == pytest.approx(frozen.macro_accuracy, abs=1e-4)


def test_the_statistics_are_of_the_shots_as_the_sensor_sees_them(left, backbone, material):
    _, adapter = left
    statistics = adapter.statistics
    assert statistics.count.tolist() == [RECIPE.training.shots] * len(CLASSES.names)
    first = material.scans.take(torch.arange(len(material.source)) * RECIPE.training.scans)
    assert first.labels.tolist() == material.source.labels.tolist()
    seen = look_over(adapter.network, backbone, CLASSES, first)
    for label in range(len(CLASSES.names)):
        features = seen.features[seen.labels == label]
        torch.testing.assert_close(statistics.mean[label], features.mean(0))
        torch.testing.assert_close(statistics.variance[label], features.var(0, correction=0))
    assert (statistics.mean.norm(dim=1) <= 1 + 1e-5).all()


def test_without_scans_the_statistics_are_of_the_complete_source(run, backbone):
    complete = prepare(solids(), looks(each=1), changed(RECIPE, scans=0))
    _, adapter = adapter_of(run, backbone, CLASSES, complete, RECIPE, TOLD)
    assert adapter.statistics.count.tolist() == [RECIPE.training.shots] * len(CLASSES.names)
    seen = look_over(adapter.network, backbone, CLASSES, complete.source)
    torch.testing.assert_close(adapter.statistics.mean[0], seen.features[seen.labels == 0].mean(0))


def test_the_version_is_one_more_than_the_step_it_comes_from(left, run, bests):
    assert run.kept_step == 2
    assert left[1].version == 3
    assert left[1].parent == 0
    assert [adapter.version for *_, adapter in bests] == [step + 1 for step, *_ in bests]
    assert bests[0][0] == 0, "the average before training is the first best one"


def test_an_adapter_of_a_run_under_way_is_that_of_its_best_average(run, bests):
    step, probe, weights, adapter = bests[-1]
    assert step == run.best_step
    assert all(torch.equal(value, weights[name]) for name, value in run.best.items())
    assert adapter.probe["macro_accuracy"] == pytest.approx(probe.macro_accuracy, abs=1e-4)
    assert adapter.training["step"] == step


def test_it_tells_where_it_came_from_and_by_which_recipe(left):
    told = json.loads(json.dumps(left[1].training))
    assert told["source"] == "solids"
    assert told["target"] == "looks"
    assert told["step"] == 2
    assert told["recipe"] == json.loads(json.dumps(asdict(RECIPE)))


def test_a_bundle_from_disk_gives_the_probabilities_of_the_network_in_memory(left, backbone, tmp_path):
    network, adapter = left
    save_bundle(tmp_path / "bundle", network, backbone, adapter)
    loaded = load_bundle(tmp_path / "bundle", backbone)
    memory, disk = (Classifier(backbone, CLASSES, adapter=a) for a in (adapter, loaded))
    objects = looks(each=1, seed=9)
    here, there = (c.classify(objects.clouds, viewpoint=objects.viewpoints) for c in (memory, disk))
    for one, other in zip(here, there, strict=True):
        assert one.label == other.label
        torch.testing.assert_close(torch.tensor(one.probabilities), torch.tensor(other.probabilities))
    plain = Classifier(backbone, CLASSES).classify(objects.clouds, viewpoint=objects.viewpoints)
    assert any(abs(a.probabilities - b.probabilities).max() > 1e-3 for a, b in zip(here, plain, strict=True))
    for name in ("mean", "variance", "count"):
        assert torch.equal(getattr(loaded.statistics, name), getattr(adapter.statistics, name))
    meta = read_meta(tmp_path / "bundle")
    assert (meta["version"], meta["temperature"]) == (adapter.version, adapter.temperature)
    assert meta["probe"] == adapter.probe
    assert meta["training"] == json.loads(json.dumps(adapter.training))
