"""METHOD 1.4–1.5 transcribed line by line, for a whole batch, as the released code does it: the oracle of the views."""

import torch
import torch.nn.functional as F

from clipoint3d_ros.geometry.views import ViewConfig, view_rotations

PUBLISHED = ViewConfig()


def plain_depth_views(points, c=PUBLISHED):
    """(B, N, 3) normalised → (B, 10, 110, 110), or as large as another configuration's images are."""
    rotations = torch.from_numpy(view_rotations()).float()
    # Summed in the order of the coordinates, as the tested code does: another order rounds points into other cells.
    turned = sum(points[:, None, :, None, k] * rotations[None, :, None, :, k] for k in range(3)).flatten(0, 1)
    low, high = turned.amin(1, keepdim=True), turned.amax(1, keepdim=True)
    turned = (turned - (low + high) / 2) / (high - low).amax(-1, keepdim=True) * 2
    x, y, z = turned[..., 0] * c.extent, turned[..., 1] * c.extent, turned[..., 2]
    ix = ((x + 1) / 2 * c.resolution).ceil().clamp(1, c.resolution - 2).long()
    iy = ((y + 1) / 2 * c.resolution).ceil().clamp(1, c.resolution - 2).long()
    z = ((z + 1) / 2 + c.depth_bias) / (1 + c.depth_bias) * (c.depth - 2)
    grid = torch.zeros(len(turned), c.depth * c.resolution**2)
    cell = (z.ceil().long() * c.resolution + iy) * c.resolution + ix
    grid.scatter_reduce_(1, cell, z.clamp(1, c.depth - 2), "amax")
    grid = grid.view(-1, c.depth, c.resolution, c.resolution).transpose(2, 3)
    grid = F.max_pool2d(grid, c.pool, 1, c.pool_padding)
    line = torch.exp(-0.5 * (torch.arange(c.blur) - (c.blur - 1) / 2) ** 2 / c.blur_sigma**2)
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum())[None, None]
    blurred = F.conv2d(grid.flatten(0, 1)[:, None], kernel, padding=c.blur // 2).unflatten(0, grid.shape[:2])[:, :, 0]
    image = blurred.amax(1)
    image = 1 - image / image.amax((1, 2), keepdim=True)
    return image.view(len(points), -1, *image.shape[-2:])
