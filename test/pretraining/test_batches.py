"""What a training step learns from: drawn from (seed, step) alone, in the configured shares."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from corpora import corpus_of
from small_model import SMALL

from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.pretraining.batches import Material, Sampler, batches
from clipoint3d_ros.pretraining.captions import every_text
from clipoint3d_ros.pretraining.config import CorpusConfig, PretrainConfig, TrainingConfig
from clipoint3d_ros.pretraining.distributed import Peers
from clipoint3d_ros.pretraining.training import build_tokenizer

CLASSES = ("box", "can", "mug", "sofa")
CONFIG = PretrainConfig("a", CorpusConfig(frequent=("can",)), SMALL, TrainingConfig(objects=12, views=3, captions=8))


def material(peers=Peers()):  # noqa: B008 (frozen)
    corpus = corpus_of(CLASSES, each=6)
    classes = describe(CLASSES)
    tokenizer = build_tokenizer(SMALL)
    vocabulary = tokenizer(list(every_text(classes, corpus.words, {}))).unique()
    rows = torch.full((int(vocabulary.max()) + 1,), -1).scatter_(0, vocabulary, torch.arange(len(vocabulary)))
    return Material(CONFIG, corpus, classes, tokenizer, rows, Sampler(corpus, CONFIG), peers)


def test_batches_depend_on_their_step_only_and_may_be_made_ahead():
    made = list(batches(material(), 3, 13, ahead=False))
    ahead = list(batches(material(), 3, 13, ahead=True))
    interrupted = [*batches(material(), 3, 8, ahead=False), *batches(material(), 8, 13, ahead=False)]
    for other in (ahead, interrupted):
        for a, b in zip(made, other, strict=True):
            assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("points", "chosen", "tokens"))
            assert a.facts == b.facts
            assert torch.equal(a.rng.get_state(), b.rng.get_state())
    assert not torch.equal(made[0].points, made[1].points)


def test_a_batch_holds_what_a_step_needs():
    batch = next(batches(material(), 0, 1, ahead=False))
    assert batch.points.shape == (12, 1024, 3)
    assert batch.points.norm(dim=-1).max() == pytest.approx(1, abs=1e-5)
    assert batch.chosen.shape == (12, 3)
    assert batch.sizes.shape == (12, 3)
    assert len(batch.facts) == 8
    assert batch.tokens.shape[0] == 4 + 8, "a caption of every class, and of the first objects"
    assert (batch.tokens >= 0).all(), "every word has a row"


def test_processes_share_the_objects_and_draw_different_ones():
    first, second = (next(batches(material(Peers(rank, 2)), 0, 1, False)) for rank in (0, 1))
    assert len(first.labels) == len(second.labels) == 6
    assert not torch.equal(first.points, second.points)


def test_frequent_classes_are_drawn_more_often_and_complete_clouds_in_their_share():
    corpus = corpus_of(CLASSES, each=6)
    settings = replace(CONFIG.training, frequent_share=0.5, complete_share=0.25)
    sampler = Sampler(corpus, replace(CONFIG, training=settings))
    rng = np.random.default_rng(0)
    rows = np.concatenate([sampler.draw(40, rng) for _ in range(50)])
    share = np.bincount(corpus.labels[rows], minlength=4) / len(rows)
    assert share[1] == pytest.approx(0.5 + 0.5 / 4, abs=0.02)
    assert share[[0, 2, 3]] == pytest.approx(0.5 / 4, abs=0.02)
    assert (~corpus.camera[rows]).mean() == pytest.approx(0.25, abs=0.03)
