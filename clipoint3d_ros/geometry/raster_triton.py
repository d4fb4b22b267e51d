"""`raster`'s scatter, pooling and blur as Triton kernels, for CUDA: four launches, whatever the number of views.

The torch path shifts whole stretches of memory ten times; here each cell is read where it lies, and the blur takes the
maximum over the layers as it goes, so that memory is crossed four times. Same flat tiles, same values.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from clipoint3d_ros.geometry.raster import Cells, Tile, clear_outside

_BLOCK = 1024  # cells of a program


def drawn(cells: Cells, tile: Tile) -> Tensor:
    """(M, side, side): the tiles of M views pooled and blurred, the greatest of their layers; see `raster.drawn`."""
    views, points = cells.value.shape
    layers, area = tile.layers[1] - tile.layers[0] + 1, tile.side**2
    count = views * layers * area
    line = torch.zeros(count + tile.lead + tile.reach, device=cells.value.device)
    other = torch.zeros_like(line)
    # Depths are above 0, and the bits of such floats are in the floats' order.
    bits = cells.value.contiguous().view(torch.int32)
    _scatter[(triton.cdiv(views * points, _BLOCK),)](
        line.view(torch.int32), cells.place.contiguous(), cells.layer.contiguous(), bits,
        views * points, points, layers, area, tile.lead, BLOCK=_BLOCK,
    )  # fmt: skip
    for step in (tile.side, 1):
        kept = len(line) - (tile.pool - 1) * step
        _pool[(triton.cdiv(kept, _BLOCK),)](line, other, kept, step, POOL=tile.pool, BLOCK=_BLOCK)
        line, other = other, line
    clear_outside(line, count, tile)
    out = torch.empty(views, tile.side, tile.side, device=line.device)
    ratios = torch.tensor([*tile.ratios[::-1], 1.0, *tile.ratios], device=line.device)
    _blur_nearest[(triton.cdiv(area, _BLOCK), views)](
        line, out, ratios, layers, area, tile.side, SIZE=2 * len(tile.ratios) + 1, BLOCK=_BLOCK
    )
    return out


@triton.jit
def _scatter(line, place, layer, value, total, points, layers, area, lead, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Each point's value to its cell, the greatest where points meet."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = at < total
    slab = at // points * layers + tl.load(layer + at, mask=real, other=0)
    cell = slab * area + tl.load(place + at, mask=real, other=0) + lead
    tl.atomic_max(line + cell, tl.load(value + at, mask=real, other=0), mask=real)


@triton.jit
def _pool(line, out, total, step, POOL: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Maximum of POOL values `step` apart, from each on."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = at < total
    greatest = tl.load(line + at, mask=real, other=0.0)
    for k in tl.static_range(1, POOL):
        greatest = tl.maximum(greatest, tl.load(line + at + k * step, mask=real, other=0.0))
    tl.store(out + at, greatest, mask=real)


@triton.jit
def _blur_nearest(line, out, ratios, layers, area, side, SIZE: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The weighted sum of SIZE × SIZE neighbours of each cell, and of these the greatest of a view's layers."""
    view = tl.program_id(1).to(tl.int64)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = cell < area
    greatest = tl.zeros([BLOCK], tl.float32)
    for layer in range(layers):
        first = line + (view * layers + layer) * area + cell
        total = tl.zeros([BLOCK], tl.float32)
        for row in tl.static_range(SIZE):
            along = tl.zeros([BLOCK], tl.float32)
            for column in tl.static_range(SIZE):
                value = tl.load(first + row * side + column, mask=real, other=0.0)
                along += tl.load(ratios + column) * value
            total += tl.load(ratios + row) * along
        greatest = tl.maximum(greatest, total)
    tl.store(out + view * area + cell, greatest, mask=real)
