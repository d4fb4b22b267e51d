"""A spinning lidar, simulated: some tens of rings of laser ranges, dense along a ring and sparse between rings.

It casts and senses as the depth cameras of `geometry.camera` do, so whatever takes a `Sensor` takes either. The frame
is the optical one: x right, y down, z forward, the spinning axis along y. Only a window of azimuths around z is cast,
for one object or table fills no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.geometry.camera import NOTHING, Image, depth_steps, mix_across


@dataclass(frozen=True)
class Lidar:
    """The defaults are those of a 64-line Ouster OS1 at 2048 steps a turn.

    Range noise is white and hardly depends on range: 1–2 cm (data sheets of the Ouster OS1, about 1 cm at tabletop
    distances, and the Velodyne VLP-16, ±3 cm; Glennie, Kusari, Facchin, "Calibration and stability analysis of the
    VLP-16 laser scanner", ISPRS Archives XL-3/W4, 2016). The beam widens by about 0.2 degrees and so straddles edges,
    where the range may come out between the two sides.
    """

    lines: int = 64
    field: tuple[float, float] = (-22.5, 22.5)  # degrees above the horizontal of the lowest and the highest line
    window: tuple[float, float] = (-30.0, 30.0)  # degrees of azimuth that are cast, to the right positive
    step: float = 360 / 2048  # degrees of azimuth between two shots
    near: float = 0.3  # metres
    far: float = 60.0  # metres
    noise: float = 0.012  # metres, standard deviation of a range
    dropout: float = 0.02  # chance that a shot does not return
    mixing: float = 0.3  # chance that a shot beside an edge reports a range between its two sides
    edge_step: float = 0.1  # metres at 1 m that count as an edge, growing with range
    grazing: float = 86.0  # degrees from the surface's normal beyond which nothing returns

    def rays(self) -> np.ndarray:
        """(lines, steps, 3) float32 unit directions, highest line first, so that a ray's parameter is its range."""
        elevation = np.deg2rad(np.linspace(self.field[1], self.field[0], self.lines))[:, None]
        count = int((self.window[1] - self.window[0]) / self.step) + 1
        azimuth = np.deg2rad(self.window[0] + self.step * np.arange(count))[None]
        x, y, z = np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)
        return np.stack(np.broadcast_arrays(x, y, z), -1).astype(np.float32)

    def contains(self, directions: np.ndarray) -> np.ndarray:
        """Which of (..., 3) directions, of any length, lie between the outer lines and in the window: (...) bool."""
        x, y, z = np.moveaxis(directions, -1, 0)
        azimuth, elevation = np.rad2deg(np.arctan2(x, z)), np.rad2deg(np.arctan2(-y, np.hypot(x, z)))
        low, high = self.field
        return (azimuth >= self.window[0]) & (azimuth <= self.window[1]) & (elevation >= low) & (elevation <= high)

    def sense(self, image: Image, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The ideal ranges with the lidar's faults.

        Returns:
            range (lines, steps) float32 metres along the ray, 0 where nothing came back; surface (lines, steps) int32,
            −1 where nothing came back.
        """
        seen = (image.depth >= self.near) & (image.depth <= self.far)
        seen &= image.incidence > np.cos(np.deg2rad(self.grazing))
        seen &= rng.random(seen.shape) >= self.dropout
        edge = depth_steps(image.depth, self.edge_step) & (rng.random(seen.shape) < self.mixing)
        reading, surface = mix_across(image.depth, image.surface, edge, rng)
        noisy = reading + self.noise * rng.standard_normal(seen.shape, dtype=np.float32)
        seen &= (noisy >= self.near) & (noisy <= self.far)
        return np.where(seen, noisy, 0).astype(np.float32), np.where(seen, surface, NOTHING).astype(np.int32)


# Velodyne's VLP-16 and Ouster's OS1 with 32 and 64 lines.
LIDARS = {
    16: Lidar(lines=16, field=(-15.0, 15.0), step=0.2, near=0.4, noise=0.015),
    32: Lidar(lines=32),
    64: Lidar(),
}
