"""Ten classes that no bundled model was trained on: for open-vocabulary recognition and the rejection of strangers.

They are listed in config/classes/unseen.yaml and must never enter config/classes/household.yaml.
"""

from __future__ import annotations

import numpy as np
from trimesh import Trimesh

from clipoint3d_ros.datasets.shapes.shape import LYING, STANDING, Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import (
    arc,
    block,
    handle,
    lathe,
    merged,
    moved,
    outline,
    prism,
    rod,
    stacked,
    tube,
    turned,
    vessel,
)


@maker("wrench")
def wrench(rng: np.random.Generator) -> Made:
    """Combination and open-ended spanners (ISO 7738 lengths for 10–32 mm): 13–36 cm long, 4–12 mm thick; lie flat."""
    length = rng.uniform(0.13, 0.36)
    thick, head = length * rng.uniform(0.028, 0.036), length * rng.uniform(0.075, 0.1)
    shank = block((length - head, head * rng.uniform(0.7, 1.0), thick * 0.8), (0, 0, thick * 0.1))
    parts = [shank, _jaw(head, thick, length / 2)]
    ring = rng.random() < 0.6
    if ring:
        inner, outer = head * 0.62, head
        profile = [(inner, 0), (outer, 0), (outer, thick * 1.2), (inner, thick * 1.2), (inner, 0)]
        parts.append(moved(lathe(profile, 24), (-length / 2, 0, 0)))
    else:
        parts.append(turned(_jaw(head * 0.85, thick, length / 2), np.pi))
    ends = "with a ring at one end" if ring else "with an open jaw at either end"
    return merged(*parts), ("long and flat", said(rng, "with an open jaw", "with a forked end"), ends), LYING


def _jaw(head: float, thick: float, at: float) -> Trimesh:
    """A forked spanner head of radius `head` metres, open towards +x."""
    prongs = []
    for side in (-1, 1):
        points = [(-0.8, 0), (-0.5, 0.85), (0.3, 1.1), (1.1, 0.8), (1.1, 0.5), (-0.1, 0.5), (-0.3, 0)]
        outer, inner = points[:4], points[4:]
        for quad in ([outer[0], outer[1], inner[1], inner[2]], [outer[1], outer[2], outer[3], inner[0], inner[1]]):
            prongs.append(prism([(x * head, side * y * head) for x, y in quad], thick, (at, 0, 0)))
    return merged(*prongs)


@maker("spoon")
def spoon(rng: np.random.Generator) -> Made:
    """Spoons: tea (13 cm), table (20 cm) and wooden or serving spoons to 32 cm; an oval hollow on a long handle."""
    length = rng.uniform(0.13, 0.32)
    a = length * rng.uniform(0.12, 0.17)
    ratio, depth = rng.uniform(0.6, 0.78), a * rng.uniform(0.3, 0.55)
    curve = np.linspace(0.1, np.pi / 2, 7)
    hollow = vessel([(a * np.sin(t), depth * (1 - np.cos(t))) for t in curve], 0.0015, 0.001)
    hollow.apply_scale([1, ratio, 1])
    bend = rng.uniform(0.0, 0.02)
    path = [
        (a * 0.97, 0, depth),
        (a + 0.25 * (length - a), 0, depth + bend),
        (length - a, 0, depth * rng.uniform(0.3, 1)),
    ]
    grip = tube(path, np.array([0.003, 0.0035, 0.005]) * length / 0.2)
    grip.vertices[:, 1] *= rng.uniform(1.2, 1.8)
    return merged(hollow, grip), (
        "long",
        said(rng, "with an oval hollow end", "with an oval bowl at one end"),
        "with a thin handle",
    )


@maker("toilet roll", lying=0.35)
def toilet_roll(rng: np.random.Generator) -> Made:
    """Toilet rolls: 8.5–13 cm across, 9.5–10.5 cm wide, on a core of 3.8–4.6 cm (retail packs)."""
    r, core, h = rng.uniform(0.042, 0.066), rng.uniform(0.019, 0.023), rng.uniform(0.092, 0.108)
    if rng.random() < 0.15:
        r = rng.uniform(0.028, 0.04)  # half used
    mesh = lathe([(core, 0), (r, 0), (r, h), (core, h), (core, 0)])
    return mesh, (
        said(rng, "a short cylinder", "round"),
        said(rng, "with a hole through its middle", "with a hollow core"),
    )


@maker("watering can")
def watering_can(rng: np.random.Generator) -> Made:
    """Watering cans of 1–10 litres: body 10–24 cm across, 11–28 cm high, a long spout, a handle; to 65 cm over all."""
    r = rng.uniform(0.05, 0.115)
    h = r * rng.uniform(1.7, 2.6)
    body = vessel([(r, 0), (r, h * 0.75), (r * 0.75, h * 0.95), (r * 0.6, h)], 0.003)
    reach, top = r * rng.uniform(2.0, 2.8), h * rng.uniform(0.95, 1.3)
    spout = tube([(r * 0.9, 0, h * 0.15), (r * 1.4, 0, h * 0.4), (reach, 0, top)], [r * 0.22, r * 0.16, r * 0.11])
    parts = [body, spout]
    rose = rng.random() < 0.55
    if rose:
        cone = lathe([(r * 0.1, 0), (r * 0.38, r * 0.45), (0, r * 0.52)], 20)
        parts.append(moved(turned(cone, rng.uniform(0.5, 1.1), (0, 1, 0)), (reach - 0.005, 0, top - 0.01)))
    if rng.random() < 0.5:
        parts.append(turned(handle(r * rng.uniform(0.7, 1.1), h * 0.2, h * 1.0, r * 0.75, 0.018), np.pi))
    else:
        bow = arc((r * 0.75, h * rng.uniform(0.3, 0.5)), 0, np.pi, 14)
        parts.append(tube(np.column_stack([bow[:, 0], np.zeros(14), h * 0.97 + bow[:, 1]]), 0.009))
    return merged(*parts), (
        said(rng, "with a long spout", "with a long rising spout"),
        said(rng, "with a handle", "with a bow handle"),
        "with a sprinkler head" if rose else "with a narrow mouth",
    )


@maker("traffic cone", tabletop=False)
def traffic_cone(rng: np.random.Generator) -> Made:
    """Traffic cones: 30, 50 and 75 cm high (EN 13422 sizes), a hollow cone on a square foot."""
    h = float(rng.choice([0.3, 0.5, 0.75]) * rng.uniform(0.92, 1.08))
    side = h * rng.uniform(0.5, 0.75)
    foot = stacked(outline(side, side, side * rng.uniform(0.05, 0.25)), [(0, 0), (0, 0.02), (0.008, 0.03)])
    low, high = side * rng.uniform(0.36, 0.42), h * rng.uniform(0.035, 0.06)
    cone = lathe([(low, 0.025), (high, h), (high - 0.004, h), (high - 0.004, h - 0.05)])
    return merged(foot, cone), ("cone-shaped", "with a square foot", said(rng, "narrow at the top", "tall and pointed"))


@maker("padlock", lying=0.85)
def padlock(rng: np.random.Generator) -> Made:
    """Padlocks of 30–70 mm body width, 0.35–0.5 as thick, with a bow of steel 5–11 mm thick."""
    w = rng.uniform(0.03, 0.07)
    t, h = w * rng.uniform(0.32, 0.5), w * rng.uniform(0.7, 1.15)
    corner = rng.uniform(0.1, 0.5) * t
    body = stacked(
        outline(w, t, corner), [(corner * 0.4, 0), (0, corner * 0.4), (0, h - corner * 0.4), (corner * 0.4, h)]
    )
    half, rise = w * rng.uniform(0.27, 0.36), w * rng.uniform(0.15, 0.8)
    bow = arc((half, half), 0, np.pi, 12)
    bend = np.column_stack([bow[:, 0], np.zeros(12), h + rise + bow[:, 1]])
    path = np.concatenate([[[half, 0, h - 0.003]], bend, [[-half, 0, h - 0.003]]])
    return merged(body, tube(path, w * rng.uniform(0.06, 0.085))), (
        said(rng, "a small thick block", "small"),
        said(rng, "with a bow of steel", "with a curved shackle", "with a round bow at one side"),
    )


@maker("clothes hanger")
def clothes_hanger(rng: np.random.Generator) -> Made:
    """Clothes hangers: 36–46 cm wide, 18–25 cm with the hook, coated wire (8 mm) to wood (20 mm); lie flat."""
    w, drop = rng.uniform(0.36, 0.46), rng.uniform(0.06, 0.12)
    thick = rng.uniform(0.004, 0.01)
    neck = rng.uniform(0.02, 0.04)
    left, right, top = (-w / 2, -drop, thick), (w / 2, -drop, thick), (0, 0, thick)
    middle = [(s * w / 4, -drop * rng.uniform(0.32, 0.5), thick) for s in (-1, 1)]
    parts = [tube([left, middle[0], top], thick), tube([top, middle[1], right], thick)]
    if rng.random() < 0.75:
        parts.append(tube([left, (0, -drop, thick), right], min(thick, 0.006)))
    bend = np.linspace(-np.pi / 2, np.pi * 0.95, 16)
    r = rng.uniform(0.018, 0.026)
    hook = np.column_stack([r * np.cos(bend), neck + r + r * np.sin(bend), np.full(16, thick)])
    parts.append(tube(np.concatenate([[top], hook]), 0.0025, 6))
    return (
        merged(*parts),
        ("flat", said(rng, "a wide triangle", "with two sloping arms"), "with a hook in the middle"),
        LYING,
    )


@maker("funnel", lying=0.45, inverted=0.55)
def funnel(rng: np.random.Generator) -> Made:
    """Kitchen and workshop funnels: 6–20 cm across, a cone over a thin spout; put down on the rim or on a side."""
    r = rng.uniform(0.03, 0.1)
    spout, cone = r * rng.uniform(0.7, 1.5), r * rng.uniform(0.8, 1.3)
    pipe = r * rng.uniform(0.1, 0.18)
    outer = [(pipe * 0.75, 0), (pipe, spout), (r, spout + cone), (r, spout + cone + r * rng.uniform(0, 0.3))]
    inner = [(x - 0.002, z) for x, z in reversed(outer)]
    return lathe([*outer, *inner, outer[0]]), (
        said(rng, "cone-shaped", "a hollow cone"),
        said(rng, "with a thin spout", "ending in a narrow pipe"),
        "open at the top",
    )


@maker("dumbbell")
def dumbbell(rng: np.random.Generator) -> Made:
    """Dumbbells of 1–15 kg: 14–38 cm long, heads 5.5–17 cm across, hexagonal or round, grip 24–35 mm thick."""
    length = rng.uniform(0.14, 0.38)
    r = length * rng.uniform(0.18, 0.23)
    width = length * rng.uniform(0.22, 0.32)
    sides = 6 if rng.random() < 0.6 else 32
    profile = [(0, 0), (r * 0.88, 0), (r, width * 0.12), (r, width * 0.88), (r * 0.88, width), (0, width)]
    head = lathe(profile, sides)
    grip = rod(min(rng.uniform(0.012, 0.018), r * 0.5), length - width, (0, 0, width / 2), 16)
    mesh = turned(merged(head, moved(head, (0, 0, length - width)), grip), np.pi / 2, (0, 1, 0))
    heads = "with two hexagonal heads" if sides == 6 else "with two round heads"
    return (
        turned(mesh, rng.uniform(0, 0.3), (1, 0, 0)),
        ("long", heads, said(rng, "with a grip in the middle", "narrow in the middle")),
        LYING,
    )


@maker("ladder", tabletop=False)
def ladder(rng: np.random.Generator) -> Made:
    """Step ladders of 2–7 treads (EN 131: treads 20–25 cm apart): 45–175 cm high, open like the letter A."""
    treads = int(rng.integers(2, 8))
    gap, w = rng.uniform(0.2, 0.25), rng.uniform(0.34, 0.5)
    h = treads * gap
    spread = h * rng.uniform(0.25, 0.38)
    rail = rng.uniform(0.012, 0.022)
    parts = []
    for s in (-1, 1):
        for side in (-1, 1):
            parts.append(tube([(s * w / 2, side * spread, 0), (s * w / 2 * 0.85, 0.0, h)], rail, 6))
    for i in range(1, treads + 1):
        share = i / treads
        deep = rng.uniform(0.07, 0.1) if i < treads else rng.uniform(0.12, 0.24)
        parts.append(block((w * (1 - 0.15 * share), deep, 0.022), (0, -spread * (1 - share), i * gap - 0.022)))
    return (
        merged(*parts),
        (
            said(rng, "shaped like the letter A", "with two leaning frames"),
            "with two steps" if treads == 2 else "with several steps",
            said(rng, "with level treads", "open between its rails"),
        ),
        STANDING,
    )
