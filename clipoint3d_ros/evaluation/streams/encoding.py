"""A pool through a model once: the features of all ten views of every look, from which all methods and view policies
follow. Kept on disk in pieces, so a killed run goes on and a second one starts at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.evaluation.streams.pools import Pool
from clipoint3d_ros.pretraining.config import fingerprint
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.selection import keep_certain

FORMAT = 1  # of the pieces on disk
BATCH = 32  # objects of one pass, all their views together
PIECE = 512  # objects of one file
POLICIES = ("entropy", "sensor")


@dataclass(frozen=True, eq=False)
class Encoded:
    """A pool's R rows as a model sees them.

    features: (R, V, D) float32 unit view features, all V = 10 views.
    facing: (R, V) float32 weights of the views that face the sensor, rows summing to 1; even where there was none.
    points: (R,) int64, of each cloud.
    labels: (R,) int64, `NO_LABEL` where of none of the classes. scenes: (R,) int64.
    sensor: whether there was a sensor to face.
    """

    features: Tensor
    facing: Tensor
    points: np.ndarray
    labels: np.ndarray
    scenes: np.ndarray
    sensor: bool

    def __len__(self) -> int:
        return len(self.features)


class _Piece(NamedTuple):
    """What is kept on disk of some rows."""

    features: np.ndarray
    facing: np.ndarray
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class Pooled:
    """What a model says of R rows under one choice of views.

    weights: (R, V) float32, how much each view counts; rows sum to 1.
    logits: (R, C) float32, the views' weighted mean.
    familiarity: (R,) float32 in [0, 1]: of any of the classes at all.
    """

    weights: np.ndarray
    logits: np.ndarray
    familiarity: np.ndarray


@torch.inference_mode()
def pool_views(classifier: Classifier, encoded: Encoded, policy: str) -> Pooled:
    """Choose among the views as the classifier would: by `entropy` among all ten, or those that face the `sensor`.

    Where no sensor stood, entropy chooses in either case.

    Raises:
        ValueError: another policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"view policy '{policy}' is none of {', '.join(POLICIES)}")
    weights, logits, familiar = [], [], []
    for rows in torch.arange(len(encoded)).split(1024):
        seen = encoded.features[rows].to(classifier.device)
        each = classifier.view_logits(seen)
        chosen = encoded.facing[rows].to(each)
        if policy == "entropy" or not encoded.sensor:
            chosen = keep_certain(each, torch.full_like(chosen, 1 / chosen.shape[1]))
        pooled = (each * chosen[..., None]).sum(1)
        weights.append(chosen.cpu())
        logits.append(pooled.cpu())
        familiar.append(classifier.familiarity(pooled, seen, chosen).cpu())
    return Pooled(torch.cat(weights).numpy(), torch.cat(logits).numpy(), torch.cat(familiar).numpy())


def encode(classifier: Classifier, pool: Pool, cache: Path, progress: bool = True) -> Encoded:
    """Every row of a pool, from disk as far as it is there.

    Args:
        classifier: its backbone, and its adapter where it has one, see the views; its classes do not matter.
        pool: what is seen.
        cache: a folder for the pieces.
        progress: show a bar.
    """
    from tqdm import tqdm

    every = classifier.with_config(ClassifierConfig(selection="all"))
    facing = classifier.with_config(ClassifierConfig(selection="sensor"))
    folder = cache / f"encoded-{fingerprint(FORMAT, model_checksum(classifier), pool.digest)}"
    parts: list[dict[str, np.ndarray]] = []
    with tqdm(total=len(pool), desc=f"encoding {pool.name}", unit="object", disable=not progress) as bar:
        for start in range(0, len(pool), PIECE):
            rows = range(start, min(start + PIECE, len(pool)))
            path = folder / f"{start:06d}.npz"
            if not path.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                beside = path.with_suffix(f".{os.getpid()}.part.npz")
                made = _piece(every, facing, pool, rows, bar.update)
                np.savez(beside, features=made.features, facing=made.facing, points=made.points)
                beside.replace(path)
            with np.load(path, allow_pickle=False) as stored:
                parts.append({key: stored[key] for key in stored.files})
            bar.update(rows.stop - bar.n)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Encoded(
        torch.from_numpy(joined["features"]),
        torch.from_numpy(joined["facing"]),
        joined["points"],
        pool.labels,
        pool.scenes,
        pool.objects.viewpoints is not None,
    )


@torch.inference_mode()
def look_at(classifier: Classifier, pool: Pool, rows: range | list[int]) -> tuple[Tensor, Tensor]:
    """All ten views of some rows: images (B, V, H, W) and extents (B, 3) metres, as `Backbone.encode_views` takes them.

    Args:
        classifier: one that selects all views.
    """
    projection = classifier.project([pool.cloud(row) for row in rows], pool.objects.up, _eyes(pool, rows))
    if not pool.objects.metric:
        projection = projection.without_sizes()
    return projection.images, projection.extents


def model_checksum(classifier: Classifier) -> str:
    """Of what makes the view features: the backbone's weights, and the adapter's where there is one."""
    told = hashlib.sha256(classifier.backbone.checksum.encode())
    if classifier.adapter is not None:
        network = classifier.adapter.network
        told.update(repr(network.config).encode())
        for name, value in sorted(network.state_dict().items()):
            told.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return told.hexdigest()


def _eyes(pool: Pool, rows: range | list[int]) -> np.ndarray | None:
    return None if pool.objects.viewpoints is None else pool.objects.viewpoints[pool.base[list(rows)]]


@torch.inference_mode()
def _piece(every: Classifier, facing: Classifier, pool: Pool, rows: range, told: Callable[[int], object]) -> _Piece:
    features, weights, points = [], [], []
    for start in range(rows.start, rows.stop, BATCH):
        part = range(start, min(start + BATCH, rows.stop))
        clouds = [pool.cloud(row) for row in part]
        projection = every.project(clouds, pool.objects.up, _eyes(pool, part))
        if not pool.objects.metric:
            projection = projection.without_sizes()
        features.append(every.encode(projection).float().cpu().numpy())
        weights.append(facing.view_weights(clouds, pool.objects.up, _eyes(pool, part)).numpy())
        points += [len(cloud) for cloud in clouds]
        told(len(part))
    return _Piece(np.concatenate(features), np.concatenate(weights).astype(np.float32), np.array(points, np.int64))
