"""Names a model was not trained on."""

from dataclasses import replace

import pytest
import torch
from corpora import corpus_of

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe, load_descriptions
from clipoint3d_ros.evaluation.open_vocabulary import read_synonyms, saw_word, synonyms, unseen_classes
from clipoint3d_ros.pretraining.config import load_pretrain_config
from clipoint3d_ros.pretraining.tower_pass import look
from clipoint3d_ros.resources import config_file

TRAINED = ("box", "can", "mug")


@pytest.fixture
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def test_a_word_was_seen_where_every_token_has_a_row(backbone):
    table = backbone.model.token_embedding.weight
    with torch.no_grad():
        table[backbone.tokenizer.encode("computer")] = 0
    assert saw_word(backbone, "notebook")
    assert not saw_word(backbone, "computer")
    assert not saw_word(backbone, "notebook computer"), "one strange token is enough"


def test_a_synonym_of_the_same_embedding_changes_nothing(backbone):
    table = backbone.model.token_embedding.weight
    with torch.no_grad():
        table[backbone.tokenizer.encode("cup")] = table[backbone.tokenizer.encode("mug")]
        table[backbone.tokenizer.encode("flask")] = 0
    corpus = corpus_of(TRAINED, each=4)
    found = synonyms(look(backbone, corpus, ~corpus.camera), {"mug": "cup", "can": "flask"})
    mug, can = found["words"]["mug"], found["words"]["can"]
    assert mug["by_name"] == mug["by_synonym"]
    assert (mug["synonym"], mug["n"], mug["seen"], can["seen"]) == ("cup", 4, True, False)
    assert found["by_seen_synonym"] == mug["by_synonym"]
    assert found["by_unseen_synonym"] == can["by_synonym"]
    assert found["by_synonym"] == pytest.approx((mug["by_synonym"] + can["by_synonym"]) / 2)


def test_unseen_classes_are_told_apart_three_ways(backbone):
    corpus = corpus_of(("ladle", "wrench", "egg", "tray"), each=3)
    unseen = replace(describe(corpus.classes), descriptions=(("a long handle",), (), (), ()))
    found = unseen_classes(look(backbone, corpus, ~corpus.camera), unseen, describe(TRAINED))
    assert (found["n"], found["chance"]) == (12, 1 / 4)
    assert found["by_name"]["n"] == 12
    assert found["among_trained"]["macro_accuracy"] <= found["by_description"]["macro_accuracy"], (
        "more names to choose from never help"
    )
    low, high = found["by_name"]["macro_accuracy_interval"]
    assert 0 <= low <= found["by_name"]["macro_accuracy"] <= high <= 1


def test_the_shipped_synonyms_are_of_trained_classes_and_no_training_is_given_them():
    names = load_descriptions(config_file("classes/household.yaml")).names
    others = read_synonyms(config_file("classes/synonyms.yaml"), names)
    assert len(others) >= 10
    trained = load_pretrain_config(config_file("pretrain/clipoint3d-tiny.yaml")).synonyms
    assert trained["mug"], "there are some"
    assert not set(others.values()) & {word for words in trained.values() for word in words}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[cup]", "must map class names"),
        ("mug: [cup]", "must map class names"),
        ("camel: dromedary", "synonyms of camel; the classes are box, can, mug"),
        ("mug: can", "calls can a synonym, but it is a class itself"),
    ],
)
def test_a_wrong_synonym_file_is_refused_in_words(tmp_path, text, says):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_synonyms(tmp_path / "s.yaml", TRAINED)
