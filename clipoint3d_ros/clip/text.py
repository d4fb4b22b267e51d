"""The text side: sentences as embeddings, and class features, encoded once and cached by content (METHOD 2, T)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions

CONTEXT_WORDS = "the depth map of a"  # what a learned context starts from


def class_features(backbone: Backbone, classes: Descriptions) -> Tensor:
    """One unit vector a class: the mean over its sentences' unit embeddings.

    A sentence is encoded once in the backbone's life, so changing the classes costs only what is new.

    Returns:
        (C, D) float32 on the backbone's device.
    """
    prompts = [classes.prompts(i) for i in range(len(classes.names))]
    features = backbone.encode_sentences([sentence for group in prompts for sentence in group])
    groups = features.split([len(group) for group in prompts])
    return F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)


def encode_tokens(model: CLIP, tokens: Tensor) -> Tensor:
    """Embeddings of tokenised sentences, as open_clip's `encode_text` gives them, over no more tokens than the longest
    sentence has: attention is causal, so what comes after a sentence's end changes nothing.

    Args:
        model: a CLIP whose text is pooled at the end token, the largest id of a sentence.
        tokens: (K, L) int64, zeros after the end.

    Returns:
        (K, D), not normalised.
    """
    end = tokens.argmax(-1)
    return encode_words(model, model.token_embedding(tokens[:, : int(end.max()) + 1]), end)


def encode_words(model: CLIP, words: Tensor, end: Tensor) -> Tensor:
    """Embeddings of sentences given as word vectors, for prompts whose words are learned.

    Args:
        model: as in `encode_tokens`.
        words: (K, L, text width), without positions.
        end: (K,) int64, where each sentence ends.

    Returns:
        (K, D), not normalised.
    """
    length = words.shape[1]
    x = words + model.positional_embedding[:length]
    causal = torch.full((length, length), -torch.inf, device=x.device).triu_(1)
    for layer in model.transformer.resblocks:
        x = tower.block(layer, x, causal)
    pooled = model.ln_final(x)[torch.arange(len(x), device=x.device), end]
    return pooled @ model.text_projection


@dataclass(frozen=True)
class ClassPrompts:
    """Some classes as [start, K context words, name, ".", end], without the learned part of the context.

    names: C.
    frozen: (C, D) unit, what the frozen model says of their descriptions (`class_features`).
    words: (C, L, text width) of the hand-written prompts. end: (C,) int64. context: K, words 1 to K.
    plain: (C, D) unit, the frozen model's embeddings of `words`.
    """

    names: tuple[str, ...]
    frozen: Tensor
    words: Tensor
    end: Tensor
    context: int
    plain: Tensor


@torch.no_grad()
def class_prompts(backbone: Backbone, classes: Descriptions, context: int) -> ClassPrompts:
    """Prompts whose context starts as the last `context` words of `CONTEXT_WORDS`; what is missing in front is zero.

    Raises:
        ValueError: a name does not fit behind its context; the message says which.
    """
    model, device = backbone.model, backbone.device
    most = model.positional_embedding.shape[0]
    given = int(backbone.tokenizer([CONTEXT_WORDS])[0].argmax()) - 1  # words of the context, without start and end
    sentences = [f"{CONTEXT_WORDS} {name}." for name in classes.names]
    words = backbone.tokenizer(sentences, most + given + 1).to(device)  # room enough: the tokenizer cuts in silence
    embedded = model.token_embedding(words)
    end = words.argmax(-1) - given + context
    front = embedded[:, 1 : 1 + given]
    blank = front.new_zeros(len(words), max(context - given, 0), front.shape[2])
    front = torch.cat([blank, front[:, max(given - context, 0) :]], 1)
    joined = torch.cat([embedded[:, :1], front, embedded[:, 1 + given :]], 1)[:, : int(end.max()) + 1]
    if int(end.max()) >= most:
        raise ValueError(
            f"class '{classes.names[int(end.argmax())]}' with {context} context words is longer than the {most} words "
            f"of backbone '{backbone.name}'; shorten the name"
        )
    plain = F.normalize(encode_words(model, joined, end).float(), dim=-1)
    return ClassPrompts(classes.names, class_features(backbone, classes), joined, end, context, plain)
