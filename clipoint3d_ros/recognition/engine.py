"""The serving engine: a frozen vision tower made ready, and all objects' views through it in as few passes as fit.

    engine = engine_for(backbone, precision)
    features = engine.encode(views, prompts, extents, most)       # depth views → unit features

What `Backbone.encode_views` says, which stays the reference, is computed with less work: one channel instead of three
(`folding`), occupied patches only where the backbone was trained so, with nothing to fill up between them (`packing`),
of the last block only what is pooled, in the number format that suits the device (`precision`), and on a GPU played
back rather than launched step by step (`graphs`). In fp32 all of that is exact but for rounding.
"""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipoint3d_ros.clip.backbone import Backbone, Preprocessing
from clipoint3d_ros.clip.size import size_prompts
from clipoint3d_ros.clip.tower import patch_occupancy
from clipoint3d_ros.recognition.folding import OneChannelStem
from clipoint3d_ros.recognition.graphs import LARGEST, Recordings, to_front
from clipoint3d_ros.recognition.packing import Packing, attend, packing
from clipoint3d_ros.recognition.precision import resolve

VIEWS_IN_CACHE = 20  # of a pass on a CPU: more of them push a block's activations out of its caches

_log = logging.getLogger(__name__)


class ServedTower(nn.Module):
    """A vision tower over packed tokens: of each view [class, its patches, its prompts].

    It shares the modules of the tower it is made from, whose weights it reads and never changes.
    """

    def __init__(self, visual: VisionTransformer, look: Preprocessing) -> None:
        super().__init__()
        self.stem = OneChannelStem(visual.conv1, look)
        self.blocks = visual.transformer.resblocks
        self.ln_pre, self.ln_post = visual.ln_pre, visual.ln_post
        self.class_embedding, self.positional_embedding = visual.class_embedding, visual.positional_embedding
        self.proj = visual.proj
        self.size_token = getattr(visual, "size_token", None)
        self.average = visual.pool_type == "avg"
        self.norm_last = visual.final_ln_after_pool
        self.dtype = torch.float32

    def cast(self, dtype: torch.dtype) -> ServedTower:
        """The same with its blocks in another format; what is small stays in fp32: the stem, the ends, the sizes."""
        if dtype == self.dtype:
            return self
        twin = copy.deepcopy(self)
        twin.blocks.to(dtype)
        twin.dtype = dtype
        return twin

    def forward(
        self, views: Tensor, prompts: Tensor | None, occupancy: Tensor | None, recordings: Recordings | None = None
    ) -> Tensor:
        """Embeddings of views.

        Args:
            views: (M, H, W) float32 in [0, 1].
            prompts: (M, K, W) or None.
            occupancy: (M, P) bool, the patches that take part; None for all.
            recordings: of `through`, to be played instead of computing it step by step, for up to `LARGEST` views.

        Returns:
            (M, D) float32, not normalised.
        """
        sequence, present = self._tokens(views, prompts, occupancy)
        if recordings is None or len(views) > LARGEST:
            rows = sequence.flatten(0, 1) if occupancy is None else sequence[present]
            rows = self.through(rows, packing(present)).float()
        else:
            front, there = to_front(sequence, present)
            rows = recordings(front, there).float()
            rows = rows[:, : there.shape[1]][there] if self.average else rows
        rows = rows if self.norm_last else self.ln_post(rows)
        pooled = self._mean(rows, present) if self.average else rows
        pooled = self.ln_post(pooled) if self.norm_last else pooled
        return pooled if self.proj is None else pooled @ self.proj

    def through(self, rows: Tensor, packed: Packing) -> Tensor:
        """All blocks: packed rows (T, W) → the same, or (M, W) where the class token alone is pooled."""
        rows = self.ln_pre(rows).to(self.dtype)
        for layer in self.blocks[:-1]:
            rows = _block(layer, rows, packed)
        return _block(self.blocks[-1], rows, packed, not self.average)

    def _tokens(self, views: Tensor, prompts: Tensor | None, occupancy: Tensor | None) -> tuple[Tensor, Tensor]:
        """(M, S, W) class, patches and prompts of every view, and (M, S) bool, which of them take part."""
        patches = self.stem(views)
        count, grid, _ = patches.shape
        position = self.positional_embedding
        parts = [(self.class_embedding + position[0]).expand(count, 1, -1), patches + position[1:]]
        sequence = torch.cat(parts if prompts is None else [*parts, prompts.to(patches.dtype)], 1)
        present = torch.ones(sequence.shape[:2], dtype=torch.bool, device=views.device)
        if occupancy is not None:
            present[:, 1 : 1 + grid] = occupancy
        return sequence, present

    def _mean(self, rows: Tensor, present: Tensor) -> Tensor:
        """(M, W) of each view's patches, from the rows (T, W) of all tokens that are present (M, S)."""
        view, place = present.nonzero(as_tuple=True)
        patch = (place > 0) & (place < len(self.positional_embedding))
        rows, view = rows[patch], view[patch]
        total = rows.new_zeros(len(present), rows.shape[1]).index_add_(0, view, rows)
        return total / torch.bincount(view, minlength=len(present))[:, None].clamp_min(1)


class Engine:
    """A tower on its device, and what it has learnt of the device's memory.

    Args:
        tower: in fp32, on the device that serves.
        look: the preprocessing that its weights expect.
        dtype: what its blocks run in.
        graphs: whether they are recorded by size of pass and played back (`graphs`).
    """

    def __init__(self, tower: ServedTower, look: Preprocessing, dtype: torch.dtype, graphs: bool = False) -> None:
        self._tower, self._look = tower.cast(dtype), look
        self._recordings = Recordings(self._tower.through) if graphs else None
        self._patch = round((look.size**2 / (tower.positional_embedding.shape[0] - 1)) ** 0.5)
        self._fits: int | None = None  # views of a pass, once the device has refused more
        self._on_cpu: ServedTower | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What the blocks run in."""
        return self._tower.dtype

    @torch.inference_mode()
    def encode(self, views: Tensor, prompts: Tensor | None, extents: Tensor | None, most: int) -> Tensor:
        """Unit embeddings of depth views, as `Backbone.encode_views` gives them.

        Args:
            views: (M, H, W) in [0, 1], 1 background.
            prompts: (M, K, W) visual prompts, or None.
            extents: (M, 3) metres, or None; as in `Backbone.encode_views`.
            most: views of a pass; a pass the device has no memory for is halved and tried again, at last on the CPU.

        Returns:
            (M, D) float32, rows of length 1.
        """
        size = self._look.size
        if views.shape[1:] != (size, size):
            views = F.interpolate(views[:, None], (size, size), mode="bilinear", align_corners=True)[:, 0]
        sizes = size_prompts(self._tower, extents, len(views))
        if sizes is not None:
            prompts = sizes if prompts is None else torch.cat([sizes, prompts.to(sizes.dtype)], 1)
        occupancy, order = None, torch.arange(len(views), device=views.device)
        if self._look.drop_empty:
            occupancy = patch_occupancy(views, self._patch)
            order = occupancy.sum(1).argsort(stable=True)  # views of one pass are of about one length
        most = min(most, VIEWS_IN_CACHE) if views.device.type == "cpu" else most
        found = views.new_empty(len(views), self._width)
        start = 0
        while start < len(views):
            rows = order[start : start + min(most, self._fits or most)]
            part = [None if each is None else each[rows] for each in (views, prompts, occupancy)]
            try:
                found[rows] = self._pass(*part)
            except torch.OutOfMemoryError:
                self._retreat(len(rows), views.device)
                continue
            start += len(rows)
        return F.normalize(found, dim=-1)

    @property
    def _width(self) -> int:
        tower = self._tower
        return tower.ln_post.weight.shape[0] if tower.proj is None else tower.proj.shape[1]

    def _pass(self, views: Any, prompts: Tensor | None, occupancy: Tensor | None) -> Tensor:
        if self._on_cpu is None:
            return self._tower(views, prompts, occupancy, self._recordings)
        moved = [None if each is None else each.cpu() for each in (views, prompts, occupancy)]
        return self._on_cpu(*moved).to(views.device)

    def _retreat(self, tried: int, device: torch.device) -> None:
        """Halve the passes from now on, or leave the device; each step is taken, and told, once."""
        if self._on_cpu is not None:
            raise MemoryError(
                "there is no memory for one view, neither on the device nor on the CPU; name a smaller CLIP"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if tried > 1:
            self._fits = tried // 2
            _log.warning("%s has no memory for %d views at once; going on with %d", device, tried, self._fits)
            return
        _log.warning("%s has no memory for one view; going on on the CPU", device)
        self._recordings = None
        self._on_cpu, self._fits = copy.deepcopy(self._tower).cpu().cast(torch.float32), None


def engine_for(backbone: Backbone, precision: str = "fp32", graphs: bool = False) -> Engine:
    """The engine of a backbone's vision tower; classifiers that share the tower share it.

    A tower whose weights have changed since, as in training, gets another. Graphs are of CUDA devices alone.
    """
    visual, look = backbone.visual, backbone.preprocessing
    dtype, graphs = resolve(precision, backbone.device), graphs and backbone.device.type == "cuda"
    weights = weights_mark(visual)
    with _making:
        made = _engines.setdefault(visual, {})
        known = made.get((dtype, look, graphs))
        if known is None or known[0] != weights:
            known = made[dtype, look, graphs] = (weights, Engine(ServedTower(visual, look), look, dtype, graphs))
        return known[1]


def weights_mark(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Equal as long as no parameter of a module has been changed in place or replaced."""
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in module.parameters())


_engines: WeakKeyDictionary[nn.Module, dict[tuple, tuple[tuple, Engine]]] = WeakKeyDictionary()
_making = threading.Lock()


def _block(layer: Any, rows: Tensor, packed: Packing, first_only: bool = False) -> Tensor:
    """One block over packed rows (T, W); with `first_only` → (M, W), each view's first token alone."""
    attention = layer.attn
    qkv = F.linear(layer.ln_1(rows), attention.in_proj_weight, attention.in_proj_bias)
    mixed = attend(qkv, packed, attention.num_heads, first_only)
    rows = (rows[packed.starts] if first_only else rows) + layer.ls_1(attention.out_proj(mixed))
    return rows + layer.ls_2(layer.mlp(layer.ln_2(rows)))
