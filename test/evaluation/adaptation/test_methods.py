"""The table's rows: each runs, sees what it may see, and changes what it says it changes."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from clipoint3d_ros.adaptation import outcome
from clipoint3d_ros.evaluation.adaptation import methods
from clipoint3d_ros.evaluation.adaptation.methods import ABLATIONS, METHODS, Task, find

EVERY = {method.name: method for method in (*METHODS, *ABLATIONS)}
BLIND = {"losses.conf": 0.0, "losses.transport": 0.0, "losses.proto": 0.0, "losses.agree": 0.0}
BARE = {**BLIND, "training.scans": 0, "training.statistics": 0}
SOURCE = {**BARE, "training.cut_share": 0.0}
# What each method that trains this package's network changes of the recipe.
CHANGES = {
    "prompts only": {**SOURCE, "network.tuning": "none"},
    "LoRA only": {**SOURCE, "network.context": 0, "network.variant": "B"},
    "CLIPoint3D-T": {"network.variant": "T"},
    "CLIPoint3D-V": {"network.variant": "V"},
    "CLIPoint3D-B": {"network.variant": "B"},
    "− ortho": {"losses.ortho": 0.0},
    "− conf": {"losses.conf": 0.0},
    "− transport": {"losses.transport": 0.0},
    "− proto": {"losses.proto": 0.0},
    "− agree": {"losses.agree": 0.0},
    "− prompts": {"network.context": 0},
    "− statistics": {"training.statistics": 0},
    "− scans": {"training.scans": 0},
    "LoRA with faults": {**BARE, "network.context": 0, "network.variant": "B"},
    "scans only": BLIND,
    "1 shots": {"training.shots": 1},
    "4 shots": {"training.shots": 4},
    "16 shots": {"training.shots": 16},
    "tuning bitfit": {"network.tuning": "bitfit"},
    "tuning layernorm": {"network.tuning": "layernorm"},
}


@pytest.fixture(scope="module", autouse=True)
def few_epochs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "ENCODER_EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def quick(recipe):
    """One step of three objects."""
    return replace(recipe, training=replace(recipe.training, steps=1, objects=3))


@pytest.fixture(scope="module")
def run(column, backbone, quick):
    """Looks of a method by name, computed once, on two objects of the target; on two others where `other`."""
    known = {}

    def looks(name, other=False):
        if (name, other) not in known:
            protocol = replace(column, target=column.target.take([2, 3] if other else [0, 1]))
            known[name, other] = EVERY[name].run(Task(protocol, backbone, quick))
        return known[name, other]

    return looks


def flat(recipe):
    return {f"{part}.{key}": value for part, values in asdict(recipe).items() for key, value in values.items()}


@pytest.mark.parametrize("name", EVERY)
def test_a_method_gives_finite_logits_of_every_view_of_every_scored_object(run, column, name):
    looks = run(name)
    assert looks.logits.shape == (len(column.scored), 10, len(column.classes.names))
    assert looks.facing.shape == (len(column.scored), 10)
    assert torch.isfinite(looks.logits).all()
    torch.testing.assert_close(looks.facing.sum(1), torch.ones(len(column.scored)))
    for policy in ("entropy", "sensor", EVERY[name].ten_views):
        assert torch.isfinite(looks.choose(policy)).all()


@pytest.mark.parametrize("name", ["zero-shot", "PointCLIP", "linear probe", "prompts only", "LoRA only", "PointNet"])
def test_a_method_without_adaptation_is_unaffected_by_the_target(run, name):
    assert torch.equal(run(name).logits, run(name, other=True).logits)


@pytest.mark.parametrize("name", ["DANN", "official", "CLIPoint3D-B", "scans only"])
def test_a_method_that_looks_at_the_target_depends_on_it(run, name):
    assert not torch.equal(run(name).logits, run(name, other=True).logits)


@pytest.mark.parametrize("name", ["PointCLIP", "linear probe", "LoRA only", "official", "CLIPoint3D-V"])
def test_a_method_is_more_than_the_frozen_model(run, name):
    difference = run(name).logits - run("zero-shot").logits
    assert (difference - difference.mean((0, 1))).abs().max() > 1e-5, "a bias of the classes alone is no method"


def test_a_run_leaves_the_backbone_as_it_was(backbone, column, quick):
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    find("LoRA only")[0].run(Task(column, backbone, quick))
    after = backbone.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("name", CHANGES)
def test_a_methods_recipe_differs_from_the_tables_in_what_it_says(monkeypatch, recipe, name):
    used = []

    def train(backbone, classes, material, changed):
        used.append(changed)
        return None

    monkeypatch.setattr(methods, "train", train)
    monkeypatch.setattr(methods, "_material", lambda task, changed: None)
    monkeypatch.setattr(methods, "adapter_of", lambda *given: (None, None))
    monkeypatch.setattr(methods, "Classifier", lambda *given, **more: None)
    monkeypatch.setattr(methods, "look", lambda classifier, scored: None)
    given = replace(recipe, network=replace(recipe.network, variant="T" if name.endswith(("-B", "-V")) else "V"))
    EVERY[name].run(Task(SimpleNamespace(classes=None, scored=None), None, given))
    before, after = flat(given), flat(used[0])
    assert {key: after[key] for key in after if after[key] != before[key]} == CHANGES[name]


def test_statistics_alone_answer_as_the_frozen_model_does_unless_they_help_for_certain(
    monkeypatch, column, backbone, quick, run
):
    doubtful = replace(quick, training=replace(quick.training, certain=2.0))
    task = Task(column, backbone, doubtful)
    monkeypatch.setattr(outcome, "gain", lambda before, after: (0.1, 0.1))
    assert torch.equal(EVERY["statistics only"].run(task).logits, run("zero-shot").logits)
    monkeypatch.setattr(outcome, "gain", lambda before, after: (0.3, 0.1))
    helped = EVERY["statistics only"].run(task).logits
    assert not torch.allclose(helped, run("zero-shot").logits, atol=1e-2)


def test_a_trained_method_is_looked_at_with_the_statistics_that_help(monkeypatch, column, backbone, quick):
    served = []
    monkeypatch.setattr(outcome, "gain", lambda before, after: (1.0, 0.1))
    monkeypatch.setattr(methods, "look", lambda classifier, scored: served.append(classifier))
    for name in ("CLIPoint3D-V", "− statistics"):
        EVERY[name].run(Task(column, backbone, quick))
    ours, without = served
    # One scan of each of two shots, of whatever looks the recipe asks for.
    assert ours.statistics.count.tolist() == [2] * len(column.classes.names)
    assert without.statistics is None


def test_every_method_that_trains_the_network_is_among_those_compared():
    others = {"zero-shot", "PointCLIP", "linear probe", "PointNet", "DANN", "official", "statistics only"}
    assert EVERY.keys() == CHANGES.keys() | others


@pytest.mark.parametrize("name", ["prompts only", "linear probe", "PointNet"])
def test_a_source_only_method_is_never_handed_the_target(monkeypatch, column, backbone, quick, name):
    given = []
    prepare = methods.prepare

    def watched(*arguments):
        given.append(prepare(*arguments))
        return given[-1]

    methods._prepared.cache_clear()
    monkeypatch.setattr(methods, "prepare", watched)
    EVERY[name].run(Task(column, backbone, quick))
    (material,) = given
    assert material.target is None
    assert material.scans is None


@pytest.mark.parametrize("name", ["PointNet", "DANN"])
@pytest.mark.parametrize("change", [{"steps": 1}, {"steps": 7, "objects": 5}])
def test_an_encoder_from_scratch_sees_its_shots_often_whatever_the_recipe_s_steps(
    monkeypatch, column, backbone, recipe, name, change
):
    seen = []
    monkeypatch.setattr(methods, "ENCODER_EPOCHS", 40)
    monkeypatch.setattr(
        methods.baselines, "point_encoder", lambda classes, material, *given: seen.append((material, *given))
    )
    EVERY[name].run(Task(column, backbone, replace(recipe, training=replace(recipe.training, **change))))
    ((material, config, *_),) = seen
    assert 40 * len(material.source) <= config.steps * config.objects < 40 * len(material.source) + config.objects


def test_what_two_methods_learn_from_is_prepared_once(monkeypatch, column, backbone, quick):
    methods._prepared.cache_clear()
    first = methods._material(Task(column, backbone, quick), quick)
    assert methods._material(Task(column, backbone, quick), methods.varied("losses", proto=0.0)(quick)) is first
    assert methods._material(Task(column, backbone, quick), quick.seeded(7)) is not first
    assert methods._material(Task(column, backbone, quick), methods.source_only()(quick)).target is None


def test_methods_are_found_by_name_and_by_group():
    assert find(None) == METHODS
    assert find("ablations") == ABLATIONS
    assert find("all") == (*METHODS, *ABLATIONS)
    assert [m.name for m in find("DANN, zero-shot ,DANN")] == ["DANN", "zero-shot"], "in the order asked for, once"
    assert find("zero-shot,all")[0].name == "zero-shot"
    assert len(find("zero-shot,all")) == len(EVERY)


@pytest.mark.parametrize("names", ["zeroshot", "DANN,", ""])
def test_an_unknown_method_is_answered_with_those_there_are(names):
    with pytest.raises(
        ValueError, match=r"no method '(zeroshot)?'; there are zero-shot, PointCLIP, .*ablations and all"
    ):
        find(names)


def test_names_are_distinct_and_have_no_comma():
    assert len(EVERY) == len(METHODS) + len(ABLATIONS)
    assert not [name for name in EVERY if "," in name]
