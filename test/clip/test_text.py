"""Sentences as embeddings."""

import pytest
import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.text import class_features, class_prompts, encode_tokens, encode_words


def test_embeddings_are_open_clips_own_over_fewer_tokens(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    tokens = backbone.tokenizer(["a mug", "a depth map of a tall bottle with a narrow neck and a cap", ""])
    own = backbone.model.encode_text(tokens)
    assert (encode_tokens(backbone.model, tokens) - own).abs().max() < 1e-5
    # A gradient takes the other path through attention.
    backbone.model.requires_grad_(True)
    assert (encode_tokens(backbone.model, tokens) - own).abs().max() < 1e-5


def test_a_class_is_the_mean_of_its_sentences(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    classes = describe(["mug", "box"])
    features = class_features(backbone, classes)
    assert torch.allclose(features.norm(dim=-1), torch.ones(2), atol=1e-5)
    first = torch.nn.functional.normalize(backbone.encode_sentences(classes.prompts(0)).mean(0), dim=-1)
    assert torch.allclose(features[0], first, atol=1e-5)


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def sentences(backbone, texts):
    """The frozen model's unit embeddings of plain sentences."""
    return torch.nn.functional.normalize(encode_tokens(backbone.model, backbone.tokenizer(texts)), dim=-1)


NAMES = ["mug", "remote control", "t-shirt"]


@pytest.mark.parametrize(
    ("context", "sentence"),
    [(0, "{}."), (1, "a {}."), (3, "map of a {}."), (4, "depth map of a {}."), (5, "the depth map of a {}.")],
)
def test_class_prompts_say_a_plain_sentence_before_training(context, sentence, backbone):
    classes = class_prompts(backbone, describe(NAMES), context)
    wanted = sentences(backbone, [sentence.format(name) for name in NAMES])
    assert (classes.plain - wanted).abs().max() < 1e-5, f"a context of {context} does not say '{sentence}'"
    assert (classes.frozen - class_features(backbone, describe(NAMES))).abs().max() < 1e-6
    assert (classes.names, classes.context) == (tuple(NAMES), context)
    stop = backbone.model.token_embedding(backbone.tokenizer([""])[0, 1])
    ends = classes.words[torch.arange(len(NAMES)), classes.end]
    assert torch.equal(ends, stop.expand_as(ends)), "'end' does not point at the end of each sentence"
    assert classes.words.shape[1] == int(classes.end.max()) + 1, "words after the longest sentence's end are carried"


def test_a_context_longer_than_its_words_is_blank_in_front(backbone):
    full, longer = (class_prompts(backbone, describe(NAMES), context) for context in (5, 7))
    assert not longer.words[:, 1:3].any(), "what is missing in front of the context is not zero"
    assert torch.equal(longer.words[:, :1], full.words[:, :1]), "the start has moved"
    for i, name in enumerate(NAMES):
        end = int(full.end[i])
        assert int(longer.end[i]) == end + 2, f"the end of '{name}' has not moved by the two blanks"
        assert torch.equal(longer.words[i, 3 : end + 3], full.words[i, 1 : end + 1]), f"'{name}' reads otherwise"


def test_a_class_prompt_does_not_depend_on_its_neighbours(backbone):
    together = class_prompts(backbone, describe(NAMES), 4)
    for i, name in enumerate(NAMES):
        alone = class_prompts(backbone, describe([name]), 4)
        assert (alone.plain[0] - together.plain[i]).abs().max() < 1e-6, f"'{name}' is another among others"


@pytest.mark.parametrize("context", [0, 4, 7])
def test_a_name_too_long_for_the_model_is_refused_in_words(context, backbone):
    most = 24 - 3 - context  # of 24 words, beside start, full stop and end
    fits, longer = " ".join(["mug"] * most), " ".join(["cup"] * (most + 1))
    classes = class_prompts(backbone, describe([fits]), context)
    assert int(classes.end) == 23, f"a name that just fits is cut: its prompt ends at word {int(classes.end)} of 23"
    letters = " ".join(["international"] * (most // 2))  # the longer name by its letters, but it fits
    with pytest.raises(ValueError, match=f"class '{longer}' with {context} context words is longer than the 24 words"):
        class_prompts(backbone, describe([letters, longer]), context)


def test_a_sentence_is_encoded_once_in_the_backbones_life(small_model_folder, monkeypatch):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    told = []
    real = backbone.model.encode_text
    monkeypatch.setattr(backbone.model, "encode_text", lambda tokens: told.append(len(tokens)) or real(tokens))
    class_prompts(backbone, describe(["mug", "box"]), 4)
    class_prompts(backbone, describe(["box", "mug", "tin"]), 4)
    each = len(describe(["mug"]).prompts(0))
    assert told == [2 * each, each], f"batches of {told} sentences were encoded; two classes are to come once, then one"


def test_a_gradient_on_words_reaches_them_and_not_what_comes_after_the_end(backbone):
    classes = class_prompts(backbone, describe(NAMES), 4)
    words = classes.words.clone().requires_grad_(True)
    said = encode_words(backbone.model, words, classes.end)
    (said * torch.randn(said.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for i, name in enumerate(NAMES):
        end = int(classes.end[i])
        assert words.grad[i, : end + 1].abs().amax(-1).min() > 0, f"a word of '{name}' has no say"
        assert not words.grad[i, end + 1 :].any(), f"what comes after '{name}' ends has a say"
