"""Captions say the class and only what is true of the object."""

import numpy as np
import pytest

from clipoint3d_ros.clip.descriptions import load_descriptions
from clipoint3d_ros.pretraining.captions import class_caption, every_text, object_caption, size_phrase
from clipoint3d_ros.pretraining.config import load_pretrain_config
from clipoint3d_ros.pretraining.training import build_tokenizer
from clipoint3d_ros.resources import config_file

MUG = ("with a handle", "hollow", "lying")


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("classes: {box: [six flat faces], bottle: [a narrow neck]}\n")
    return load_descriptions(path)


def test_a_class_is_called_by_its_name_or_a_synonym(classes):
    rng = np.random.default_rng(0)
    told = [class_caption(classes, 1, rng, {"bottle": ["flask"]}) for _ in range(200)]
    flasks = sum("flask" in t for t in told)
    assert all("bottle" in t or "flask" in t for t in told)
    assert 20 < flasks < 80
    assert any("narrow neck" in t for t in told)
    assert not any("{" in t for t in told)


def test_an_object_is_told_by_true_words_in_varied_wording():
    rng = np.random.default_rng(0)
    told = [object_caption("mug", MUG, "about 9 cm tall", rng, {}) for _ in range(100)]
    assert len(set(told)) > 50
    assert all("lying" in t and "standing" not in t and "about 9 cm tall" in t for t in told)
    nameless = [t for t in told if "mug" not in t]
    assert 2 < len(nameless) < 30
    assert all("object" in t or "thing" in t for t in nameless)
    assert object_caption("mug", ("standing",), "", rng, {})


def test_sizes_are_told_in_metres_and_centimetres():
    rng = np.random.default_rng(0)
    told = {size_phrase(np.array([0.098, 1.24, 0.3]), rng) for _ in range(100)}
    assert all("10 cm" in t or "1.2 m" in t for t in told)
    assert any("tall" in t for t in told)
    assert any("across" in t for t in told)


def test_the_vocabulary_holds_every_word_that_a_caption_can_have(classes):
    config = load_pretrain_config(config_file("pretrain/clipoint3d-tiny.yaml"))
    tokenizer = build_tokenizer(config.model)
    known = set(tokenizer(list(every_text(classes, [MUG], config.synonyms))).unique().tolist())
    rng = np.random.default_rng(1)
    for _ in range(300):
        size = size_phrase(rng.uniform(0.01, 2.5, 3), rng) if rng.random() < 0.5 else ""
        sentences = [
            object_caption("box", MUG, size, rng, config.synonyms),
            class_caption(classes, int(rng.integers(2)), rng, config.synonyms),
        ]
        assert set(tokenizer(sentences).unique().tolist()) <= known, sentences
