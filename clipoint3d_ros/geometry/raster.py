"""The projection's kernel: turned points on a grid, each grown to a square, blurred, the nearest kept (METHOD 1.4–1.5).

Three things make it quick, and none of them changes a value beyond float32's rounding:

- Only the `Tile` of the grid that a point can reach is ever made, with so many empty cells around it that a shift along
  the flat memory never carries a value from one row, layer or view into another. Every pass is then one sum or maximum
  of two shifted stretches of memory, and none copies to pad.
- Only layers between a view's nearest and farthest point are made; a shallow view has two of six.
- Both kernels are separable, and the blur's weights need not sum to one, for an image is divided by its maximum.

On CUDA the same cells go through `raster_triton`, where Triton is installed; torch's path stays the reference.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

_CACHED_CELLS = 180_000  # of a pass on a CPU: two float32 buffers of them stay in its second-level cache
_HELD_CELLS = 1 << 27  # of a pass elsewhere: two buffers of 0.5 GB


class Tile(NamedTuple):
    """The square of grid cells that points can reach, grown by what pooling and blur add.

    first, last: grid cells, the first and last that a point falls into.
    layers: (first, last) layer likewise.
    pool, padding: cells, the pooling window and how far it reaches ahead of its centre's cell.
    ratios: of the blur's weights to the one in its middle, from the middle outwards.
    image: cells, side of the whole image.
    """

    first: int
    last: int
    layers: tuple[int, int]
    pool: int
    padding: int
    ratios: tuple[float, ...]
    image: int

    @property
    def origin(self) -> int:
        """The grid cell, and so the image's pixel, that the tile begins with."""
        return self.first - (self.pool - 1 - self.padding) - len(self.ratios)

    @property
    def side(self) -> int:
        return self.last - self.first + self.pool + 2 * len(self.ratios)

    @property
    def lead(self) -> int:
        """Cells of flat memory between a cell and the stretch that its pooling and blur begin with."""
        return (self.padding + len(self.ratios)) * (self.side + 1)

    @property
    def reach(self) -> int:
        """Cells of flat memory that all passes together shift by."""
        return (self.pool - 1 + 2 * len(self.ratios)) * (self.side + 1)


class Cells(NamedTuple):
    """Where the points of M views fall.

    place: (M, N) int64, the cell within a tile, row by row (row along the view's x, column along its y).
    layer: (M, N) int64, from the tile's first layer on.
    value: (M, N) float32, the depth that is kept where points meet: the greatest.
    """

    place: Tensor
    layer: Tensor
    value: Tensor


@torch.no_grad()
def render(cells: Cells, tile: Tile) -> Tensor:
    """Depth images of views.

    Args:
        cells: of M views, on their device.
        tile: of the grid they belong to.

    Returns:
        (M, S, S) float32 in [0, 1], S the whole image's side: 1 background, darker is nearer.
    """
    if cells.value.device.type == "cuda" and _triton_serves(cells.value.device):
        return render_triton(cells, tile)
    return render_torch(cells, tile)


@torch.no_grad()
def render_torch(cells: Cells, tile: Tile) -> Tensor:
    """`render` in torch alone, on any device: what the other kernel is held to."""
    near, far = cells.layer.aminmax(dim=1)
    occupied = far - near + 1
    order = occupied.argsort(descending=True)
    image, inner = _blank(len(order), tile, cells.value.device)
    room = _CACHED_CELLS if image.device.type == "cpu" else _HELD_CELLS
    buffers: list[Tensor] = []
    for start, stop, layers in _passes(occupied[order].tolist(), room // tile.side**2):
        rows = order[start:stop]
        part = Cells(cells.place[rows], cells.layer[rows] - near[rows, None], cells.value[rows])
        inner.index_copy_(0, rows, _darkened(_drawn(part, layers, tile, buffers), tile))
    return image


@torch.no_grad()
def render_triton(cells: Cells, tile: Tile) -> Tensor:
    """`render` through Triton's kernels. Nothing waits for the device: every view gets all the layers there can be."""
    from clipoint3d_ros.geometry import raster_triton

    image, inner = _blank(len(cells.value), tile, cells.value.device)
    room = max(1, _HELD_CELLS // (tile.side**2 * (tile.layers[1] - tile.layers[0] + 1)))
    for start in range(0, len(image), room):
        part = Cells(*(each[start : start + room] for each in cells))
        inner[start : start + room] = _darkened(raster_triton.drawn(part, tile), tile)
    return image


def _blank(views: int, tile: Tile, device: torch.device) -> tuple[Tensor, Tensor]:
    """White images (M, S, S), and the part of them (M, s, s) that the tile covers."""
    image = torch.ones(views, tile.image, tile.image, device=device)
    start, stop = max(tile.origin, 0), min(tile.origin + tile.side, tile.image)
    return image, image[:, start:stop, start:stop]


def _darkened(depths: Tensor, tile: Tile) -> Tensor:
    """(M, side, side) blurred depths, changed in place → the part of the image (M, s, s) that they cover, near dark."""
    start, stop = max(-tile.origin, 0), min(tile.side, tile.image - tile.origin)
    inner = depths[:, start:stop, start:stop]
    return inner.div_(-inner.amax((1, 2), keepdim=True)).add_(1)


@functools.cache
def _triton_serves(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device and agree there; tried once, on one small view."""
    tile = tile_of(8, 0.8, (1, 2), 3, 1, (0.3, 0.4, 0.3))
    place = torch.arange(4, device=device)[None] * (tile.side + 1) + tile.lead
    cells = Cells(place, place % 2, place.float() / tile.lead)
    try:
        return torch.allclose(render_triton(cells, tile), render_torch(cells, tile), atol=1e-5)
    except Exception as error:  # Triton is absent, or has no compiler for its launcher, or does not know the device
        _log.info("depth views on %s are rendered without Triton (%s: %s)", device, type(error).__name__, error)
        return False


def _passes(occupied: list[int], slabs: int) -> Iterator[tuple[int, int, int]]:
    """Runs of views (start, stop, layers) that hold at most `slabs` layers together; `occupied` descends."""
    start = 0
    while start < len(occupied):
        layers = occupied[start]
        stop = min(start + max(1, slabs // layers), len(occupied))
        yield start, stop, layers
        start = stop


def _drawn(cells: Cells, layers: int, tile: Tile, buffers: list[Tensor]) -> Tensor:
    """The `layers` layers of M views pooled and blurred, and the greatest of them: (M, side, side).

    `buffers` are two stretches of memory that passes share; the first pass, the largest but for a few, makes them.
    """
    views, area, device = len(cells.value), tile.side**2, cells.value.device
    count = views * layers * area
    need = count + tile.lead + tile.reach
    if not buffers or len(buffers[0]) < need:
        buffers[:] = [torch.empty(need, device=device) for _ in range(2)]
    line, other = (buffer[:need] for buffer in buffers)
    line.zero_()
    slab = torch.arange(views, device=device)[:, None] * layers + cells.layer
    place = slab.mul_(area).add_(cells.place).add_(tile.lead)
    line.scatter_reduce_(0, place.flatten(), cells.value.flatten(), "amax")
    for step in (tile.side, 1):
        line, other = _slide_max(line, other, tile.pool, step)
    clear_outside(line, count, tile)
    for step in (tile.side, 1):
        line, other = _blur(line, other, tile.ratios, step)
    return line[:count].view(views, layers, tile.side, tile.side).amax(1)


def _slide_max(line: Tensor, other: Tensor, size: int, step: int) -> tuple[Tensor, Tensor]:
    """Maximum of `size` values `step` apart, from each on, in windows that double (1, 2, 4, …): log₂ passes.

    On a CPU many times quicker than `max_pool2d`, whose inner loop does not vectorise along a window.
    """
    width = 1
    while width < size:
        shift = min(width, size - width)
        count = len(line) - shift * step
        line, other = torch.maximum(line[:count], line[shift * step :], out=other[:count]), line
        width += shift
    return line, other


def _blur(line: Tensor, other: Tensor, ratios: tuple[float, ...], step: int) -> tuple[Tensor, Tensor]:
    """Weighted sum of neighbours `step` apart, the middle one's weight 1; result i has its middle at i + half·step."""
    half = len(ratios)
    count = len(line) - 2 * half * step
    shifted = [line[k * step : k * step + count] for k in range(2 * half + 1)]
    out, middle = other[:count], shifted[half]
    for distance, ratio in enumerate(ratios, start=1):
        middle = torch.add(middle, shifted[half - distance], alpha=ratio, out=out)
        out.add_(shifted[half + distance], alpha=ratio)
    return middle, line


def clear_outside(line: Tensor, count: int, tile: Tile) -> None:
    """Put zeros where pooled tiles reach beyond the image, for its blur sees nothing there; of most grids none does."""
    over = (max(0, -tile.origin), max(0, tile.origin + tile.side - tile.image))
    if not any(over):
        return
    # A pooled value lies `padding` rows and columns before its cell.
    start = tile.lead - tile.padding * (tile.side + 1)
    tiles = line[start : start + count].view(-1, tile.side, tile.side)
    for edge in (slice(0, over[0]), slice(tile.side - over[1], tile.side)):
        tiles[:, edge] = 0
        tiles[:, :, edge] = 0


def tile_of(
    resolution: int, extent: float, layers: tuple[int, int], pool: int, padding: int, blur: tuple[float, ...]
) -> Tile:
    """The tile of a grid.

    Args:
        resolution: cells a side.
        extent: share of the grid that x and y fill.
        layers: (first, last) that a point falls into.
        pool, padding: cells.
        blur: an odd number of weights.
    """
    half = len(blur) // 2
    # A cell more at either end, should rounding carry a point there.
    low, high = (math.ceil((1 + sign * (extent + 1e-6)) / 2 * resolution) for sign in (-1, 1))
    first, last = (min(max(cell, 1), resolution - 2) for cell in (low, high))
    ratios = tuple(float(blur[half + k] / blur[half]) for k in range(1, half + 1))
    return Tile(first, last, layers, pool, padding, ratios, resolution + 2 * padding - pool + 1)
