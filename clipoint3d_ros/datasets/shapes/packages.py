"""Boxes, cartons, books: what stands in a kitchen cupboard and on a shelf."""

from __future__ import annotations

import numpy as np
from trimesh import Trimesh

from clipoint3d_ros.datasets.shapes.shape import LYING, STANDING, Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import block, hull, loft, merged, moved, parcel, rod, turned


@maker("box", lying=0.5)
def box(rng: np.random.Generator) -> Made:
    """Cereal, tea, chocolate, tissue, pizza, shoe and shipping boxes: 2.2–40 cm a side.

    Retail packs: cereal 17–24 × 5–9 × 24–34 cm, tea 8–16 × 6–9 × 7–14 cm, chocolates, ready meals and small devices
    10–30 × 8–22 × 2.5–5.5 cm, tissue 22–24 × 11–12 × 5–9 cm, frozen pizza 25–29 cm × 3.5–5 cm, shoes 25–36 × 16–22 ×
    9–13 cm; small shipping boxes to 40 cm.
    """
    kinds = {"cereal": 0.2, "tea": 0.2, "thin": 0.26, "cube": 0.09, "flat": 0.09, "long": 0.05, "open": 0.06}
    kind = str(rng.choice([*kinds, "shoe"], p=[*kinds.values(), 0.05]))
    u = rng.uniform
    size = {
        "thin": lambda: (u(0.10, 0.30), u(0.022, 0.055), u(0.08, 0.22)),
        "cereal": lambda: (u(0.10, 0.24), u(0.038, 0.10), u(0.16, 0.34)),
        "tea": lambda: (u(0.06, 0.20), u(0.04, 0.13), u(0.06, 0.18)),
        "cube": lambda: (s := u(0.05, 0.24), s * u(0.8, 1.25), s * u(0.7, 1.2)),
        "flat": lambda: (u(0.14, 0.32), u(0.12, 0.30), u(0.036, 0.08)),
        "long": lambda: (u(0.036, 0.08), u(0.036, 0.08), u(0.14, 0.34)),
        "open": lambda: (u(0.12, 0.36), u(0.10, 0.28), u(0.08, 0.24)),
        "shoe": lambda: (u(0.22, 0.36), u(0.14, 0.22), u(0.08, 0.14)),
    }[kind]()
    if kind == "open":
        return _open_box(*size, rng)
    faces = said(rng, "with six rectangular faces", "with flat sides", "with straight edges", "closed on all sides")
    if kind == "shoe":
        x, y, z = size
        lid = z * u(0.2, 0.45)
        wall = u(0.002, 0.005)
        mesh = merged(block(size), block((x + 2 * wall, y + 2 * wall, lid), (0, 0, z - lid + wall)))
        return mesh, (said(rng, "with an overhanging lid", "with a lid over its sides"), "rectangular"), STANDING
    words = {
        "cereal": said(rng, "tall and thin", "tall and flat", "tall"),
        "cube": said(rng, "cube-shaped", "as wide as high"),
        "flat": said(rng, "flat", "low and wide"),
        "thin": said(rng, "flat and rectangular", "thin"),
        "long": said(rng, "long", "long and narrow"),
    }.get(kind, said(rng, "small", "rectangular"))
    if rng.random() < 0.4:
        mesh = block(size)
    else:  # board that has been handled: swollen or pressed-in sides, worn edges
        give = 0.03 * min(size)
        mesh = parcel(size, (u(-give, give), u(-give, give)), u(0.0005, 0.003))
    attributes = (words, faces, said(rng, "a plain block", "without a handle"))
    return (mesh, attributes, LYING) if kind == "flat" else (mesh, attributes)


def _open_box(x: float, y: float, z: float, rng: np.random.Generator) -> Made:
    """A box without a lid: bare walls, or two or four flaps that stand up or hang out."""
    wall = 0.004
    parts = [
        block((x, y, wall)),
        *(block((wall, y, z), (s * x / 2, 0, 0)) for s in (-1, 1)),
        *(block((x, wall, z), (0, s * y / 2, 0)) for s in (-1, 1)),
    ]
    flaps = int(rng.choice([0, 2, 4], p=[0.3, 0.35, 0.35]))
    length = min(x, y) * rng.uniform(0.3, 0.5)
    for s in (-1, 1) if flaps else ():
        flap = turned(block((length, y, wall), (s * length / 2, 0, 0)), s * rng.uniform(-1.3, 0.6), (0, 1, 0))
        parts.append(moved(flap, (s * x / 2, 0, z)))
        if flaps == 4:
            flap = turned(block((x, length, wall), (0, s * length / 2, 0)), -s * rng.uniform(-1.3, 0.6), (1, 0, 0))
            parts.append(moved(flap, (0, s * y / 2, z)))
    lid = (
        said(rng, "with open flaps at the top", "with folded flaps") if flaps else said(rng, "without a lid", "hollow")
    )
    attributes = ("open at the top", lid, "with four flat walls")
    return (merged(*parts), attributes, STANDING) if rng.random() < 0.7 else (merged(*parts), attributes)


@maker("carton", lying=0.2)
def carton(rng: np.random.Generator) -> Made:
    """Milk and juice cartons: 0.2–2 litres, foot 4.5–11 cm, 10–30 cm high; gabled, opened, slanted, or a capped brick.

    Gable-top cross-sections 57, 70, 85 and 95 mm square (0.25–2 l); bricks 63–95 × 40–65 mm (0.2–1 l).
    """
    a = rng.choice([0.057, 0.07, 0.07, 0.085, 0.095]) * rng.uniform(0.92, 1.1)
    b = a * rng.uniform(0.85, 1.08)
    h = rng.uniform(1.4, 2.7) * a
    kind = rng.choice(["gable", "opened", "slant", "brick"], p=[0.52, 0.15, 0.15, 0.18])
    if kind == "brick":
        a = rng.uniform(0.06, 0.1)
        b, h = a * rng.uniform(0.6, 0.85), rng.uniform(1.7, 2.6) * a
        cap = rod(rng.uniform(0.011, 0.018), rng.uniform(0.01, 0.022), (rng.uniform(-0.25, 0.25) * a, 0, h))
        return merged(block((a, b, h)), cap), (
            said(rng, "with a cap on a flat top", "with a round cap at one side of a flat top"),
            said(rng, "tall and square", "tall with flat sides"),
        )
    swell = rng.uniform(-0.02, 0.04) * a
    body = parcel((a, b, h), (swell, swell), 0.001)
    corners = [(sx * a / 2, sy * b / 2, h) for sx in (-1, 1) for sy in (-1, 1)]
    tall = said(rng, "tall with a square foot", "tall and square", "with four flat sides")
    if kind == "slant":
        rise = rng.uniform(0.25, 0.6) * b
        top = hull([*corners, *((s * a / 2, b / 2, h + rise) for s in (-1, 1))])
        cap = turned(rod(rng.uniform(0.013, 0.02), 0.018), np.arctan2(rise, b), (1, 0, 0))
        return merged(body, top, moved(cap, (0, 0, h + rise / 2))), ("with a slanted top", "with a screw cap", tall)
    roof = rng.uniform(0.35, 0.6) * b
    inset = rng.uniform(0.0, 0.12) * a
    fin = rng.uniform(0.012, 0.026)
    ridge = [(s * (a / 2 - inset), 0, h + roof) for s in (-1, 1)]
    if kind == "opened":  # one half of the roof is unfolded and its spout pulled out
        closed = hull(
            [(-a / 2, -b / 2, h), (-a / 2, b / 2, h), (0, -b / 2, h), (0, b / 2, h), ridge[0], (0, 0, h + roof)]
        )
        reach = rng.uniform(0.15, 0.4) * a
        lip = np.array([(a / 2 + reach, 0.0), (0.02 * a, 0.32 * b), (0.02 * a, -0.32 * b)])
        foot = np.array([(a / 2, b / 2), (0, b / 2), (0, -b / 2), (a / 2, -b / 2)])
        mouth = np.array([lip[0], lip[1], lip[2]])
        walls = []
        pairs = [((a / 2, b / 2), foot[1], mouth[1], mouth[0]), ((a / 2, -b / 2), foot[2], mouth[2], mouth[0])]
        for p, q, r, t in pairs:
            low = [(*p, h), (*q, h)]
            high = [(*r, h + roof + fin), (*t, h + roof + 0.6 * fin)]
            walls.append(Trimesh([*low, *high], [[0, 1, 2], [0, 2, 3]], process=False))
        front = Trimesh(
            [(a / 2, b / 2, h), (a / 2, -b / 2, h), (*lip[0], h + roof + 0.6 * fin)], [[0, 1, 2]], process=False
        )
        seam = block((a / 2, 0.004, fin), (-a / 4, 0, h + roof - 0.002))
        return merged(body, closed, seam, front, *walls), (
            said(rng, "with an open spout", "with its gable opened to a spout", "with a spout pulled out"),
            said(rng, "with a gabled roof", "with a half open roof"),
            tall,
        )
    parts = [body, hull([*corners, *ridge]), block((a * 0.98, 0.004, fin), (0, 0, h + roof - 0.002))]
    roofed = said(rng, "with a gabled roof", "with a roof of two slopes", "with two sloping faces")
    if rng.random() < 0.5:
        cap = turned(rod(rng.uniform(0.012, 0.019), 0.016), np.arctan2(roof, b / 2), (1, 0, 0))
        parts.append(moved(cap, (0, -b / 4, h + roof / 2)))
        return merged(*parts), (roofed, said(rng, "with a screw cap on the slope", "with a round cap"), tall)
    return merged(*parts), (roofed, said(rng, "with a folded ridge on top", "with a flat seam on top"), tall)


# Trade formats, millimetres: A6, mass-market and B-format paperback, trade, A5, royal, crown quarto, A4.
FORMATS = ((105, 148), (110, 178), (129, 198), (135, 216), (148, 210), (156, 234), (189, 246), (210, 297))


@maker("book", lying=0.92)
def book(rng: np.random.Generator) -> Made:
    """Paperbacks to atlases in trade formats: 10–22 × 14–31 cm, 0.6–4.5 cm thick (mostly 1–3.5).

    Closed, standing on its foot or lying on a cover; a few open, a few in a stack of two.
    """
    kind = rng.choice(["closed", "open", "stack"], p=[0.91, 0.07, 0.02])
    if kind == "open":
        return _open_book(rng), (said(rng, "open", "lying open"), "with two halves of pages", "thin"), LYING
    mesh, thickness = _closed_book(rng)
    if kind == "stack":
        lower, lift = turned(mesh, np.pi / 2, (1, 0, 0)), thickness / 2
        upper, more = _closed_book(rng)
        upper = turned(turned(upper, np.pi / 2, (1, 0, 0)), rng.uniform(-0.5, 0.5))
        gap = [-m.bounds.mean(0) for m in (lower, upper)]
        pair = merged(moved(lower, gap[0]), moved(upper, [*gap[1][:2], gap[1][2] + lift + more / 2]))
        return pair, ("two in a stack", "flat", "rectangular"), LYING
    words = said(rng, "thin", "flat") if thickness < 0.018 else said(rng, "thick", "with many pages")
    return mesh, (words, said(rng, "with two covers", "with a spine on one side"), "much thinner than wide")


def _closed_book(rng: np.random.Generator) -> tuple[Trimesh, float]:
    """A closed book upright on its foot, spine at −x, and its thickness in metres (along y)."""
    w, length = np.array(FORMATS[rng.integers(len(FORMATS))]) / 1000 * rng.uniform(0.94, 1.05, 2)
    t = float(np.clip(rng.normal(0.022, 0.009), 0.006, 0.045))
    if rng.random() < 0.5:  # paperback: flush, a little bent
        bend, s = rng.uniform(-0.006, 0.006), np.linspace(0, 1, 8)
        y = bend * np.sin(np.pi * s)
        fan = t * (1 + rng.uniform(0, 0.25) * s)  # a read book gapes at its fore edge
        flat = np.concatenate(
            [np.column_stack([w * (s - 0.5), y - t / 2]), np.column_stack([w * (s - 0.5), y - t / 2 + fan])[::-1]]
        )
        rings = [np.column_stack([flat, np.full(16, z)]) for z in (0, length)]
        return loft(np.array(rings)), t
    cover, over = rng.uniform(0.002, 0.003), rng.uniform(0.002, 0.005)
    spine = rng.uniform(0.0, 0.25) * t
    back = hull(
        [(-w / 2 - spine * (y == 0), y * t / 2, z) for y in (-1, 0, 1) for z in (0, length)]
        + [(-w / 2 + cover, y * t / 2, z) for y in (-1, 1) for z in (0, length)]
    )
    sides = [block((w, cover, length), (0, s * (t - cover) / 2, 0)) for s in (-1, 1)]
    return merged(back, *sides, block((w - over, t - 2 * cover, length - 2 * over), (-over / 2, 0, over))), t


def _open_book(rng: np.random.Generator) -> Trimesh:
    """An open book face up: two arched halves of pages that meet in a valley."""
    w, length = np.array(FORMATS[rng.integers(len(FORMATS))]) / 1000 * rng.uniform(0.94, 1.05, 2)
    s = np.linspace(0, 1, 9)
    halves = []
    for side in (-1, 1):
        t = rng.uniform(0.004, 0.022)
        top = t * (0.35 + 1.0 * np.sin(np.pi * s**0.55) ** 0.8 * 0.65 + 0.3 * s) * np.where(s < 1, 1, 0.9)
        flat = np.concatenate([np.column_stack([w * s, np.zeros(9)]), np.column_stack([w * s, top])[::-1]])
        rings = [np.column_stack([side * flat[:, 0], np.full(18, y), flat[:, 1]]) for y in (-length / 2, length / 2)]
        halves.append(loft(np.array(rings)))
    return merged(*halves)
