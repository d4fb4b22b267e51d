"""What one cooks in and eats from: mugs, glasses, bowls, plates, dishes, pots, pans, teapots."""

from __future__ import annotations

import numpy as np

from clipoint3d_ros.datasets.shapes.shape import STANDING, Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import (
    ball,
    footed,
    handle,
    lathe,
    loop_handle,
    merged,
    moved,
    outline,
    rod,
    stacked,
    tube,
    turned,
    vessel,
)


@maker("mug", lying=0.12, inverted=0.25)
def mug(rng: np.random.Generator) -> Made:
    """Coffee mugs and tea cups: 6.5–10.5 cm across, 6–12.5 cm high (200–500 ml catalogue mugs), a side handle."""
    r = rng.uniform(0.034, 0.052)
    h = r * rng.uniform(1.5, 2.7)
    h = float(np.clip(h, 0.06, 0.125))
    foot = r * (rng.uniform(0.92, 1.0) if rng.random() < 0.6 else rng.uniform(0.6, 0.92))
    belly = rng.uniform(0.03, 0.14) * r if rng.random() < 0.4 else 0.0
    rows = np.linspace(0, 1, 8)
    corner = rng.uniform(0.0, 0.12) * r
    outside = [(foot + (r - foot) * s + belly * np.sin(np.pi * s), h * s) for s in rows]
    outside[0] = (outside[0][0] - corner, 0.0)
    if rng.random() < 0.6:
        outside = footed(outside, foot * rng.uniform(0.7, 0.9) - corner, rng.uniform(0.001, 0.004))
    low, high = h * rng.uniform(0.1, 0.3), h * rng.uniform(0.7, 0.92)
    square = float(rng.choice([1.0, 0.7, 0.4], p=[0.5, 0.3, 0.2]))
    outward, thickness = rng.uniform(0.02, 0.038), rng.uniform(0.007, 0.014)
    wall = rng.uniform(0.003, 0.006)
    grip = handle(outward, low, high, min(foot, r) * 0.95, thickness, square=square)
    grip.vertices[:, 0] = np.maximum(grip.vertices[:, 0], min(foot, r) - wall)  # its ends stay within the wall
    bow = {1.0: "with a round handle", 0.7: "with a curved handle"}.get(square, "with a square handle")
    body = (
        said(rng, "bellied", "rounded")
        if belly
        else "tapered"
        if foot < 0.9 * r
        else said(rng, "straight-sided", "round")
    )
    return merged(vessel(outside, wall), grip), (
        said(rng, "with a handle", f"{bow} on its side", bow),
        "open at the top",
        said(rng, "hollow", "with a deep round inside"),
        body,
    )


@maker("glass", lying=0.1, inverted=0.25)
def glass(rng: np.random.Generator) -> Made:
    """Tumblers, beer glasses and paper cups: 5–9.5 cm across, 7–18 cm high, thin wall, open, without a handle.

    Catalogue: 20–57 cl tumblers and pints; 80 mm paper cups of 90–140 mm with a rolled rim.
    """
    r = rng.uniform(0.026, 0.047)
    h = float(np.clip(r * rng.uniform(2.4, 4.2), 0.07, 0.18))
    kind = rng.choice(["straight", "tapered", "bulged", "cup"], p=[0.25, 0.4, 0.15, 0.2])
    foot = r * {"straight": 0.98, "bulged": 0.78}.get(str(kind), rng.uniform(0.6, 0.82))
    outside = [(foot, 0.0), ((foot + r) / 2, h / 2), (r, h)]
    if kind == "bulged":
        outside = [(foot, 0.0), (r * 0.85, h * 0.5), (r * 1.03, h * 0.78), (r * 0.98, h)]
    elif kind == "cup":
        outside = [(foot, 0.0), (r, h - 0.005), (r + 0.003, h - 0.003), (r + 0.002, h)]
    floor = rng.uniform(0.004, 0.014) if kind != "cup" else 0.003
    if kind == "cup":
        outside = [(foot - 0.004, 0.006), (foot - 0.002, 0.0), *outside]
    words = {"straight": "straight-sided", "bulged": said(rng, "bulging towards the rim", "rounded")}
    return vessel(outside, rng.uniform(0.0012, 0.003), floor), (
        words.get(str(kind), said(rng, "tapered", "tapered wall")),
        "open at the top",
        said(rng, "without a handle", "with a smooth side"),
        said(rng, "thin-walled", "hollow", "tall"),
    )


@maker("bowl", inverted=0.25)
def bowl(rng: np.random.Generator) -> Made:
    """Cereal, salad, soup and mixing bowls: 10–29 cm across, 0.28–0.6 as high, open; most with a foot ring.

    Catalogue: 12–16 cm cereal and soup bowls, 20–29 cm salad and mixing bowls.
    """
    r = rng.uniform(0.05, 0.085) if rng.random() < 0.65 else rng.uniform(0.085, 0.145)
    h = 2 * r * rng.uniform(0.28, 0.6)
    foot = r * rng.uniform(0.3, 0.6)
    straight = rng.random() < 0.25
    rows = np.linspace(0, 1, 10)
    power = rng.uniform(0.85, 1.0) if straight else rng.uniform(0.35, 0.65)
    outside = [(foot + (r - foot) * s**power, h * s) for s in rows]
    if rng.random() < 0.3:
        outside.append((r + rng.uniform(0.003, 0.012), h))
    ring = rng.random() < 0.7
    if ring:
        outside = footed(outside, foot * rng.uniform(0.85, 1.0), rng.uniform(0.003, 0.012))
    wall = (
        said(rng, "with a flared wall", "with straight flared sides")
        if straight
        else said(rng, "with a curved wall", "with a rounded side", "a hollow half ball")
    )
    return vessel(outside, rng.uniform(0.003, 0.006)), (
        "round",
        "open at the top",
        wall,
        said(rng, "with a foot ring", "with a small round foot") if ring else said(rng, "hollow", "without handles"),
    )


@maker("plate", inverted=0.15)
def plate(rng: np.random.Generator) -> Made:
    """Dinner, side and soup plates: 14–31 cm across, 1–3.8 cm high (catalogue: 16, 21, 24 and 27–30 cm)."""
    r = rng.uniform(0.07, 0.155)
    h = rng.uniform(0.01, 0.028) + (rng.uniform(0.0, 0.01) if r > 0.1 else 0)
    flat = r * rng.uniform(0.52, 0.8)
    well = h * rng.uniform(0.3, 0.7)
    outside = [(flat * 0.95, 0.0), (flat, h * 0.15), (flat + (r - flat) * 0.3, well), (r, h)]
    if rng.random() < 0.6:
        outside = footed(outside, flat * 0.8, rng.uniform(0.001, 0.003))
    return vessel(outside, rng.uniform(0.003, 0.005)), (
        said(rng, "flat", "very low and wide"),
        said(rng, "round", "a round disc"),
        said(rng, "shallow", "with a raised rim", "with a broad rim"),
    )


@maker("dish", inverted=0.15)
def dish(rng: np.random.Generator) -> Made:
    """Oven, gratin and soap dishes: 10–36 cm long, never round: oval or rectangular, low wall, open.

    Catalogue oven ware 20–40 × 14–26 × 4–7 cm, GN 1/3 and 1/4 pans (325 × 176 and 265 × 162 mm, 20–65 mm deep).
    """
    a = rng.uniform(0.05, 0.165)
    b, h = a * rng.uniform(0.5, 0.8), rng.uniform(0.022, 0.068)
    lugs = rng.random() < 0.6
    wall = rng.uniform(0.003, 0.006)
    if rng.random() < 0.45:
        mesh = vessel([(a * 0.75, 0), (a * 0.9, h * 0.4), (a, h)], wall)
        mesh.apply_scale([1, b / a, 1])
        shape = "oval"
    else:
        flare, corner = rng.uniform(0.0, 0.35) * h, rng.uniform(0.05, 0.5) * b
        levels = [(flare, 0), (0, h - 0.002), (0, h), (wall, h), (wall + flare, wall)]
        mesh, shape = stacked(outline(2 * a, 2 * b, corner), levels), "rectangular"
    if lugs:
        flat = outline(0.05, b * rng.uniform(0.6, 1.0), 0.01)
        mesh = merged(
            mesh,
            *(moved(stacked(flat, [(0, 0), (0, 0.006)]), (s * (a + 0.025 - 0.018), 0, h - 0.007)) for s in (-1, 1)),
        )
        # Lugs reach under the rim, not across the opening.
        reach = np.abs(mesh.vertices[-2 * (len(flat) * 2 + 2) :, 0])
        mesh.vertices[-2 * (len(flat) * 2 + 2) :, 0] *= np.where(reach < a - wall, (a - wall) / reach, 1)
    return mesh, (
        shape,
        said(rng, "shallow", "with a low wall"),
        "open at the top",
        said(rng, "with two lugs", "with a lug at either end") if lugs else said(rng, "long", "with a flat bottom"),
    )


@maker("pot", inverted=0.43)
def pot(rng: np.random.Generator) -> Made:
    """Cooking pots: 14–30 cm across, 0.35–0.9 as high, two short handles near the rim; open or under a lid.

    Catalogue sauté pots, casseroles and stock pots of 16, 18, 20, 24 and 28 cm.
    """
    r = rng.uniform(0.07, 0.15)
    h = 2 * r * rng.uniform(0.35, 0.9)
    wall = rng.uniform(0.0015, 0.005)
    foot = r * (rng.uniform(0.86, 0.97) if rng.random() < 0.35 else 1.0)
    curve = min(r * rng.uniform(0.03, 0.25), 0.4 * h)
    belly = [(r * rng.uniform(1.02, 1.07), h * 0.5)] if rng.random() < 0.15 else []
    outside = [(foot - curve, 0.0), (foot - curve * 0.3, curve * 0.3), (foot, curve), *belly, (r, h - 0.005)]
    lip = rng.uniform(0.0, 0.007)
    body = vessel([*outside, (r + lip, h - 0.001), (r + lip, h)], wall)
    level = min(h * rng.uniform(0.68, 0.92), h - 0.012)
    lugs = rng.random() < 0.4
    if lugs:  # small flat ears
        out, width, thick = rng.uniform(0.015, 0.032), rng.uniform(0.05, 0.1), rng.uniform(0.006, 0.014)
        ear = stacked(
            outline(2 * out, width, out * rng.uniform(0.4, 1.0)), [(0.001, 0), (0, thick / 2), (0.001, thick)]
        )
        ear.vertices[:, 0] = np.maximum(ear.vertices[:, 0], -wall)
        grip = moved(ear, (r, 0, level - thick))
        words = said(rng, "with two side lugs", "with two short handles", "with two handles")
    else:
        grip = loop_handle(rng.uniform(0.022, 0.048), rng.uniform(0.03, 0.058), rng.uniform(0.007, 0.016))
        grip = moved(turned(grip, rng.uniform(-0.5, 0.1), (0, 1, 0)), (r - wall, 0, level))
        words = said(rng, "with two loop handles", "with two handles", "with a handle on either side")
    parts = [body, grip, turned(grip, np.pi)]
    low = said(rng, "low", "wide and low") if h < r else said(rng, "deep", "high") if h > 1.5 * r else "wide"
    if rng.random() < 0.3:
        dome = rng.uniform(0.005, 0.035)
        lid = lathe([(0, 0), (r + 0.004, 0), (r * 0.97, 0.006), (r * 0.5, 0.006 + dome * 0.8), (0, 0.006 + dome)])
        knob = rng.uniform(0.01, 0.022)
        parts += [
            moved(lid, (0, 0, h)),
            rod(knob * 0.5, knob, (0, 0, h + dome)),
            ball((knob, knob, knob * 0.7), (0, 0, h + dome + knob * 1.5)),
        ]
        return merged(*parts), (words, said(rng, "with a lid and a knob", "with a lid"), low), STANDING
    return merged(*parts), (words, "open at the top", low, said(rng, "with a flat bottom", "round", "hollow"))


@maker("pan", inverted=0.15)
def pan(rng: np.random.Generator) -> Made:
    """Frying pans of 18–32 cm and saucepans of 14–20 cm: 3.5–11 cm high, one long handle of 14–22 cm."""
    deep = rng.random() < 0.35
    r = rng.uniform(0.065, 0.105) if deep else rng.uniform(0.085, 0.165)
    h = rng.uniform(0.065, 0.11) if deep else rng.uniform(0.032, 0.06)
    foot = r * (rng.uniform(0.9, 1.0) if deep else rng.uniform(0.7, 0.9))
    body = vessel([(foot, 0), (foot + (r - foot) * 0.5, h * 0.3), (r, h)], 0.003)
    length, rise = rng.uniform(0.13, 0.22), rng.uniform(0.0, 0.05)
    path = [(r * 0.97, 0, h * 0.8), (r + length * 0.3, 0, h * 0.8 + rise * 0.8), (r + length, 0, h * 0.8 + rise)]
    grip = tube(path, rng.uniform(0.007, 0.012))
    grip.vertices[:, 1] *= rng.uniform(1.0, 1.6)
    return merged(body, grip), (
        "round",
        said(rng, "with one long handle", "with a long straight handle"),
        said(rng, "deep", "with a high wall") if deep else said(rng, "shallow", "wide and flat"),
        "open at the top",
    )


@maker("teapot")
def teapot(rng: np.random.Generator) -> Made:
    """Teapots: 11–20 cm across, a spout, a handle opposite, a lid with a knob."""
    r = rng.uniform(0.05, 0.09)
    h = 2 * r * rng.uniform(0.65, 1.0)
    rows = np.linspace(0.08, 0.94, 12) * np.pi
    body = lathe([(0, 0), *((r * np.sin(t) ** 0.8, h * (1 - np.cos(t)) / 2) for t in rows), (0, h)])
    spout = tube([(r * 0.8, 0, h * 0.35), (r * 1.35, 0, h * 0.6), (r * 1.65, 0, h * 0.95)], [0.019, 0.013, 0.008])
    grip = turned(handle(r * 0.65, h * 0.2, h * 0.85, r * 0.8, 0.011), np.pi)
    knob = ball((0.012, 0.012, 0.012), (0, 0, h + 0.01))
    return merged(body, spout, grip, knob), (
        said(rng, "with a spout", "with a spout on one side"),
        said(rng, "with a handle", "with a loop handle opposite"),
        said(rng, "round", "bulging"),
        said(rng, "with a lid", "with a knob on its lid"),
    )
