"""Devices, tools, fruit and toys: what lies about on desks and benches."""

from __future__ import annotations

import numpy as np

from clipoint3d_ros.datasets.shapes.shape import Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import (
    ball,
    block,
    hull,
    lathe,
    merged,
    moved,
    rod,
    rounded_block,
    tube,
    turned,
)


@maker("monitor")
def monitor(rng: np.random.Generator) -> Made:
    """Flat screens of 19–34 inches: 42–80 cm wide on a stem and foot; a few old tubes."""
    w = rng.uniform(0.42, 0.8)
    h = w * rng.uniform(0.42, 0.66)
    rise, foot = rng.uniform(0.08, 0.2), w * rng.uniform(0.18, 0.32)
    if rng.random() < 0.15:
        w, d = rng.uniform(0.35, 0.48), rng.uniform(0.3, 0.42)
        h = w * 0.8
        tail = [(sx * w * 0.25, d, 0.06 + h * (0.5 + sz * 0.25)) for sx in (-1, 1) for sz in (-1, 1)]
        face = [(sx * w / 2, d * 0.3, 0.06 + h * (0.5 + sz * 0.5)) for sx in (-1, 1) for sz in (-1, 1)]
        return merged(
            block((w, d * 0.35, h), (0, d * 0.15, 0.06)), hull([*tail, *face]), rod(0.12, 0.06, (0, d * 0.3, 0))
        ), (
            "deep",
            "with a thick tube",
        )
    tilt = rng.uniform(-0.15, 0.1)
    panel = turned(block((w, rng.uniform(0.012, 0.05), h)), tilt, (1, 0, 0))
    stem = block((0.05, 0.025, rise + h * 0.4), (0, 0.03, 0))
    base = rod(foot, 0.015) if rng.random() < 0.4 else block((foot * 2, foot * 1.3, 0.015))
    return merged(moved(panel, (0, 0, rise)), stem, base), (
        said(rng, "thin and flat", "a thin flat panel"),
        said(rng, "on a stand", "on a foot", "held by a stem"),
        said(rng, "wide", "broader than high"),
    )


@maker("laptop")
def laptop(rng: np.random.Generator) -> Made:
    """Open laptops of 11–17 inches: 26–40 cm wide, lid at 80–135 degrees."""
    w = rng.uniform(0.26, 0.4)
    d, t = w * rng.uniform(0.62, 0.74), rng.uniform(0.01, 0.024)
    opening = np.deg2rad(rng.uniform(80, 135))
    lid = turned(moved(block((w, d, 0.007)), (0, -d / 2, 0)), -opening, (1, 0, 0))
    return merged(block((w, d, t)), moved(lid, (0, d / 2, t))), (
        said(rng, "open", "opened at a hinge"),
        said(rng, "thin", "with two thin halves"),
        said(rng, "shaped like an L", "with an upright screen"),
    )


@maker("keyboard")
def keyboard(rng: np.random.Generator) -> Made:
    """Keyboards: 28–46 cm long, 11–18 cm deep, rows of keys on a wedge."""
    w, d = rng.uniform(0.28, 0.46), rng.uniform(0.11, 0.175)
    front, rear = rng.uniform(0.007, 0.014), rng.uniform(0.014, 0.03)
    body = hull(
        [(sx * w / 2, sy * d / 2, z) for sx in (-1, 1) for sy in (-1, 1) for z in (0, front if sy < 0 else rear)]
    )
    keys = []
    for row in range(5):
        y = -d / 2 + d * (row + 0.7) / 6
        top = front + (rear - front) * (row + 0.7) / 6
        keys.append(block((w * 0.94, d / 6 * 0.75, 0.008), (0, y, top - 0.002)))
    return merged(body, *keys), (
        said(rng, "flat", "low", "a thin wedge"),
        said(rng, "long", "much wider than deep"),
        said(rng, "with rows of keys", "with many small keys"),
    )


@maker("mouse")
def mouse(rng: np.random.Generator) -> Made:
    """Computer mice: 9–13 cm long, 5–7.5 cm wide, 2.8–4.6 cm high; a smooth hump."""
    a, b, c = rng.uniform(0.045, 0.066), rng.uniform(0.026, 0.038), rng.uniform(0.028, 0.046)
    hump = ball((a, b, c))
    points = hump.vertices[hump.vertices[:, 2] > -0.02 * c]
    points = points.copy()
    points[:, 2] *= 1 - rng.uniform(0.0, 0.35) * (points[:, 0] / a)
    points[:, 2] -= points[:, 2].min()
    body = hull(points)
    x = a * rng.uniform(0.45, 0.6)
    over = points[np.hypot(points[:, 0] - x, points[:, 1]) < 0.25 * a]
    wheel = turned(rod(0.011, 0.007, (0, 0, -0.0035), 14), np.pi / 2, (1, 0, 0))
    return merged(body, moved(wheel, (x, 0, over[:, 2].max() - 0.0085))), (
        "small",
        said(rng, "smooth", "rounded"),
        said(rng, "hump-shaped", "an oval dome", "with a curved top"),
        said(rng, "with a flat bottom", "with a wheel"),
    )


@maker("drill", lying=0.55)
def drill(rng: np.random.Generator) -> Made:
    """Cordless drills: 16–26 cm long, pistol grip, chuck with a bit, battery at the foot."""
    length, r = rng.uniform(0.1, 0.16), rng.uniform(0.026, 0.036)
    grip = rng.uniform(0.1, 0.15)
    body = turned(rod(r, length, (0, 0, -length / 2)), np.pi / 2, (0, 1, 0))
    chuck = turned(
        lathe(
            [(0, 0), (r * 0.75, 0), (r * 0.5, 0.04), (0.006, 0.05), (0.004, 0.05 + rng.uniform(0.0, 0.07)), (0, 0.05)]
        ),
        np.pi / 2,
        (0, 1, 0),
    )
    stock = rounded_block((0.042, 0.034, grip), 0.01)
    battery = rounded_block((rng.uniform(0.07, 0.12), rng.uniform(0.055, 0.08), rng.uniform(0.03, 0.06)), 0.008)
    top = grip + 0.03 + r * 0.7
    lean = turned(stock, rng.uniform(-0.15, 0.25), (0, 1, 0))
    mesh = merged(moved(body, (0, 0, top)), moved(chuck, (length / 2, 0, top)), moved(lean, (-0.02, 0, 0.03)), battery)
    return mesh, (
        said(rng, "with a pistol grip", "shaped like a pistol"),
        said(rng, "with a chuck", "with a barrel and a chuck"),
        said(rng, "with a battery foot", "with a block at the foot of its grip"),
    )


@maker("hammer", lying=1.0)
def hammer(rng: np.random.Generator) -> Made:
    """Hammers: 24–38 cm long, steel head 8–14 cm across the handle; lies flat."""
    length, head = rng.uniform(0.24, 0.38), rng.uniform(0.08, 0.14)
    face = rng.uniform(0.011, 0.017)
    shaft = tube([(0, 0, 0), (0, 0, length * 0.5), (0, 0, length)], [0.015, 0.011, 0.012])
    bar = block((head, 2 * face, 2 * face), (0, 0, length - face))
    peen = hull(
        [(-head / 2, s * face, length + z) for s in (-1, 1) for z in (-face, face)]
        + [(-head / 2 - 0.03, s * 0.012, length) for s in (-1, 1)]
    )
    return turned(merged(shaft, bar, peen), np.pi / 2 * rng.integers(0, 2), (0, 0, 1)), (
        said(rng, "with a long handle", "with a long thin shaft"),
        said(rng, "with a steel head", "with a head across its end", "shaped like the letter T"),
    )


@maker("screwdriver", lying=1.0)
def screwdriver(rng: np.random.Generator) -> Made:
    """Screwdrivers: 15–30 cm long, thick grip, thin blade; lies flat."""
    grip, blade, r = rng.uniform(0.08, 0.12), rng.uniform(0.07, 0.18), rng.uniform(0.011, 0.019)
    profile = [(0, 0), (r * 0.8, 0), (r, 0.012), (r * 0.85, grip * 0.5), (r, grip * 0.8), (r * 0.6, grip), (0, grip)]
    return merged(lathe(profile, 16), rod(rng.uniform(0.003, 0.005), blade + 0.01, (0, 0, grip - 0.01), 8)), (
        said(rng, "with a thick grip", "with a round grip"),
        said(rng, "with a thin blade", "with a long thin rod"),
        said(rng, "straight", "slender"),
    )


@maker("scissors")
def scissors(rng: np.random.Generator) -> Made:
    """Scissors: 12–24 cm long, two blades and two rings, closed or open to 50 degrees; lie flat."""
    blade, ring = rng.uniform(0.07, 0.13), rng.uniform(0.02, 0.032)
    opening = np.deg2rad(rng.uniform(2, 25))
    halves = []
    for s in (-1, 1):
        steel = hull([(x, y, z) for x, y in ((0, -0.009), (0, 0.009), (blade, 0.001)) for z in (0, 0.003)])
        reach = rng.uniform(0.05, 0.075)
        shank = tube([(0.0, 0, 0.002), (-reach * 0.6, s * 0.008, 0.004), (-reach, s * 0.012, 0.005)], 0.005)
        angles = np.linspace(0, 2 * np.pi, 20)
        loop = np.column_stack(
            [-reach - ring + ring * np.cos(angles), s * 0.02 + ring * 0.75 * np.sin(angles), np.full(20, 0.005)]
        )
        halves.append(moved(turned(merged(steel, shank, tube(loop, 0.005)), s * opening), (0, 0, 0.003 * (s + 1))))
    return merged(*halves), (
        said(rng, "flat", "thin"),
        said(rng, "with two finger rings", "with two loops at one end"),
        said(rng, "with two blades", "with two crossed halves"),
    )


@maker("banana")
def banana(rng: np.random.Generator) -> Made:
    """Bananas: 14–23 cm along the bow, 3–4.5 cm thick; one, or a bunch of 2–4."""
    r, bend, length = rng.uniform(0.015, 0.022), rng.uniform(0.8, 1.6), rng.uniform(0.14, 0.23)
    radius = length / bend
    angles = np.linspace(-bend / 2, bend / 2, 14)
    path = np.column_stack([radius * np.sin(angles), radius * (1 - np.cos(angles)), np.full(14, r)])
    widths = r * np.clip(np.sin(np.linspace(0.1, np.pi - 0.06, 14)) ** 0.5, 0.25, 1)
    one = tube(path, widths)
    count = int(rng.integers(2, 5)) if rng.random() < 0.3 else 1
    fingers = [turned(one, 0.28 * i, (0.2, 0, 1), path[-1]) for i in range(count)]
    return merged(*fingers), (
        said(rng, "curved", "bent like a bow"),
        "in a bunch" if count > 1 else "long",
        said(rng, "with narrow ends", "thicker in the middle"),
    )


@maker("pear", lying=0.5)
def pear(rng: np.random.Generator) -> Made:
    """Pears: 5.5–8.5 cm across, 8–13 cm high, narrow towards the stalk."""
    r = rng.uniform(0.027, 0.043)
    h, neck = r * rng.uniform(2.5, 3.3), rng.uniform(0.45, 0.62)
    s = np.linspace(0, np.pi, 20)
    low = np.sin(np.clip(s / 0.75, 0, np.pi)) ** 0.8
    high = neck * np.sin(s) ** 0.5 * np.clip((s - 0.5) / 1.2, 0, 1)
    width = r * (low**3 + high**3) ** (1 / 3)  # a belly and a neck, blended
    width = np.convolve(np.pad(width, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    width[[0, -1]] = 0
    body = lathe([(float(x), float(h * (1 - np.cos(t)) / 2)) for x, t in zip(width, s, strict=True)], 32)
    return merged(body, tube([(0, 0, h * 0.97), (0.004, 0, h + 0.018)], 0.0018, 6)), (
        said(rng, "rounded", "drop-shaped"),
        said(rng, "narrow at the top", "narrow towards the stalk"),
        "with a stalk",
    )


@maker("apple", lying=0.2)
def apple(rng: np.random.Generator) -> Made:
    """Apples: 6–10 cm (trade calibres 60–95 mm), 0.8–1 as high, dimpled at stalk and blossom."""
    r, tall, deep = rng.uniform(0.03, 0.048), rng.uniform(0.82, 1.0), rng.uniform(0.25, 0.45)
    t = np.linspace(0, np.pi, 22)
    # A ball whose poles are drawn in by bells around the axis; the blossom's dimple is the shallower.
    height = -tall * np.cos(t) * (1 - deep * np.exp(-((np.sin(t) / 0.42) ** 2)) * np.where(t > np.pi / 2, 1, 0.55))
    shoulder = 1 + rng.uniform(0.0, 0.1) * -np.cos(t)
    body = lathe([(float(r * np.sin(a) * k), float(r * z)) for a, k, z in zip(t, shoulder, height, strict=True)], 32)
    body.apply_translation([0, 0, -body.bounds[0, 2]])
    top = float(r * (height[-1] - height.min()))
    parts = [body]
    stalk = rng.random() < 0.75
    if stalk:
        parts.append(tube([(0, 0, top - 0.002), (0.004, 0, top + r * rng.uniform(0.35, 0.6))], 0.0018, 6))
    return merged(*parts), (
        said(rng, "round", "almost round"),
        "small",
        said(rng, "with a dimple", "with a hollow on top"),
        "with a stalk" if stalk else "without a stalk",
    )


@maker("ball")
def toy_ball(rng: np.random.Generator) -> Made:
    """Tennis balls to footballs: 6–24 cm across."""
    r = rng.uniform(0.03, 0.12)
    return ball((r, r, r), (0, 0, r)), (
        said(rng, "perfectly round", "a sphere"),
        said(rng, "smooth", "without edges"),
    )


@maker("camel")
def camel(rng: np.random.Generator) -> Made:
    """Toy camels (GraspNet's): 8–20 cm long, four legs, one or two humps, a long neck."""
    s = rng.uniform(0.08, 0.2)
    leg = s * rng.uniform(0.38, 0.5)
    parts = [ball((s * 0.36, s * 0.15, s * 0.16), (0, 0, leg + s * 0.1))]
    parts += [
        tube([(x * s, y * s, 0), (x * s, y * s, leg + s * 0.1)], s * 0.035)
        for x in (-0.25, 0.25)
        for y in (-0.08, 0.08)
    ]
    humps = [0.0] if rng.random() < 0.5 else [-0.14, 0.14]
    parts += [ball((s * 0.11, s * 0.09, s * 0.15), (x * s, 0, leg + s * 0.26)) for x in humps]
    neck = [(0.32 * s, 0, leg + s * 0.1), (0.48 * s, 0, leg + s * 0.12), (0.54 * s, 0, leg + s * 0.42)]
    parts += [tube(neck, s * 0.05), ball((s * 0.12, s * 0.055, s * 0.06), (0.6 * s, 0, leg + s * 0.45))]
    return merged(*parts), ("an animal", "with four legs", "with two humps" if len(humps) == 2 else "with a hump")
