"""What stands on the floor: the furniture of PointDA-10 and its neighbours."""

from __future__ import annotations

import numpy as np
from trimesh import Trimesh

from clipoint3d_ros.datasets.shapes.shape import Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import (
    ball,
    block,
    lathe,
    merged,
    moved,
    rod,
    rounded_block,
    tube,
    turned,
    vessel,
)


def _legs(x: float, y: float, height: float, thickness: float, round_: bool) -> list[Trimesh]:
    """Four legs whose centres stand at (±x, ±y)."""
    corners = [(sx * x, sy * y, 0) for sx in (-1, 1) for sy in (-1, 1)]
    if round_:
        return [rod(thickness / 2, height, c, 10) for c in corners]
    return [block((thickness, thickness, height), c) for c in corners]


@maker("chair", tabletop=False)
def chair(rng: np.random.Generator) -> Made:
    """Dining, office and arm chairs: seat 38–58 cm wide at 40–50 cm, back to 75–115 cm.

    Seat heights as EN 1335 and BIFMA give them, widths and backs from catalogues.
    """
    w, d, seat = rng.uniform(0.38, 0.58), rng.uniform(0.38, 0.55), rng.uniform(0.4, 0.5)
    back, t = rng.uniform(0.32, 0.65), rng.uniform(0.02, 0.07)
    parts = [block((w, d, t), (0, 0, seat - t))]
    attributes: tuple[str, ...] = (said(rng, "with a backrest", "with an upright back"), "with a seat")
    if rng.random() < 0.25:  # office chair: a column on a star
        parts.append(rod(0.03, seat - t, sections=10))
        spread = rng.uniform(0.24, 0.34)
        star = [
            tube([(0, 0, 0.08), (spread * np.cos(a), spread * np.sin(a), 0.04)], 0.018) for a in np.arange(5) * 1.2566
        ]
        parts += star
        attributes += ("on a star foot",)
    else:
        thickness = rng.uniform(0.025, 0.05)
        parts += _legs(w / 2 - thickness, d / 2 - thickness, seat - t, thickness, bool(rng.random() < 0.5))
        attributes += ("with four legs",)
    lean = rng.uniform(0.0, 0.25)
    if rng.random() < 0.6:
        rest = block((w, rng.uniform(0.015, 0.06), back))
    else:
        posts = [block((0.03, 0.03, back), (s * (w / 2 - 0.02), 0, 0)) for s in (-1, 1)]
        bars = [block((w, 0.02, 0.05), (0, 0, back * k)) for k in np.linspace(0.25, 0.9, int(rng.integers(2, 5)))]
        rest = merged(*posts, *bars)
    parts.append(moved(turned(rest, -lean, (1, 0, 0)), (0, d / 2 - 0.02, seat)))
    if rng.random() < 0.3:
        for s in (-1, 1):
            parts += [
                block((0.05, d * 0.9, 0.03), (s * w / 2, 0, seat + 0.2)),
                rod(0.015, 0.2, (s * w / 2, -d / 3, seat)),
            ]
        attributes += ("with armrests",)
    return merged(*parts), attributes


@maker("stool", tabletop=False)
def stool(rng: np.random.Generator) -> Made:
    """Stools: seat 26–42 cm, 40–80 cm high, no back."""
    r, h = rng.uniform(0.13, 0.21), rng.uniform(0.4, 0.8)
    seat = rod(r, 0.035, (0, 0, h - 0.035)) if rng.random() < 0.6 else block((2 * r, 2 * r, 0.035), (0, 0, h - 0.035))
    splay = rng.uniform(0.7, 1.25)
    legs = []
    count = int(rng.integers(3, 5))
    for a in np.arange(count) * 2 * np.pi / count + np.pi / 4:
        c = np.array([np.cos(a), np.sin(a)])
        legs.append(tube([(*(c * r * splay), 0), (*(c * r * 0.7), h - 0.03)], 0.016))
    return merged(seat, *legs), (
        said(rng, "without a backrest", "with a plain seat"),
        "with three legs" if count == 3 else "with four legs",
        said(rng, "with slender legs", "higher than wide"),
    )


@maker("table", tabletop=False)
def table(rng: np.random.Generator) -> Made:
    """Dining, coffee and round tables: top 50–200 cm, 38–78 cm high, thin top."""
    h, t = rng.uniform(0.38, 0.78), rng.uniform(0.02, 0.05)
    if rng.random() < 0.3:
        r = rng.uniform(0.3, 0.7)
        foot = lathe([(0, 0), (r * 0.55, 0), (r * 0.5, 0.03), (0.05, 0.06), (0.04, h - t), (0, h - t)])
        return merged(rod(r, t, (0, 0, h - t)), foot), (
            said(rng, "with a round top", "with a wide round top"),
            said(rng, "on one column", "on a single foot"),
        )
    x, y = rng.uniform(0.55, 1.9), 0.0
    y = min(x, rng.uniform(0.45, 1.0))
    leg = rng.uniform(0.03, 0.09)
    legs = _legs(x / 2 - leg, y / 2 - leg, h - t, leg, bool(rng.random() < 0.4))
    return merged(block((x, y, t), (0, 0, h - t)), *legs), (
        said(rng, "with a flat top", "with a wide level top"),
        said(rng, "with four legs", "with legs at its corners"),
    )


@maker("sofa", tabletop=False)
def sofa(rng: np.random.Generator) -> Made:
    """Sofas: 130–240 cm wide, 75–105 cm deep, back to 65–100 cm; soft seat, back and two arms, some with a corner."""
    w, d, seat = rng.uniform(1.3, 2.4), rng.uniform(0.75, 1.05), rng.uniform(0.36, 0.46)
    back, arm = rng.uniform(0.3, 0.52), rng.uniform(0.1, 0.25)
    parts = [
        rounded_block((w, d, seat), 0.04),
        rounded_block((w, d * 0.25, back + 0.1), 0.05, (0, d * 0.375, seat - 0.1)),
    ]
    rise = rng.uniform(0.12, 0.25)
    parts += [rounded_block((arm, d, seat + rise), 0.04, (s * (w - arm) / 2, 0, 0)) for s in (-1, 1)]
    count = int(rng.integers(2, 4))
    inner = (w - 2 * arm) / count
    parts += [
        rounded_block((inner * 0.97, d * 0.7, 0.12), 0.04, (-w / 2 + arm + inner * (i + 0.5), -d * 0.1, seat - 0.03))
        for i in range(count)
    ]
    if rng.random() < 0.2:
        parts.append(rounded_block((w * 0.35, d * 0.9, seat), 0.04, (w * 0.325, -d * 0.8, 0)))
        return merged(*parts), ("corner-shaped", "soft", "with a backrest")
    return merged(*parts), (
        said(rng, "wide and soft", "wide", "with thick cushions"),
        said(rng, "with two armrests", "with thick arms"),
        said(rng, "with a backrest", "with a broad back"),
    )


@maker("bed", tabletop=False)
def bed(rng: np.random.Generator) -> Made:
    """Beds: 80–190 cm wide, 180–215 cm long, mattress at 35–60 cm, headboard to 70–120 cm, pillows."""
    w, length, h = rng.uniform(0.8, 1.9), rng.uniform(1.8, 2.15), rng.uniform(0.35, 0.6)
    base = h * rng.uniform(0.45, 0.65)
    clear = rng.uniform(0.0, 0.2) if rng.random() < 0.5 else 0.0
    parts = [
        block((w, length, base - clear), (0, 0, clear)),
        rounded_block((w * 0.98, length * 0.98, h - base), 0.05, (0, 0, base)),
    ]
    if clear:
        parts += _legs(w / 2 - 0.05, length / 2 - 0.05, clear, 0.07, False)
    parts.append(block((w, 0.06, rng.uniform(0.7, 1.2)), (0, length / 2, 0)))
    count = 1 if w < 1.2 else 2
    for i in range(count):
        x = (i - (count - 1) / 2) * w / 2
        parts.append(ball((w / count * 0.38, 0.2, 0.08), (x, length / 2 - 0.3, h + 0.03)))
    if rng.random() < 0.4:
        parts.append(block((w, 0.05, h + rng.uniform(0, 0.25)), (0, -length / 2, 0)))
    return merged(*parts), ("long and low", "with a headboard", "with pillows" if count == 2 else "with a pillow")


def _case(w: float, d: float, h: float, board: float) -> list[Trimesh]:
    """Two sides, a top, a bottom and a back: an empty case open to −y."""
    sides = [block((board, d, h), (s * (w - board) / 2, 0, 0)) for s in (-1, 1)]
    lids = [block((w, d, board), (0, 0, z)) for z in (0.0, h - board)]
    return [*sides, *lids, block((w, 0.008, h), (0, d / 2, 0))]


@maker("bookshelf", tabletop=False)
def bookshelf(rng: np.random.Generator) -> Made:
    """Bookshelves: 50–130 cm wide, 22–40 cm deep, 90–220 cm high; open to the front, some filled with books."""
    w, d, h = rng.uniform(0.5, 1.3), rng.uniform(0.22, 0.4), rng.uniform(0.9, 2.2)
    board = rng.uniform(0.015, 0.03)
    shelves = int(rng.integers(2, 6))
    parts = _case(w, d, h, board)
    levels = np.linspace(0, h, shelves + 2)
    parts += [block((w, d, board), (0, 0, z)) for z in levels[1:-1]]
    filled = rng.random() < 0.6
    if filled:
        gap = levels[1] - board
        for z in levels[:-1]:
            x = -w / 2 + board
            while x < w / 2 - 0.08:
                thickness = rng.uniform(0.015, 0.05)
                if rng.random() < 0.75:
                    size = (thickness, d * rng.uniform(0.5, 0.8), gap * rng.uniform(0.5, 0.9))
                    parts.append(block(size, (x + thickness / 2, 0.03, z + board)))
                x += thickness * (1 if rng.random() < 0.9 else 3)
    return merged(*parts), ("with open shelves", "filled with books" if filled else "empty", "tall")


@maker("cabinet", tabletop=False)
def cabinet(rng: np.random.Generator) -> Made:
    """Chests, wardrobes and sideboards: 40–160 cm wide, 35–65 cm deep, 55–210 cm high; doors or drawers with grips."""
    w, d, h = rng.uniform(0.4, 1.6), rng.uniform(0.35, 0.65), rng.uniform(0.55, 2.1)
    foot = rng.uniform(0.03, 0.14) if rng.random() < 0.5 else 0.0
    parts = [block((w, d, h - foot), (0, 0, foot))]
    if foot:
        parts += _legs(w / 2 - 0.04, d / 2 - 0.04, foot, 0.05, False)
    if rng.random() < 0.5:
        rows = int(rng.integers(2, 6))
        cell = (h - foot) / rows
        for i in range(rows):
            parts.append(block((w * 0.95, 0.015, cell * 0.9), (0, -d / 2, foot + cell * (i + 0.05))))
            parts.append(block((min(0.15, w / 3), 0.03, 0.015), (0, -d / 2 - 0.02, foot + cell * (i + 0.5))))
        return merged(*parts), (
            said(rng, "with drawers", "with drawers one above the other"),
            "closed",
            "with flat fronts",
        )
    doors = 1 if w < 0.6 else int(rng.integers(2, 4))
    for i in range(doors):
        x = -w / 2 + w / doors * (i + 0.5)
        parts.append(block((w / doors * 0.96, 0.015, (h - foot) * 0.95), (x, -d / 2, foot + 0.02)))
        grip = x + (w / doors * 0.38) * (1 if i % 2 == 0 else -1)
        parts.append(block((0.015, 0.03, 0.14), (grip, -d / 2 - 0.02, foot + (h - foot) * 0.5)))
    return merged(*parts), (said(rng, "with doors", "with doors and grips"), "closed", "with flat fronts")


@maker("lamp", tabletop=False)
def lamp(rng: np.random.Generator) -> Made:
    """Table, desk and floor lamps: 28–170 cm high; a foot, a thin stem, a shade."""
    h = rng.uniform(0.28, 0.65) if rng.random() < 0.65 else rng.uniform(1.2, 1.7)
    foot, shade = rng.uniform(0.06, 0.16), rng.uniform(0.08, 0.22)
    base = lathe([(0, 0), (foot, 0), (foot * 0.9, 0.02), (0.01, 0.035), (0, 0.035)])
    if rng.random() < 0.25:  # desk lamp with an elbow
        reach, elbow = h * rng.uniform(0.4, 0.7), h * rng.uniform(0.5, 0.75)
        arms = tube([(0, 0, 0.02), (-reach * 0.3, 0, elbow), (reach * 0.7, 0, h)], 0.008)
        head = turned(lathe([(0.02, 0), (0.03, -0.03), (0.07, -0.1)]), rng.uniform(-0.7, 0.3), (0, 1, 0))
        return merged(base, arms, moved(head, (reach * 0.7, 0, h))), ("with an elbow arm", "with a round foot")
    depth = rng.uniform(0.12, 0.3) * (1 if h < 1 else 1.3)
    taper = rng.uniform(0.45, 1.0)
    cone = lathe([(shade, h - depth), (shade * taper, h), (shade * taper - 0.004, h), (shade - 0.004, h - depth)])
    if rng.random() < 0.4 and h < 0.7:
        body = lathe(
            [
                (0, 0.02),
                *((foot * (0.35 + 0.5 * np.sin(np.pi * s)), 0.02 + (h - depth) * s) for s in np.linspace(0, 1, 9)),
            ]
        )
        return merged(base, body, rod(0.008, h - 0.05), cone), ("with a shade", "with a bulging body")
    return merged(base, rod(0.01, h - 0.03, sections=8), cone), (
        said(rng, "with a shade", "with a wide shade"),
        said(rng, "with a thin stem", "on a slender pole"),
        "with a round foot",
    )


@maker("bathtub", tabletop=False)
def bathtub(rng: np.random.Generator) -> Made:
    """Bathtubs: 140–185 cm long, 65–90 cm wide, 42–62 cm high; a hollow with a wide rim."""
    x, y, h = rng.uniform(1.4, 1.85), rng.uniform(0.65, 0.9), rng.uniform(0.42, 0.62)
    if rng.random() < 0.5:  # free-standing and oval
        tub = vessel([(0.55, 0), (0.82, 0.1 * h), (0.93, h * 0.6), (1.0, h * 0.97), (1.04, h)], 0.06, 0.08)
        tub.apply_scale([x / 2, y / 2, 1])
        return tub, ("oval", "hollow", "free-standing")
    rim, depth = rng.uniform(0.05, 0.09), h * rng.uniform(0.75, 0.9)
    outer = [block((x, 0.01, h), (0, s * y / 2, 0)) for s in (-1, 1)] + [
        block((0.01, y, h), (s * x / 2, 0, 0)) for s in (-1, 1)
    ]
    basin = lathe([(0, h - depth), (0.8, h - depth), (0.92, h - depth * 0.8), (1.0, h)], 48)
    basin.apply_scale([x / 2 - rim, y / 2 - rim, 1])
    top = [block((x, rim * 2, 0.012), (0, s * (y / 2 - rim), h - 0.012)) for s in (-1, 1)]
    top += [block((rim * 2, y, 0.012), (s * (x / 2 - rim), 0, h - 0.012)) for s in (-1, 1)]
    return merged(*outer, basin, *top), ("rectangular", "hollow", "with a wide rim")


@maker("plant", tabletop=False)
def plant(rng: np.random.Generator) -> Made:
    """Potted plants: pot 8–35 cm across, leaves or twigs to 20–150 cm."""
    r = rng.uniform(0.045, 0.17)
    h = r * rng.uniform(1.4, 2.2)
    parts = [vessel([(r * 0.7, 0), (r, h)], 0.006), rod(r * 0.88, 0.01, (0, 0, h * 0.85), 16)]
    crown, tall = r * rng.uniform(1.2, 2.6), r * rng.uniform(1.5, 5.0)
    if rng.random() < 0.5:  # long leaves from one foot
        for _ in range(int(rng.integers(10, 26))):
            a, out, up = rng.uniform(0, 2 * np.pi), crown * rng.uniform(0.5, 1.1), tall * rng.uniform(0.5, 1.0)
            s = np.linspace(0, 1, 8)
            path = np.column_stack(
                [out * s**1.5 * np.cos(a), out * s**1.5 * np.sin(a), h * 0.85 + up * (s - 0.35 * s**3)]
            )
            parts.append(_leaf(path, r * rng.uniform(0.08, 0.2)))
        return merged(*parts), (
            said(rng, "with long leaves", "with long bent leaves"),
            said(rng, "in a pot", "in a round pot"),
            "irregular",
        )
    stem = rng.uniform(0.2, 0.6) * tall
    parts.append(tube([(0, 0, h * 0.8), (rng.uniform(-0.2, 0.2) * r, 0, h + stem)], 0.012))
    for _ in range(int(rng.integers(30, 80))):
        direction = rng.normal(size=3)
        centre = direction / np.linalg.norm(direction) * crown * rng.uniform(0.3, 1.0) + [0, 0, h + stem + crown * 0.5]
        leaf = crown * rng.uniform(0.1, 0.22)
        corners = centre + rng.normal(size=(4, 3)) * leaf
        parts.append(Trimesh(corners, [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], process=False))
    return merged(*parts), (
        said(rng, "with a leafy crown", "bushy"),
        said(rng, "in a pot", "in a round pot"),
        said(rng, "with many small leaves", "on a thin stem"),
    )


def _leaf(path: np.ndarray, width: float) -> Trimesh:
    """A two-sided ribbon along a path (K, 3), widest in the middle."""
    along = np.gradient(path, axis=0)
    side = np.cross(along, [0, 0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    half = width * np.sin(np.linspace(0.15, 1, len(path)) * np.pi)[:, None] * side
    vertices = np.concatenate([path - half, path + half])
    k = len(path)
    i = np.arange(k - 1)
    return Trimesh(
        vertices,
        np.concatenate([np.stack([i, i + 1, i + k], 1), np.stack([i + 1, i + k + 1, i + k], 1)]),
        process=False,
    )
