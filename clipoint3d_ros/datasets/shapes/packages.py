"""Boxes, cartons, books: what stands in a kitchen cupboard and on a shelf."""

from __future__ import annotations

import numpy as np
from trimesh import Trimesh

from clipoint3d_ros.datasets.shapes.shape import Made, maker
from clipoint3d_ros.datasets.shapes.solids import block, hull, merged, moved, rod, turned


@maker("box", lying=0.5)
def box(rng: np.random.Generator) -> Made:
    """Cereal, tea, tissue and shipping boxes: 4–35 cm a side, the flattest 3 cm; some with an open flap."""
    kind = rng.choice(["cereal", "tea", "cube", "flat", "long", "open"], p=[0.26, 0.26, 0.16, 0.1, 0.12, 0.1])
    u = rng.uniform
    size = {
        "cereal": lambda: (u(0.10, 0.24), u(0.04, 0.10), u(0.16, 0.34)),
        "tea": lambda: (u(0.07, 0.20), u(0.05, 0.12), u(0.06, 0.16)),
        "cube": lambda: (s := u(0.06, 0.24), s * u(0.8, 1.25), s * u(0.7, 1.2)),
        "flat": lambda: (u(0.14, 0.32), u(0.14, 0.26), u(0.045, 0.09)),
        "long": lambda: (u(0.04, 0.08), u(0.04, 0.08), u(0.14, 0.30)),
        "open": lambda: (u(0.12, 0.32), u(0.10, 0.28), u(0.08, 0.22)),
    }[str(kind)]()
    if kind == "open":
        return _open_box(*size, rng), ("open", "without a lid")
    shape = {"cereal": "tall and thin", "cube": "cube-shaped", "flat": "flat", "long": "long"}.get(str(kind), "small")
    return block(size), (shape, "with six rectangular faces")


def _open_box(x: float, y: float, z: float, rng: np.random.Generator) -> Trimesh:
    wall = 0.004
    parts = [
        block((x, y, wall)),
        *(block((wall, y, z), (s * x / 2, 0, 0)) for s in (-1, 1)),
        *(block((x, wall, z), (0, s * y / 2, 0)) for s in (-1, 1)),
    ]
    if rng.random() < 0.5:  # two flaps folded outwards
        length = min(x, y) * rng.uniform(0.3, 0.5)
        for s in (-1, 1):
            flap = block((length, y, wall), (s * length / 2, 0, 0))
            tilt = turned(flap, s * rng.uniform(-0.3, 0.9), (0, 1, 0))
            parts.append(moved(tilt, (s * x / 2, 0, z)))
    return merged(*parts)


@maker("carton", lying=0.2)
def carton(rng: np.random.Generator) -> Made:
    """Milk and juice cartons: 0.25–2 litres, foot 6–11 cm, 12–30 cm high; gabled, slanted, or flat with a cap."""
    a = rng.uniform(0.055, 0.11)
    b = a * rng.uniform(0.75, 1.1)
    h = rng.uniform(1.5, 2.6) * a
    kind = rng.choice(["gable", "slant", "brick"], p=[0.68, 0.17, 0.15])
    parts = [block((a, b, h))]
    attributes: tuple[str, ...]
    if kind == "gable":
        roof = rng.uniform(0.35, 0.6) * b
        low = [(sx * a / 2, sy * b / 2, h) for sx in (-1, 1) for sy in (-1, 1)]
        inset = rng.uniform(0.0, 0.12) * a
        parts.append(hull([*low, *((s * (a / 2 - inset), 0, h + roof) for s in (-1, 1))]))
        fin = rng.uniform(0.012, 0.026)
        parts.append(block((a * 0.98, 0.004, fin), (0, 0, h + roof - 0.002)))
        attributes = ("with a gabled roof", "with a folded ridge on top")
        if rng.random() < 0.5:
            cap = turned(rod(rng.uniform(0.012, 0.019), 0.016), np.arctan2(roof, b / 2), (1, 0, 0))
            parts.append(moved(cap, (0, -b / 4, h + roof / 2)))
            attributes = ("with a gabled roof", "with a screw cap on the slope")
    elif kind == "slant":
        rise = rng.uniform(0.25, 0.6) * b
        corners = [(sx * a / 2, sy * b / 2, h) for sx in (-1, 1) for sy in (-1, 1)]
        parts.append(hull([*corners, *((s * a / 2, b / 2, h + rise) for s in (-1, 1))]))
        cap = turned(rod(rng.uniform(0.014, 0.02), 0.018), np.arctan2(rise, b), (1, 0, 0))
        parts.append(moved(cap, (0, 0, h + rise / 2)))
        attributes = ("with a slanted top", "with a screw cap")
    else:
        parts.append(rod(rng.uniform(0.012, 0.018), rng.uniform(0.012, 0.022), (0, rng.uniform(-0.2, 0.2) * b, h)))
        attributes = ("with a cap on a flat top", "tall and square")
    return merged(*parts), attributes


@maker("book", lying=0.0)
def book(rng: np.random.Generator) -> Made:
    """Paperbacks to picture books: 11–24 × 16–32 cm, 0.8–5 cm thick; mostly flat on a face, a few standing or open."""
    w, t = rng.uniform(0.105, 0.24), rng.uniform(0.008, 0.045)
    length = w * rng.uniform(1.15, 1.55)
    kind = rng.choice(["flat", "standing", "open"], p=[0.78, 0.14, 0.08])
    cover = rng.uniform(0.0015, 0.003)
    if kind == "open":
        tilt = rng.uniform(0.05, 0.25)
        leaf = block((w, length, max(t / 2, 0.006)), (w / 2, 0, 0))
        return merged(turned(leaf, -tilt, (0, 1, 0)), turned(leaf, np.pi + tilt, (0, 0, 1))), ("open", "thin")
    over = rng.uniform(0.002, 0.005)
    closed = merged(
        block((w, length, cover)),
        block((w, length, cover), (0, 0, t - cover)),
        block((cover, length, t), (-w / 2 + cover / 2, 0, 0)),
        block((w - over, length - 2 * over, t - 2 * cover), (-over / 2, 0, cover)),
    )
    thickness = "thin" if t < 0.018 else "thick"
    if kind == "standing":
        return turned(closed, np.pi / 2, (1, 0, 0)), (thickness, "standing on its edge")
    return closed, (thickness, "flat", "lying on its cover")
