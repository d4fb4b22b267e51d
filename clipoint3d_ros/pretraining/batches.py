"""What the steps of a training learn from: clouds, views and captions, drawn from (seed, step) alone.

So what a step sees does not depend on when the run was interrupted, nor on how far ahead its batch was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.geometry.augment import augment
from clipoint3d_ros.geometry.clouds import extents, normalise
from clipoint3d_ros.geometry.views import choose_views
from clipoint3d_ros.pretraining.captions import class_caption, object_caption, size_phrase
from clipoint3d_ros.pretraining.config import PretrainConfig
from clipoint3d_ros.pretraining.corpus import Corpus
from clipoint3d_ros.pretraining.distributed import Peers

POINTS = 1024
AHEAD = 6  # batches made ahead for a GPU


@dataclass(frozen=True)
class Material:
    """What batches are made of.

    rows: of the models' token table by token id; −1 where it has none.
    """

    config: PretrainConfig
    corpus: Corpus
    classes: Descriptions
    tokenizer: Any
    rows: Tensor
    sampler: Sampler
    peers: Peers = field(default_factory=Peers)


@dataclass(frozen=True)
class Batch:
    """What one step learns from, on the CPU: B clouds, which V views of each, extents, labels; and captions: of every
    class, then of the first objects, as many as there are `facts`.

    rng: has drawn all of these, and goes on with the patches.
    """

    points: Tensor
    chosen: Tensor
    sizes: Tensor
    labels: Tensor
    facts: list[Facts]
    tokens: Tensor
    rng: torch.Generator


def batches(material: Material, start: int, stop: int, ahead: bool) -> Iterator[Batch]:
    """The batches of steps `start` to `stop`; `ahead` lets threads make some while a GPU computes, the same ones."""
    if not ahead:
        yield from (_batch(material, step) for step in range(start, stop))
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Batch]] = deque()
        for step in range(start, stop):
            waiting.append(pool.submit(_batch, material, step))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batch(material: Material, step: int) -> Batch:
    """Everything is drawn from (seed, step) and, beside the first process, its rank."""
    config, corpus, classes, peers = material.config, material.corpus, material.classes, material.peers
    settings = config.training
    numbers = np.random.default_rng((settings.seed, step) if peers.first else (settings.seed, step, peers.rank))
    rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step + peers.rank * 500_000_003)
    count = settings.objects // peers.count
    rows = material.sampler.draw(count, numbers)
    camera = torch.from_numpy(corpus.camera[rows])
    points = augment(torch.from_numpy(corpus.points[rows]), camera, POINTS, rng, settings.cut_share)
    sizes = extents(points)
    sizes[torch.rand(count, generator=rng) < settings.unknown_size] = torch.nan
    elevation = torch.from_numpy(corpus.elevation[rows])
    chosen = choose_views(camera, elevation, settings.views, settings.rear_views, rng)
    facts = [_facts(corpus, r, numbers) for r in rows[: settings.captions // peers.count]]
    told = [object_caption(corpus.classes[f.label], f.words, f.size, numbers, config.synonyms) for f in facts]
    named = [class_caption(classes, i, numbers, config.synonyms) for i in range(len(classes.names))]
    tokens = material.rows[material.tokenizer(named + told)]
    return Batch(normalise(points), chosen, sizes, torch.from_numpy(corpus.labels[rows]), facts, tokens, rng)


class Facts(NamedTuple):
    """What a caption tells of an object: its class, its words, and its size in words, or nothing of that."""

    label: int
    words: tuple[str, ...]
    size: str


def _facts(corpus: Corpus, row: int, rng: np.random.Generator) -> Facts:
    size = size_phrase(corpus.dimensions[row], rng) if rng.random() < 0.4 else ""
    return Facts(int(corpus.labels[row]), corpus.words[row], size)


class Sampler:
    """Draws objects: frequent classes and all classes evenly, complete and camera clouds in the configured share."""

    def __init__(self, corpus: Corpus, config: PretrainConfig) -> None:
        self.corpus = corpus
        self.share = config.training.complete_share
        self.frequent_share = config.training.frequent_share
        count = len(corpus.classes)
        foreign = [c for c in config.corpus.frequent if c not in corpus.classes]
        if foreign:
            raise ValueError(
                f"frequent classes {', '.join(foreign)} are none of the classes {', '.join(corpus.classes)}"
            )
        self.frequent = [corpus.classes.index(c) for c in config.corpus.frequent]
        self.pools = [
            {seen: np.flatnonzero((corpus.labels == c) & (corpus.camera == seen)) for seen in (False, True)}
            for c in range(count)
        ]
        bare = [c for c, pool in zip(corpus.classes, self.pools, strict=True) if not sum(map(len, pool.values()))]
        if bare:
            raise ValueError(f"the corpus has no cloud of {', '.join(bare)}; generate more scenes or complete clouds")

    def draw(self, objects: int, rng: np.random.Generator) -> np.ndarray:
        chosen = []
        often = round(objects * self.frequent_share) if self.frequent else 0
        frequent = rng.permutation(self.frequent).tolist()
        every = rng.permutation(len(self.pools)).tolist()
        labels = [frequent[i % len(frequent)] for i in range(often)] + [
            every[i % len(every)] for i in range(objects - often)
        ]
        for label in labels:
            pool = self.pools[label]
            seen = rng.random() >= self.share
            rows = pool[seen] if len(pool[seen]) else pool[not seen]
            chosen.append(rows[int(rng.integers(len(rows)))])
        return rng.permutation(chosen)
