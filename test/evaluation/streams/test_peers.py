"""Each peer where its idea must work, and where it must do no more than stay finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from streams_made import CLASSES, Toy

from clipoint3d_ros.evaluation.streams.encoding import look_at
from clipoint3d_ros.evaluation.streams.methods import METHODS
from clipoint3d_ros.evaluation.streams.online import Look, Seen, Setting
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig
from clipoint3d_ros.evaluation.streams.peers.rotta import Kept, Memory, Rotta, RottaConfig, distorted
from clipoint3d_ros.evaluation.streams.peers.stata import StatA, StatAConfig
from clipoint3d_ros.evaluation.streams.peers.tda import Tda, TdaConfig
from clipoint3d_ros.evaluation.streams.peers.tent import Tent, TentConfig
from clipoint3d_ros.evaluation.streams.peers.uni_adapter import UniAdapter, UniAdapterConfig
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

QUICK = [m for m in METHODS if ".peers." in m.make.__module__ and not m.gradient and not m.bundle]


def accuracy(online, labels, stream):
    return np.mean([online.answer(seen).argmax() == label for seen, label in zip(stream, labels, strict=True)])


def test_the_toy_is_hard_for_the_words(toy):
    labels, stream = toy.stream()
    assert 0.4 < accuracy(Frozen(toy.setting, FrozenConfig()), labels, stream) < 0.9


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (Tda, TdaConfig(shots=8, alpha=4.0)),
        (StatA, StatAConfig(alpha=10.0, temperature=0.5)),
        (UniAdapter, UniAdapterConfig(threshold=0.9)),
    ],
)
def test_a_method_gains_where_classes_lie_apart_but_off_their_words(make, config):
    toy = Toy()
    labels, stream = toy.stream(400)
    frozen = accuracy(Frozen(toy.setting, FrozenConfig()), labels[200:], stream[200:])
    online = make(toy.setting, config)
    accuracy(online, labels[:200], stream[:200])
    assert accuracy(online, labels[200:], stream[200:]) >= frozen


@pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)
def test_answers_are_probabilities_on_any_stream(method):
    toy = Toy(spread=0.5)
    online = method.make(toy.setting, method.config)
    labels, stream = toy.stream(60)
    zero = Seen(np.zeros_like(stream[0].features), stream[0].weights, 99)
    for seen in [stream[0]] * 5 + [stream[i] for i in np.argsort(labels)] + [zero]:
        answer = online.answer(seen)
        assert answer.shape == (3,)
        assert np.isfinite(answer).all()
        assert answer.sum() == pytest.approx(1, abs=1e-5)
        assert answer.min() >= 0


@pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)
def test_predicting_teaches_nothing(method):
    toy = Toy()
    _, stream = toy.stream(40)
    online = method.make(toy.setting, method.config)
    for seen in stream[:20]:
        online.answer(seen)
    before = online.predict(stream[30])
    for seen in stream[20:]:
        online.predict(seen)
    assert np.array_equal(online.predict(stream[30]), before)


@pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)
def test_before_the_first_object_a_method_is_the_frozen_model(method):
    toy = Toy()
    seen = toy.seen(1)
    frozen = Frozen(toy.setting, FrozenConfig()).predict(seen)
    assert np.allclose(method.make(toy.setting, method.config).predict(seen), frozen, atol=1e-6)


def test_statistics_with_a_heavy_anchor_hardly_move():
    toy = Toy()
    _, stream = toy.stream(100)
    heavy, light = (StatA(toy.setting, StatAConfig(alpha=a, temperature=0.02)) for a in (1e6, 1.0))
    for seen in stream:
        heavy.answer(seen)
        light.answer(seen)
    assert np.allclose(heavy._statistics()[0], toy.text, atol=1e-3)
    assert np.abs(light._statistics()[0] - toy.text).max() > 0.1


def test_statistics_never_move_a_class_nobody_saw():
    toy = Toy(shift=0.0)
    online = StatA(toy.setting, StatAConfig())
    for _ in range(30):
        online.answer(toy.seen(2))
    mean, _ = online._statistics()
    assert np.allclose(mean[0], toy.text[0], atol=1e-6)


def test_caches_hold_no_more_than_their_shots():
    toy = Toy(spread=0.6)
    online = Tda(toy.setting, TdaConfig(shots=2, negative_shots=1))
    for seen in toy.stream(80)[1]:
        online.answer(seen)
    assert max(map(len, online._positive)) == 2
    assert max(map(len, online._negative)) <= 1
    for cache in online._positive:
        assert [kept.uncertain for kept in cache] == sorted(kept.uncertain for kept in cache)


def test_centres_are_bounded_and_those_of_a_class_count_as_one():
    toy = Toy(spread=0.6)
    online = UniAdapter(toy.setting, UniAdapterConfig(centres=3, threshold=0.0))
    for seen in toy.stream(80)[1]:
        online.answer(seen)
    assert np.bincount(online._labels).max() <= 3
    assert set(online._values.sum(0).round(9)) <= {0.0, 1.0}, "centres of a class together count as one"
    assert online._counts.sum() == 80
    assert np.allclose(np.linalg.norm(online._centres, axis=1), 1)


def test_a_doubtful_object_hardly_moves_a_centre_and_smoothing_mends_a_label():
    toy = Toy(shift=0.0, spread=0.02)
    online = UniAdapter(toy.setting, UniAdapterConfig(centres=1, threshold=0.5))
    online.answer(toy.seen(2))
    before = online._centres[0].copy()
    even = np.full((4, 8), 1 / np.sqrt(8), np.float32) + 0.01 * np.eye(8, dtype=np.float32)[2]
    online.answer(Seen(even, np.full(4, 0.25, np.float32), 1))
    assert len(online._centres) == 1
    assert online._centres[0] @ before > 0.9999, "it is as like any other class"
    online = UniAdapter(toy.setting, UniAdapterConfig(smoothing=0.01, threshold=0.9))
    for _ in range(9):
        online.answer(toy.seen(2))
    online._answers[0] = [0.6, 0.0, 0.4]  # one of nine neighbours is called otherwise
    assert online._smoothed()[:, 2].astype(bool).all()


def test_memory_is_balanced_by_class_and_lets_the_old_and_uncertain_go():
    memory = Memory(4, RottaConfig(capacity=8))
    for i in range(40):
        memory.add(Kept(i, torch.ones(1), uncertain=0.5), label=0)
    assert memory.counts() == [2, 0, 0, 0], "no class holds more than its share"
    assert {kept.cloud for kept in memory.kept} & {38, 39}, "newer ones replace older ones"
    for i in range(40, 80):
        memory.add(Kept(i, torch.ones(1), uncertain=0.1), label=i % 4)
    assert memory.counts() == [2, 2, 2, 2]
    memory.add(Kept(99, torch.ones(1), uncertain=50.0), label=1)
    assert 99 not in {kept.cloud for kept in memory.kept}, "an uncertain one does not enter"


def test_distorted_views_stay_views():
    images = torch.rand(4, 32, 32)
    rng = torch.Generator().manual_seed(0)
    made = [distorted(Look(images, torch.ones(3)), rng).images for _ in range(4)]
    assert all(m.shape == images.shape and m.min() >= 0 and m.max() <= 1 for m in made)
    assert not any(torch.equal(m, images) for m in made)


@pytest.fixture(scope="module")
def gradient_setting(small_model_folder, pool):
    classifier = Classifier.load(backbone=f"local-dir:{small_model_folder}", classes=CLASSES.names, device="cpu")
    every = classifier.with_config(ClassifierConfig(selection="all", points=64))

    def look(cloud):
        images, extents = look_at(every, pool, [cloud])
        return Look(images[0], extents[0])

    return Setting(classifier, 0, look), [
        Seen(
            every.encode(every.project([pool.cloud(row)], viewpoint=pool.viewpoint(row)))[0].numpy(),
            np.full(10, 0.1, np.float32),
            int(row),
        )
        for row in pool.clean[:6]
    ]


def test_the_tower_answers_as_the_frozen_model_before_it_learns(gradient_setting):
    setting, stream = gradient_setting
    for make, config in ((Tent, TentConfig()), (Rotta, RottaConfig())):
        frozen = Frozen(setting, FrozenConfig())
        online = make(setting, config)
        assert np.allclose(online.predict(stream[0]), frozen.predict(stream[0]), atol=1e-3)


def test_tent_lowers_the_entropy_of_what_it_sees_and_leaves_the_frozen_model_alone(gradient_setting):
    setting, stream = gradient_setting
    before = {k: v.clone() for k, v in setting.classifier.backbone.model.state_dict().items()}
    online = Tent(setting, TentConfig(learning_rate=0.01))
    first = online.predict(stream[0])
    for _ in range(4):
        online.answer(stream[0])
    last = online.predict(stream[0])
    assert -(last * np.log(last)).sum() < -(first * np.log(first)).sum()
    assert all(torch.equal(v, before[k]) for k, v in setting.classifier.backbone.model.state_dict().items())
    assert not any(p.requires_grad for p in setting.classifier.backbone.model.parameters())


def test_rotta_s_teacher_follows_its_student_only_when_the_time_has_come(gradient_setting):
    setting, stream = gradient_setting
    online = Rotta(setting, RottaConfig(capacity=6, every=4, learning_rate=0.05, follow=0.5))
    first = online.predict(stream[5])
    for seen in stream[:3]:
        online.answer(seen)
    assert np.array_equal(online.predict(stream[5]), first)
    online.answer(stream[3])
    moved = online.predict(stream[5])
    assert not np.array_equal(moved, first)
    assert np.isfinite(moved).all()


def test_a_step_that_is_not_finite_is_left_out(gradient_setting):
    setting, stream = gradient_setting

    def look(cloud):
        seen = setting.look(abs(cloud))
        return Look(seen.images * np.nan, seen.extents) if cloud < 0 else seen

    online = Tent(replace(setting, look=look), TentConfig())
    first = online.predict(stream[0])
    assert not np.isfinite(online.answer(replace(stream[1], cloud=-int(stream[1].cloud)))).all()
    assert np.array_equal(online.predict(stream[0]), first)


def test_a_setting_without_clouds_or_a_bundle_says_so():
    setting = Setting(Toy().setting.classifier)
    with pytest.raises(ValueError, match="has features only"):
        setting.look(3)
    with pytest.raises(ValueError, match="--bundle"):
        setting.adapted(3)
