"""Few-shot training in the small: what it learns from, that it may be killed at any step, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from domains_made import CLASSES, RECIPE, changed, looks, solids

from clipoint3d_ros.adaptation import trainer
from clipoint3d_ros.adaptation.objective import objective
from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.adaptation.trainer import CHECKPOINT, PROBE_SCANS, learning_rate, prepare, train
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import Adapter
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.clip.peft import LowRank
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

TARGETS = ("conf", "transport", "proto", "agree")
BLIND = dict.fromkeys(TARGETS, 0.0)
PLAIN = changed(network={"context": 0}, steps=3)  # without prompts and point encoder: quicker
pytestmark = pytest.mark.usefixtures("quick_probes")


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="module")
def material():
    return prepare(solids(), looks(each=2), RECIPE)


@pytest.fixture(scope="module")
def whole(backbone, material):
    """A training in one go, with what was told of it."""
    told = []
    return train(backbone, CLASSES, material, RECIPE, report=lambda step, figures: told.append((step, figures))), told


class Killed(Exception):
    pass


def killed_after(last, steps):
    """A report that notes the steps and ends the process, as far as a test can."""

    def report(step, figures):
        steps.append(step)
        if step == last:
            raise Killed

    return report


def assert_same(one, other):
    assert one.step == other.step
    assert (one.score, one.best_score, one.best_step) == (other.score, other.best_score, other.best_step)
    assert one.kept_step == other.kept_step
    assert torch.equal(one.prior, other.prior)
    for part in ("average", "best", "kept"):
        for name, value in getattr(one, part).items():
            assert torch.equal(value, getattr(other, part)[name]), f"{name} of the {part} differs"
    for name, value in one.network.adapter().items():
        assert torch.equal(value, other.network.adapter()[name]), f"{name} of the network differs"


def close(one, other, **tolerance):
    for name, value in one.network.adapter().items():
        torch.testing.assert_close(value, other.network.adapter()[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def moved(one, other):
    """Names of what differs between two dictionaries of tensors."""
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


# What it learns from.


def test_shots_and_probe_are_kept_apart_and_looked_at_as_the_target_is():
    source, target = solids(each=6), looks(each=2)
    material = prepare(source, target, changed(shots=3, probe=2))
    assert material.source.labels.bincount().tolist() == [3, 3, 3]
    assert material.probe.labels.bincount().tolist() == [2 * PROBE_SCANS] * 3
    assert material.probe.points.shape[1] == RECIPE.training.points, "worn as the clouds of a step are"
    assert len(material.scans) == 3 * 3 * RECIPE.training.scans
    assert material.scans.seen.all()
    assert material.probe.seen.all()
    assert not material.source.seen.any()
    assert (material.target.labels == -1).all()
    assert material.source.points.shape[1] == trainer.STORED_POINTS


def test_probe_objects_are_none_of_those_that_are_learned_from():
    source = solids(each=4)
    stretched = tuple(cloud * (1 + i) for i, cloud in enumerate(source.clouds))
    material = prepare(replace(source, clouds=stretched), None, changed(losses=BLIND, shots=2, probe=2))
    reach = [{round(float(r), 4) for r in c.points.norm(dim=-1).amax(1)} for c in (material.source, material.probe)]
    assert [len(r) for r in reach] == [6, 6]
    assert not reach[0] & reach[1]


def test_two_objects_a_class_still_give_a_probe_set_and_one_is_refused():
    material = prepare(solids(each=2), looks(each=1), changed(shots=64, probe=16))
    assert material.source.labels.bincount().tolist() == [1, 1, 1]
    assert material.probe.labels.bincount().tolist() == [PROBE_SCANS] * 3
    with pytest.raises(ValueError, match=r"solids has classes of one object, .* at least 2 a class"):
        prepare(solids(each=1), looks(each=1), changed(shots=64))


def test_a_class_of_few_objects_costs_the_others_none_of_theirs():
    source = solids(each=10)
    few = source.take(np.flatnonzero((source.labels != 1) | (np.arange(len(source)) < 6)))  # two cans
    material = prepare(few, looks(each=1), changed(shots=5, probe=2))
    assert material.source.labels.bincount().tolist() == [5, 1, 5]
    assert material.probe.labels.bincount().tolist() == [2 * PROBE_SCANS, PROBE_SCANS, 2 * PROBE_SCANS]


def test_a_class_without_objects_is_named():
    with pytest.raises(ValueError, match="solids has no object of can"):
        prepare(solids().take(solids().labels != 1), looks(each=1), RECIPE)


@pytest.mark.parametrize("name", TARGETS)
def test_losses_of_a_target_without_one_are_refused(name):
    recipe = changed(losses={**BLIND, name: 1.0})
    for target in (None, looks(each=1).take([])):
        with pytest.raises(ValueError, match="look at a target; name one, or set them to 0"):
            prepare(solids(), target, recipe)


def test_a_target_that_no_loss_looks_at_still_says_where_sensors_stand():
    material = prepare(solids(), looks(each=1), changed(losses=BLIND))
    assert material.target is None
    assert material.scans is not None
    assert prepare(solids(), None, changed(losses=BLIND)).scans is None


@pytest.mark.parametrize("change", ["unit", "viewpoints", "no scans"])
def test_without_known_sensors_the_source_stays_complete(change):
    target = looks(each=1)
    target = replace(target, metric=False) if change == "unit" else target
    target = replace(target, viewpoints=None) if change == "viewpoints" else target
    material = prepare(solids(), target, changed(scans=0) if change == "no scans" else RECIPE)
    assert material.scans is None
    assert not material.probe.seen.any()
    assert material.probe.labels.bincount().tolist() == [RECIPE.training.probe] * 3, "complete objects are seen once"
    assert material.target is not None


def test_scans_of_no_other_proportions_are_no_taller_than_the_objects():
    def tallest(misshape):
        material = prepare(solids(), looks(each=2), changed(misshape=misshape))
        extent = material.scans.points[..., 1].amax(1) - material.scans.points[..., 1].amin(1)
        own = material.source.points[..., 1].amax(1) - material.source.points[..., 1].amin(1)
        return float((extent / own.repeat_interleave(RECIPE.training.scans)).max())

    assert tallest(0.0) <= 1 + 1e-4
    assert 1 + 1e-2 < tallest(0.5) <= np.exp(0.5) + 1e-4


def test_the_probe_set_is_drawn_from_the_seed_with_other_proportions_than_the_shots():
    recipe = changed(shots=3, probe=2)
    one, same = (prepare(solids(each=6), looks(each=2), recipe).probe for _ in range(2))
    assert torch.equal(one.points, same.points)
    plain = prepare(solids(each=6), looks(each=2), changed(recipe, misshape=0.0)).probe
    assert plain.labels.tolist() == one.labels.tolist()
    assert not torch.equal(one.points, plain.points)
    whole = prepare(solids(each=6), looks(each=2), changed(recipe, cut_share=0.0)).probe
    assert torch.equal(whole.elevation, one.elevation), "it is seen from the same places"
    assert not torch.equal(whole.points, one.points), "parts are missing in the configured share"


# Its steps.


def test_each_step_tells_its_losses(whole):
    _, told = whole
    assert [step for step, _ in told] == [1, 2, 3, 4]
    for step, figures in told:
        terms = {"ce", "ortho", *TARGETS}
        assert set(figures) == {"loss", "accuracy", "seconds", *terms} | ({"probe"} if step % 2 == 0 else set())
        assert np.isfinite(list(figures.values())).all()
        weighed = sum(getattr(RECIPE.losses, name) * figures[name] for name in terms)
        assert figures["loss"] == pytest.approx(weighed, rel=1e-4)


def test_another_seed_ends_elsewhere(backbone, material):
    recipes = [changed(PLAIN, steps=1, seed=seed) for seed in (0, 1)]
    one, other = (train(backbone, CLASSES, material, recipe).average for recipe in recipes)
    assert moved(one, other)


def test_a_training_does_not_see_what_the_targets_objects_are(backbone, whole):
    target = looks(each=2)
    other = replace(target, labels=np.random.default_rng(3).permutation(target.labels))
    assert (other.labels != target.labels).any()
    torch.rand(7)  # nor does it matter what ran before
    assert_same(whole[0], train(backbone, CLASSES, prepare(solids(), other, RECIPE), RECIPE))


def test_labels_that_reach_the_steps_by_mistake_are_not_looked_at(backbone, material):
    labelled = replace(material.target, labels=torch.randint(0, 3, (len(material.target),)))
    materials = (material, replace(material, target=labelled))
    assert_same(*(train(backbone, CLASSES, given, PLAIN) for given in materials))


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    config = changed(steps=100, warmup=10, learning_rate=1.0).training
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.01)
    assert learning_rate(0, changed(warmup=0, learning_rate=1.0).training) == 1.0


def test_training_learns(backbone):
    recipe = changed(PLAIN, losses=BLIND, steps=20, objects=6, scans=0, learning_rate=1e-2, probe_every=20)
    told = []
    material = prepare(solids(), None, recipe)
    train(backbone, CLASSES, material, recipe, report=lambda _, figures: told.append(figures["ce"]))
    assert np.mean(told[-5:]) < 0.7 * np.mean(told[:5]), f"cross-entropy went from {told[:5]} to {told[-5:]}"


# Kills.


def test_a_training_killed_after_every_step_ends_as_one_that_never_was(backbone, material, whole, tmp_path):
    steps = RECIPE.training.steps
    for last in range(1, steps):
        left = train(backbone, CLASSES, material, RECIPE, tmp_path, stop_at=last)
        assert left.step == last
    assert_same(whole[0], train(backbone, CLASSES, material, RECIPE, tmp_path))
    assert_same(whole[0], train(backbone, CLASSES, material, RECIPE, tmp_path))


def test_a_kill_between_checkpoints_ends_the_same(backbone, material, tmp_path):
    recipe = changed(PLAIN, steps=4, checkpoint_every=2, probe_every=3)
    plain = train(backbone, CLASSES, material, recipe)
    for last, first in ((1, 1), (3, 1), (3, 3)):  # where it is killed, and where it had begun
        steps = []
        with pytest.raises(Killed):
            train(backbone, CLASSES, material, recipe, tmp_path, report=killed_after(last, steps))
        assert steps[0] == first
    assert_same(plain, train(backbone, CLASSES, material, recipe, tmp_path))


def test_a_kill_while_saving_leaves_the_checkpoint_before(backbone, material, tmp_path, monkeypatch):
    train(backbone, CLASSES, material, PLAIN, tmp_path, stop_at=1)
    before = (tmp_path / CHECKPOINT).read_bytes()
    save = torch.save

    def cut_short(stored, path):
        save(stored, path)
        path.write_bytes(path.read_bytes()[:1000])
        raise Killed

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(Killed):
        train(backbone, CLASSES, material, PLAIN, tmp_path, stop_at=2)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    monkeypatch.undo()
    assert train(backbone, CLASSES, material, PLAIN, tmp_path, stop_at=2).step == 2


def test_stopping_at_0_trains_nothing(backbone, material, tmp_path):
    assert train(backbone, CLASSES, material, PLAIN, tmp_path, stop_at=0).step == 0


@pytest.fixture(scope="module")
def stopped(backbone, material, tmp_path_factory):
    """The folder of a training that left after a step."""
    folder = tmp_path_factory.mktemp("stopped")
    train(backbone, CLASSES, material, PLAIN, folder, stop_at=1)
    return folder


@pytest.mark.parametrize(
    "other", ["rate", "losses", "source", "scans", "sensor", "unit", "probe", "classes", "backbone", "patches"]
)
def test_a_checkpoint_of_another_recipe_data_or_backbone_is_refused(backbone, material, stopped, other):
    moved_sensor = replace(material.target, elevation=material.target.elevation + 0.1)
    all_patches = replace(backbone.preprocessing, drop_empty=not backbone.preprocessing.drop_empty)
    given = {
        "rate": (backbone, CLASSES, material, changed(PLAIN, learning_rate=1e-4)),
        "losses": (backbone, CLASSES, material, changed(PLAIN, losses={"conf": 0.5})),
        "source": (backbone, CLASSES, replace(material, source=material.probe), PLAIN),
        "scans": (backbone, CLASSES, replace(material, scans=None), PLAIN),
        "sensor": (backbone, CLASSES, replace(material, target=moved_sensor), PLAIN),
        "unit": (backbone, CLASSES, replace(material, target=replace(material.target, metric=False)), PLAIN),
        "probe": (backbone, CLASSES, replace(material, probe=material.probe.take(torch.arange(5))), PLAIN),
        "classes": (backbone, describe(["box", "can", "dish"]), material, PLAIN),
        "backbone": (replace(backbone, checksum="0" * 64), CLASSES, material, PLAIN),
        "patches": (replace(backbone, preprocessing=all_patches), CLASSES, material, PLAIN),
    }
    with pytest.raises(ValueError, match="of another recipe, backbone, choice of patches, class list or data; choose"):
        train(*given[other], stopped, stop_at=1)


# What it moves, and what it leaves alone.


def test_the_frozen_backbone_stays_as_it_is(backbone, material):
    before, flags = state(backbone.model), [p.requires_grad for p in backbone.model.parameters()]
    train(backbone, CLASSES, material, changed(steps=1))
    assert not moved(before, state(backbone.model))
    assert flags == [p.requires_grad for p in backbone.model.parameters()]
    assert not backbone.model.training


@pytest.mark.parametrize(
    ("variant", "tuning"),
    [("T", "lora"), ("V", "lora"), ("B", "bitfit"), ("B", "layernorm"), ("B", "none")],
)
def test_what_is_meant_to_be_trained_moves_and_nothing_else(backbone, material, variant, tuning):
    recipe = changed(steps=3, probe_every=9, network={"variant": variant, "tuning": tuning}, weight_decay=0.0)
    first = {}
    run = train(backbone, CLASSES, material, recipe, on_best=lambda run, _: first or first.update(state(run.network)))
    trained = run.network.trained()
    towers = {name.split(".")[1] for name in trained if name.startswith("model.")}
    if tuning == "none":
        assert not towers
    else:
        assert ("visual" in towers) == (variant in "VB")
        assert ("transformer" in towers) == (variant in "TB")
    changed_names = moved(first, state(run.network))
    statistics = {name for name in first if "running_" in name or "num_batches" in name}
    # One key has all of the attention, whatever the query: what norms the query of the visual prompts has no gradient.
    idle = {f"prompts.vision.attention.norm_query.{name}" for name in ("weight", "bias")}
    assert statistics
    assert statistics <= changed_names
    assert changed_names - statistics <= set(trained), "something frozen has moved"
    assert set(trained) - changed_names <= idle, "something that was to be trained has not moved"
    if tuning == "lora":
        adapted = [name for name, module in run.network.named_modules() if isinstance(module, LowRank)]
        assert {f"{name}.{part}" for name in adapted for part in ("up", "down")} <= changed_names


def test_target_passes_leave_the_point_encoders_statistics_alone_unless_asked(backbone, material):
    def statistics(**values):
        run = train(backbone, CLASSES, material, changed(steps=1, probe_every=9, **values))
        return {name: value for name, value in run.network.adapter().items() if name.startswith("points.")
                and ("running_" in name or "num_batches" in name)}  # fmt: skip

    with_target, without = statistics(), statistics(losses=BLIND)
    assert with_target
    assert not moved(without, with_target)
    asked = statistics(target_statistics=True)
    assert {n for n in without if "num_batches" in n} <= moved(without, asked)
    assert {n for n in without if "running_" in n} <= moved(without, asked)


def test_without_prompts_there_is_no_point_encoder(backbone, material):
    run = train(backbone, CLASSES, material, PLAIN, stop_at=1)
    assert run.average
    assert not [name for name in run.average if name.startswith(("points.", "prompts."))]


# Its memory, precision and faults.


class Counting(Network):
    """A network that counts the views of each pass."""

    passes: list

    def views(self, images, *others):
        self.passes.append(len(images))
        return super().views(images, *others)


@pytest.mark.parametrize(("limit", "patches"), [(1, 0), (5, 3), (100, 0)])
def test_a_capped_pass_gives_what_the_whole_batch_gives(backbone, material, limit, patches):
    runs, figures, passes = [], [], []
    for views_at_once in (0, limit):
        recipe = changed(
            steps=2,
            probe_every=9,
            optimiser="sgd",
            learning_rate=0.3,
            network={"dropout": 0.0},
            views_at_once=views_at_once,
        )
        recipe = changed(recipe, patches=patches)
        made = Counting(backbone, recipe.network)
        made.passes = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made.load_adapter(Network(backbone, recipe.network).adapter())
        runs.append(
            train(backbone, CLASSES, material, recipe, report=lambda _, f: figures.append(f), make=lambda *_, n=made: n)
        )
        passes.append(made.passes)
    views = 2 * 2 * RECIPE.training.objects  # of both domains
    assert passes[0] == [views, views]
    assert max(passes[1]) == min(limit, views)
    close(*runs, atol=1e-5, rtol=1e-4)
    for name, value in figures[1].items():
        if name != "seconds":
            assert figures[3][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_some_patches_of_a_view_are_drawn_from_the_step_alone(backbone, material):
    told = []
    for patches in (0, 2, 2, 1000):
        recipe = changed(PLAIN, steps=1, patches=patches)
        train(backbone, CLASSES, material, recipe, report=lambda _, figures: told.append(figures["ce"]))
    every, some, again, most = told
    assert backbone.preprocessing.drop_empty
    assert some == again
    assert some != every
    assert most == every, "more than there are is all of them"


def test_half_precision_stays_finite_and_near(backbone, material, whole):
    told = []
    run = train(
        backbone, CLASSES, material, changed(precision="bf16", steps=2), report=lambda _, figures: told.append(figures)
    )
    assert all(torch.isfinite(value).all() for value in run.average.values())
    assert all(value.dtype != torch.bfloat16 for value in run.average.values())
    assert told[0]["loss"] == pytest.approx(whole[1][0][1]["loss"], rel=0.1)


def test_logits_and_features_reach_the_losses_in_single_precision(backbone, material):
    kinds = set()

    def loss(source, labels, target, *others):
        kinds.update(part.dtype for seen in (source, target) for part in (seen.logits, seen.features, seen.fused))
        return objective(source, labels, target, *others)

    train(backbone, CLASSES, material, changed(steps=1, probe_every=9, precision="bf16"), loss=loss)
    assert kinds == {torch.float32}


def test_a_loss_that_is_not_finite_is_told_with_its_terms(backbone, material, tmp_path):
    def broken(*given):
        total, terms = objective(*given)
        terms["proto"] = terms["proto"] * torch.nan
        return total * torch.nan, terms

    with pytest.raises(
        FloatingPointError, match=r"loss of step 0 \(ce .*, proto nan.*\) is not finite; lower training.learning_rate"
    ):
        train(backbone, CLASSES, material, PLAIN, tmp_path, loss=broken)


def test_a_gradient_that_is_not_finite_is_told_before_it_does_harm(backbone, material, tmp_path):
    train(backbone, CLASSES, material, PLAIN, tmp_path, stop_at=1)
    before = (tmp_path / CHECKPOINT).read_bytes()

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.inf

    def steep(*given):
        total, terms = objective(*given)
        return Steep.apply(total), terms

    with pytest.raises(FloatingPointError, match=r"gradient of step 1 .* is not finite; lower training.learning_rate"):
        train(backbone, CLASSES, material, PLAIN, tmp_path, loss=steep)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("probe_every", [1, 50])
@pytest.mark.parametrize("rate", [1e8, 1e30])
def test_a_learning_rate_far_too_high_ends_in_words(backbone, material, rate, probe_every):
    recipe = changed(PLAIN, steps=6, warmup=0, learning_rate=rate, probe_every=probe_every)
    with pytest.raises(FloatingPointError, match=r"is not finite; lower training\.learning_rate"):
        train(backbone, CLASSES, material, recipe)


# What is kept.


def scored(monkeypatch, accuracies):
    """Let the probes of a training find these macro accuracies, one after another."""
    found = iter(accuracies)

    def look_over(*_):
        right = round(100 * next(found))
        logits = torch.tensor([[0.1, 0.0]] * right + [[0.0, 0.1]] * (100 - right))
        return Probe(logits, torch.zeros(100, 4), torch.zeros(100, dtype=torch.int64))

    monkeypatch.setattr(trainer, "look_over", look_over)


def trained_with(backbone, material, **values):
    best = []
    recipe = changed(PLAIN, steps=3, probe_every=1, losses={"transport": 0.0}, **values)
    run = train(backbone, CLASSES, material, recipe, on_best=lambda run, p: best.append((run.step, p.score)))
    return run, best


@pytest.mark.parametrize(
    ("last", "margin", "kept"), [(0.69, 0.02, 3), (0.6, 0.02, 1), (0.6, 0.2, 3), (0.9, 0.0, 3), (0.7, 0.0, 3)]
)
def test_the_last_average_is_kept_unless_the_best_is_better_by_more_than_the_margin(
    backbone, material, monkeypatch, last, margin, kept
):
    scored(monkeypatch, [0.3, 0.7, 0.5, last])
    run, _ = trained_with(backbone, material, keep_margin=margin)
    assert run.kept_step == kept
    wanted = run.average if kept == 3 else run.best
    assert not moved(wanted, run.kept)
    assert not moved(wanted, run.network.adapter()), "the network is what is kept"
    assert not run.network.training


def test_the_best_is_told_each_time_it_is_better_than_all_before(backbone, material, monkeypatch):
    scored(monkeypatch, [0.3, 0.5, 0.4, 0.6])
    run, best = trained_with(backbone, material)
    assert [step for step, _ in best] == [0, 1, 3]
    scores = [score for _, score in best]
    assert scores == sorted(scores)
    assert len(set(scores)) == 3
    assert (run.best_step, run.best_score) == best[-1]


def test_the_best_is_what_was_the_average_at_its_step(backbone, material, monkeypatch):
    scored(monkeypatch, [0.3, 0.9, 0.4, 0.5])
    run, _ = trained_with(backbone, material)
    monkeypatch.undo()
    recipe = changed(PLAIN, steps=3, probe_every=1, losses={"transport": 0.0})
    early = train(backbone, CLASSES, material, recipe, stop_at=1)
    assert not moved(early.average, run.best)
    assert moved(run.average, run.best)


def test_a_probe_without_an_answer_is_told(backbone, material, monkeypatch):
    lost = Probe(torch.full((4, 3), torch.nan), torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))
    monkeypatch.setattr(trainer, "look_over", lambda *_: lost)
    with pytest.raises(FloatingPointError, match="what is predicted after step 0 is not finite"):
        train(backbone, CLASSES, material, PLAIN)


def test_a_first_score_of_any_size_is_the_best_so_far(backbone, material, monkeypatch):
    confident = Probe(torch.tensor([[0.0, 500.0]] * 4), torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))
    monkeypatch.setattr(trainer, "look_over", lambda *_: confident)
    run, best = trained_with(backbone, material)
    assert best == [(0, confident.score)]
    assert confident.score < -1
    assert run.kept_step == 3


def test_a_training_without_a_certain_gain_on_the_probe_set_leaves_the_frozen_model(backbone, material):
    run = train(backbone, CLASSES, material, changed(steps=2, certain=1e6))
    assert run.kept_step == 0
    clouds = list(material.probe.points.numpy())
    config = ClassifierConfig(points=64)
    kept = Classifier(backbone, CLASSES, config, Adapter(run.network.merged(), CLASSES, backbone.temperature, 1))
    frozen = Classifier(backbone, CLASSES, config)
    one, other = (c.project(clouds, (0, 1, 0), material.probe.sensors()) for c in (kept, frozen))
    torch.testing.assert_close(kept.logits(one, kept.encode(one)), frozen.logits(other, frozen.encode(other)))


def test_a_training_with_a_certain_gain_is_kept(backbone, material, monkeypatch):
    monkeypatch.setattr(trainer, "gain", lambda before, after: (0.2, 0.1))
    assert train(backbone, CLASSES, material, changed(PLAIN, certain=1.9)).kept_step == PLAIN.training.steps
    assert train(backbone, CLASSES, material, changed(PLAIN, certain=2.1)).kept_step == 0
