"""What a training leaves is calibrated, has statistics where they help, and is the same from disk as in memory."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from domains_made import CLASSES, RECIPE, changed, looks, solids

from clipoint3d_ros.adaptation import outcome
from clipoint3d_ros.adaptation.clouds import worn
from clipoint3d_ros.adaptation.outcome import adapter_of, helpful, source_statistics
from clipoint3d_ros.adaptation.probing import Probe, look_over
from clipoint3d_ros.adaptation.statistics import fused, gather, weighed
from clipoint3d_ros.adaptation.trainer import prepare, train
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle, read_meta, save_bundle
from clipoint3d_ros.recognition.calibration import fit_temperature
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

RECIPE = changed(RECIPE, steps=2, probe_every=1, keep_margin=1.0, scans=3, statistics=2)
TOLD = {"source": "solids", "target": "looks"}
pytestmark = pytest.mark.usefixtures("quick_probes")


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
        network, adapter = adapter_of(run, backbone, CLASSES, material, changed(RECIPE, statistics=0), TOLD, early=True)
        bests.append((run.step, probe, {k: v.clone() for k, v in network.adapter().items()}, adapter))

    return train(backbone, CLASSES, material, RECIPE, on_best=keep)


@pytest.fixture(scope="module")
def untrained(backbone, material):
    """A run that has kept the frozen model."""
    run = train(backbone, CLASSES, material, changed(RECIPE, steps=1, certain=1e6, statistics=0))
    assert run.kept_step == 0
    return run


def adapter_by(gain, *given, recipe=RECIPE, **more):
    """The network before the merge and the adapter, where the statistics gain this much on the probe set, and one
    standard error is 0.1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "gain", lambda before, after: (gain, 0.1))
        return adapter_of(*given, recipe, TOLD, **more)


@pytest.fixture(scope="module")
def left(run, backbone, material):
    """Where the statistics help."""
    return adapter_by(0.5, run, backbone, CLASSES, material)


@pytest.fixture(scope="module")
def plain(run, backbone, material):
    """Where they do not."""
    return adapter_by(0.0, run, backbone, CLASSES, material)


# Calibration


def test_without_statistics_the_temperature_is_fitted_to_what_the_words_say_of_the_probe_set(plain, backbone, material):
    _, adapter = plain
    assert adapter.statistics is None
    probe = look_over(adapter.network, backbone, CLASSES, material.probe)
    assert adapter.temperature == fit_temperature(probe.logits, probe.labels)
    losses = [F.cross_entropy(probe.logits / t, probe.labels) for t in (adapter.temperature, 1.0)]
    assert losses[0] <= losses[1] + 1e-4
    assert adapter.probe["objects"] == len(material.probe)
    assert adapter.probe["macro_accuracy"] == pytest.approx(probe.macro_accuracy, abs=1e-4)
    frozen = look_over(None, backbone, CLASSES, material.probe)
    assert adapter.probe["frozen_macro_accuracy"] == pytest.approx(frozen.macro_accuracy, abs=1e-4)


def test_with_statistics_figures_and_temperature_are_of_words_and_statistics_together(left, backbone, material):
    _, adapter = left
    both = fused(look_over(adapter.network, backbone, CLASSES, material.probe), adapter.statistics)
    assert adapter.temperature == fit_temperature(both.logits, both.labels)
    assert adapter.probe["macro_accuracy"] == pytest.approx(both.macro_accuracy, abs=1e-4)


def test_what_is_served_is_what_was_judged_on_the_probe_set(left, backbone, material):
    _, adapter = left
    both = fused(look_over(adapter.network, backbone, CLASSES, material.probe), adapter.statistics)
    classifier = Classifier(backbone, CLASSES, ClassifierConfig(points=64), adapter)
    clouds = list(material.probe.points.numpy())
    answers = classifier.classify(clouds, (0, 1, 0), material.probe.sensors())
    served = torch.stack([torch.from_numpy(answer.probabilities) for answer in answers]).float()
    # Densities of so few objects are large numbers that nearly cancel.
    torch.testing.assert_close(served, (both.logits / adapter.temperature).softmax(1), atol=5e-3, rtol=0)
    words = look_over(adapter.network, backbone, CLASSES, material.probe).logits / adapter.temperature
    assert (served - words.softmax(1)).abs().max() > 0.05, "the words alone say the same, so this shows nothing"


# Statistics


@pytest.mark.parametrize("count", [1, 2, 3, 99])
def test_the_statistics_are_of_worn_scans_of_every_shot(run, backbone, material, count):
    config, each = RECIPE.training, min(count, RECIPE.training.scans)
    statistics = source_statistics(run.network, backbone, CLASSES, material, config, count)
    assert statistics.count.tolist() == [config.shots * each] * len(CLASSES.names)
    rows = [shot * config.scans + scan for shot in range(len(material.source)) for scan in range(each)]
    scans = worn(material.scans.take(torch.tensor(rows)), config.points, config.cut_share, config.seed)
    seen = look_over(run.network, backbone, CLASSES, scans)
    assert seen.labels.tolist() == material.source.labels.repeat_interleave(each).tolist()
    expected = gather(seen.features, seen.labels, len(CLASSES.names))
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(statistics, name), value)
    assert (statistics.mean.norm(dim=1) <= 1 + 1e-5).all()


def test_without_scans_the_statistics_are_of_the_complete_source(run, backbone):
    complete = prepare(solids(), looks(each=1), changed(RECIPE, scans=0))
    statistics = source_statistics(run.network, backbone, CLASSES, complete, RECIPE.training, 2)
    assert statistics.count.tolist() == [RECIPE.training.shots] * len(CLASSES.names)
    seen = look_over(run.network, backbone, CLASSES, complete.source)
    torch.testing.assert_close(statistics.mean[0], seen.features[seen.labels == 0].mean(0))


def test_an_early_answers_statistics_are_of_fewer_looks(left, run, backbone, material):
    assert left[1].statistics.count.tolist() == [RECIPE.training.shots * 2] * len(CLASSES.names)
    _, early = adapter_by(0.5, run, backbone, CLASSES, material, early=True)
    assert early.statistics.count.tolist() == [RECIPE.training.shots] * len(CLASSES.names)


@pytest.mark.parametrize("early", [False, True])
def test_a_recipe_without_statistics_looks_at_no_source_object_for_them(run, backbone, material, monkeypatch, early):
    monkeypatch.setattr(outcome, "source_statistics", lambda *_: pytest.fail("it looks at the source"))
    _, adapter = adapter_by(0.5, run, backbone, CLASSES, material, recipe=changed(RECIPE, statistics=0), early=early)
    assert adapter.statistics is None


def described(told):
    """A probe of 40 objects of two classes whose features tell the class, and so do the words in this share."""
    labels = torch.arange(40) % 2
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    features = F.one_hot(labels, 2).float() + 0.1 * noise
    right = torch.where(torch.arange(40) < 40 * told, labels, 1 - labels)
    return Probe(2 * F.one_hot(right, 2).float(), features, labels)


def test_statistics_are_kept_where_they_help_and_only_as_certainly_as_asked():
    probe = described(told=0.75)
    statistics = gather(probe.features, probe.labels, 2)
    kept = helpful(statistics, probe, certain=3.0)
    assert torch.equal(kept.weights, weighed(statistics, probe.logits, probe.features, probe.labels).weights)
    assert fused(probe, kept).macro_accuracy == 1.0 > probe.macro_accuracy
    assert helpful(statistics, probe, certain=1e6) is None


@pytest.mark.parametrize("certain", [0.0, 3.0])
def test_statistics_that_leave_all_answers_as_they_are_are_not_kept(certain):
    probe = described(told=1.0)
    assert helpful(gather(probe.features, probe.labels, 2), probe, certain) is None
    vague = replace(described(told=0.75), features=torch.zeros(40, 2))
    assert helpful(gather(vague.features, vague.labels, 2), vague, certain) is None


@pytest.mark.parametrize(("gain", "kept"), [(0.05, True), (0.0, False), (-0.1, False)])
def test_beside_a_training_that_was_kept_any_gain_of_the_statistics_counts(run, backbone, material, gain, kept):
    recipe = changed(RECIPE, certain=2.0)
    _, adapter = adapter_by(gain, run, backbone, CLASSES, material, recipe=recipe, early=True)
    assert (adapter.statistics is not None) == kept


@pytest.mark.parametrize(("gain", "kept"), [(0.21, True), (0.19, False)])
def test_beside_the_frozen_model_the_statistics_must_gain_for_certain(untrained, backbone, material, gain, kept):
    recipe = changed(RECIPE, certain=2.0)
    _, adapter = adapter_by(gain, untrained, backbone, CLASSES, material, recipe=recipe, early=True)
    assert adapter.version == 1
    assert (adapter.statistics is not None) == kept
    assert (adapter.temperature == backbone.temperature) == (not kept)
    frozen = look_over(None, backbone, CLASSES, material.probe)
    if not kept:
        assert adapter.probe["macro_accuracy"] == adapter.probe["frozen_macro_accuracy"]
    assert adapter.probe["frozen_macro_accuracy"] == pytest.approx(frozen.macro_accuracy, abs=1e-4)


def test_a_training_that_gained_nothing_and_statistics_that_do_not_help_answer_as_the_frozen_model(
    untrained, backbone, material
):
    _, adapter = adapter_by(0.0, untrained, backbone, CLASSES, material)
    objects = looks(each=2, seed=9)
    for answer in Classifier(backbone, CLASSES, adapter=adapter).classify(objects.clouds, viewpoint=objects.viewpoints):
        assert answer.label == answer.frozen.label
        torch.testing.assert_close(
            torch.tensor(answer.probabilities), torch.tensor(answer.frozen.probabilities), atol=1e-6, rtol=1e-5
        )
        assert answer.familiarity == pytest.approx(answer.frozen.familiarity)


# Where it comes from


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


@pytest.mark.parametrize("fixture", ["left", "plain"])
def test_a_bundle_from_disk_gives_the_probabilities_of_the_network_in_memory(fixture, backbone, tmp_path, request):
    network, adapter = request.getfixturevalue(fixture)
    save_bundle(tmp_path / "bundle", network, backbone, adapter)
    loaded = load_bundle(tmp_path / "bundle", backbone)
    memory, disk = (Classifier(backbone, CLASSES, adapter=a) for a in (adapter, loaded))
    objects = looks(each=1, seed=9)
    here, there = (c.classify(objects.clouds, viewpoint=objects.viewpoints) for c in (memory, disk))
    for one, other in zip(here, there, strict=True):
        assert one.label == other.label
        torch.testing.assert_close(torch.tensor(one.probabilities), torch.tensor(other.probabilities))
    words = Classifier(backbone, CLASSES).classify(objects.clouds, viewpoint=objects.viewpoints)
    assert any(abs(a.probabilities - b.probabilities).max() > 1e-3 for a, b in zip(here, words, strict=True))
    assert (loaded.statistics is None) == (fixture == "plain")
    if loaded.statistics is not None:
        for name, value in vars(adapter.statistics).items():
            assert torch.equal(getattr(loaded.statistics, name), value), name
    meta = read_meta(tmp_path / "bundle")
    assert (meta["version"], meta["temperature"]) == (adapter.version, adapter.temperature)
    assert meta["probe"] == adapter.probe
    assert meta["training"] == json.loads(json.dumps(adapter.training))
