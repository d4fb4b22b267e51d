"""Round things that hold something: cans, tins, bottles, cups, bowls, pots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from clipoint3d_ros.datasets.shapes.shape import STANDING, Made, maker
from clipoint3d_ros.datasets.shapes.solids import (
    ball,
    block,
    handle,
    lathe,
    merged,
    moved,
    prism,
    rod,
    tube,
    turned,
    vessel,
)


@maker("can", lying=0.3)
def can(rng: np.random.Generator) -> Made:
    """Food and drink cans and crisp tubes: 5–11 cm across, 1–3.6 times as high, closed, with a rim."""
    r = rng.uniform(0.025, 0.053)
    h = 2 * r * (rng.uniform(0.95, 2.2) if rng.random() < 0.65 else rng.uniform(2.2, 3.6))
    rim, dip = rng.uniform(0.0, 0.003), rng.uniform(0.0, 0.006)
    neck = rng.uniform(0.85, 1.0) if rng.random() < 0.4 else 1.0
    top = r * neck
    profile = [(0, dip), (r * 0.9, 0), (r, 0.006), (r, h - 0.012), (top, h - 0.004), (top + rim, h), (top - 0.003, h)]
    return lathe([*profile, (top - 0.004, h - dip), (0, h - dip)]), (
        "tall" if h > 4 * r else "short",
        "closed",
        "with flat round ends",
    )


@maker("tin", lying=0.1)
def tin(rng: np.random.Generator) -> Made:
    """Biscuit, tuna and shoe-polish tins: 8–26 cm across and always wider than high (0.25–0.6), closed, with a lid."""
    r = rng.uniform(0.05, 0.12)
    h = 2 * r * rng.uniform(0.24, 0.58)
    lip, lid = rng.uniform(0.001, 0.004), rng.uniform(0.12, 0.4) * h
    edge = rng.uniform(0.001, 0.008)
    profile = [(0, 0), (r - 0.003, 0), (r, 0.004), (r, h - lid), (r + lip, h - lid), (r + lip, h - edge)]
    mesh = lathe([*profile, (r + lip - edge, h), (0, h)])
    shape = "round"
    if rng.random() < 0.12:
        mesh.apply_scale([1, rng.uniform(0.6, 0.85), 1])
        shape = "oval"
    return mesh, (shape, "wide and low", "with a flat lid")


@maker("jar", lying=0.15)
def jar(rng: np.random.Generator) -> Made:
    """Jam and spice jars: 5–11 cm across, up to twice as high, a shoulder and a lid narrower than the body."""
    r = rng.uniform(0.024, 0.055)
    h = 2 * r * rng.uniform(0.9, 1.9)
    lid, lid_height = r * rng.uniform(0.72, 0.9), rng.uniform(0.012, 0.022)
    shoulder = h - lid_height - rng.uniform(0.1, 0.2) * h
    profile = [(0, 0), (r * 0.93, 0), (r, 0.006), (r, shoulder), (lid * 0.9, h - lid_height), (lid, h - lid_height)]
    return lathe([*profile, (lid, h), (0, h)]), ("with a shoulder", "with a screw lid")


@maker("bottle", lying=0.25)
def bottle(rng: np.random.Generator) -> Made:
    """Water, wine and sauce bottles: 5–11 cm across, 15–34 cm high, a narrow neck with a cap."""
    r = rng.uniform(0.026, 0.052)
    h = r * rng.uniform(5.2, 8.5)
    neck = r * rng.uniform(0.24, 0.42)
    start, end = h * rng.uniform(0.5, 0.68), h * rng.uniform(0.74, 0.86)
    curve = np.linspace(0, 1, 7)
    shoulder = [(neck + (r - neck) * (1 + np.cos(np.pi * s)) / 2, start + (end - start) * s) for s in curve]
    cap = neck * rng.uniform(1.1, 1.4)
    profile = [(0, 0), (r * 0.9, 0), (r, 0.008), *shoulder, (neck, h - 0.022), (cap, h - 0.022), (cap, h), (0, h)]
    return lathe(profile), ("tall", "with a narrow neck", "with a cap")


@maker("shampoo bottle", lying=0.2)
def shampoo_bottle(rng: np.random.Generator) -> Made:
    """Flat-sided bottles: 5–10 × 3–6 cm, 12–26 cm high, a wide flip cap or a pump."""
    a, h = rng.uniform(0.024, 0.05), rng.uniform(0.12, 0.25)
    flat = rng.uniform(0.45, 0.75)
    taper = rng.uniform(0.7, 1.05)
    body = lathe([(0, 0), (a * 0.9, 0), (a, 0.01), (a * taper, h * 0.75), (a * 0.55, h * 0.85), (0, h * 0.85)])
    body.apply_scale([1, flat, 1])
    if rng.random() < 0.35:
        top = merged(
            rod(a * 0.35, h * 0.08, (0, 0, h * 0.84)),
            rod(0.004, h * 0.16, (0, 0, h * 0.85)),
            block((0.05, 0.012, 0.012), (0.012, 0, h)),
        )
        return merged(body, top), ("flattened", "with a pump")
    cap = rod(a * rng.uniform(0.4, 0.6), h * 0.15, (0, 0, h * 0.85))
    cap.apply_scale([1, max(flat, 0.7), 1])
    return merged(body, cap), ("flattened", "with a wide cap")


@maker("mug", lying=0.12, inverted=0.25)
def mug(rng: np.random.Generator) -> Made:
    """Coffee mugs: 7–10.5 cm across, 7–12.5 cm high, thick wall, a handle at the side."""
    r, h = rng.uniform(0.034, 0.052), rng.uniform(0.07, 0.125)
    foot = r * (rng.uniform(0.92, 1.0) if rng.random() < 0.7 else rng.uniform(0.68, 0.92))
    belly = rng.uniform(-0.05, 0.12) * r
    wall = rng.uniform(0.003, 0.006)
    rows = np.linspace(0, 1, 8)
    outside = [(foot + (r - foot) * s + belly * np.sin(np.pi * s), h * s) for s in rows]
    low, high = h * rng.uniform(0.1, 0.3), h * rng.uniform(0.7, 0.92)
    grip = handle(rng.uniform(0.022, 0.04), low, high, min(foot, r) * 0.95, rng.uniform(0.008, 0.014))
    return merged(vessel(outside, wall), grip), ("with a handle", "open at the top", "hollow")


@maker("glass", lying=0.1, inverted=0.25)
def glass(rng: np.random.Generator) -> Made:
    """Tumblers and paper cups: 5–9.5 cm across, 7–17 cm high, open, without a handle."""
    r = rng.uniform(0.026, 0.047)
    h = r * rng.uniform(2.3, 4.0)
    foot = r * rng.uniform(0.6, 0.95)
    return vessel([(foot, 0), ((foot + r) / 2, h / 2), (r, h)], rng.uniform(0.0015, 0.003)), (
        "tapered",
        "open at the top",
        "without a handle",
    )


@maker("bowl", inverted=0.25)
def bowl(rng: np.random.Generator) -> Made:
    """Cereal, salad and mixing bowls: 10–30 cm across, 0.3–0.6 as high, curved wall, open."""
    r = rng.uniform(0.05, 0.14)
    h = 2 * r * rng.uniform(0.3, 0.62)
    foot = r * rng.uniform(0.3, 0.6)
    power = rng.uniform(0.35, 0.75)
    rows = np.linspace(0, 1, 10)
    outside = [(foot + (r - foot) * s**power, h * s) for s in rows]
    if rng.random() < 0.5:
        outside = [(foot * 0.9, 0), (foot * 0.9, h * 0.05), *((x, y * 0.95 + h * 0.05) for x, y in outside)]
    return vessel(outside, rng.uniform(0.003, 0.006)), ("round", "open at the top", "with a curved wall")


@maker("plate", inverted=0.15)
def plate(rng: np.random.Generator) -> Made:
    """Dinner and side plates: 14–30 cm across, 1–3.5 cm high."""
    r, h = rng.uniform(0.07, 0.15), rng.uniform(0.01, 0.032)
    flat = r * rng.uniform(0.55, 0.75)
    return vessel([(flat * 0.95, 0), (flat, h * 0.15), (r * 0.9, h * 0.8), (r, h)], 0.004), ("flat", "round", "shallow")


@maker("dish", inverted=0.15)
def dish(rng: np.random.Generator) -> Made:
    """Oven and soap dishes: 10–32 cm long, oval or rectangular, low rim, open."""
    a, b, h = rng.uniform(0.06, 0.16), 0.0, rng.uniform(0.02, 0.07)
    b = a * rng.uniform(0.5, 0.8)
    if rng.random() < 0.5:
        mesh = vessel([(a * 0.75, 0), (a * 0.9, h * 0.4), (a, h)], 0.005)
        mesh.apply_scale([1, b / a, 1])
        return mesh, ("oval", "shallow", "open at the top")
    wall = 0.006
    sides = [block((wall, 2 * b, h), (s * a, 0, 0)) for s in (-1, 1)]
    sides += [block((2 * a, wall, h), (0, s * b, 0)) for s in (-1, 1)]
    lugs = [block((0.03, b * 0.8, 0.006), (s * (a + 0.015), 0, h - 0.008)) for s in (-1, 1)]
    return merged(block((2 * a, 2 * b, wall)), *sides, *lugs), ("rectangular", "shallow", "with two lugs")


@maker("pot", inverted=0.43)
def pot(rng: np.random.Generator) -> Made:
    """Cooking pots: 13–30 cm across, 0.4–0.85 as high, two short handles; open or with a lid and knob."""
    r = rng.uniform(0.065, 0.145)
    h = 2 * r * rng.uniform(0.4, 0.85)
    wall = rng.uniform(0.002, 0.005)
    foot = r * rng.uniform(0.86, 1.0)
    curve = r * rng.uniform(0.05, 0.2)
    body = vessel([(foot - curve, 0), (foot, curve), (r, h * 0.97), (r + rng.uniform(0, 0.006), h)], wall)
    level, out, width = h * rng.uniform(0.68, 0.92), rng.uniform(0.02, 0.045), rng.uniform(0.03, 0.055)
    bow = np.column_stack([_bow(out, width), np.zeros(12)])
    grip = tube(bow + np.array([r * 0.97, 0, level]), rng.uniform(0.0045, 0.008))
    parts = [body, grip, turned(grip, np.pi)]
    if rng.random() < 0.3:
        dome = rng.uniform(0.005, 0.03)
        lid = lathe([(r + 0.004, 0), (r * 0.97, 0.006), (r * 0.5, 0.006 + dome * 0.8), (0, 0.006 + dome)])
        knob = rng.uniform(0.01, 0.022)
        parts += [moved(lid, (0, 0, h)), ball((knob, knob, knob * 0.8), (0, 0, h + dome + knob))]
        return merged(*parts), ("with two handles", "with a lid and a knob"), STANDING
    return merged(*parts), ("with two handles", "open at the top", "wide")


def _bow(out: float, half_width: float) -> np.ndarray:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 12)
    return np.column_stack([out * np.cos(angles), half_width * np.sin(angles)])


@maker("pan", inverted=0.15)
def pan(rng: np.random.Generator) -> Made:
    """Frying pans and saucepans: 14–32 cm across, 3–10 cm high, one long handle."""
    r, h = rng.uniform(0.07, 0.16), rng.uniform(0.03, 0.095)
    body = vessel([(r * rng.uniform(0.7, 0.98), 0), (r, h)], 0.004)
    length, rise = r * rng.uniform(1.1, 1.9), rng.uniform(0.0, 0.05)
    grip = tube([(r * 0.97, 0, h * 0.8), (r + length / 2, 0, h * 0.8 + rise), (r + length, 0, h * 0.8 + rise)], 0.011)
    return merged(body, grip), ("round", "with one long handle", "shallow" if h < 0.06 else "deep")


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
    return merged(body, spout, grip, knob), ("with a spout", "with a handle", "round")


@maker("vase", lying=0.1)
def vase(rng: np.random.Generator) -> Made:
    """Vases: 7–20 cm across, 14–40 cm high, curved outline, narrow open neck."""
    r = rng.uniform(0.035, 0.1)
    h = r * rng.uniform(3.0, 5.5)
    foot, neck, lip = r * rng.uniform(0.45, 0.75), r * rng.uniform(0.25, 0.6), r * rng.uniform(0.45, 0.95)
    belly = rng.uniform(0.3, 0.55)
    keys, values = [0, belly, 0.82, 1], [foot, r, neck, lip]
    rows = np.linspace(0, 1, 16)
    # A cubic through four radii bulges like a thrown pot.
    fit = np.polynomial.Polynomial.fit(keys, values, 3)
    outside = [(float(np.clip(fit(s), neck * 0.8, r * 1.15)), h * s) for s in rows]
    return vessel(outside, 0.004), ("tall", "with a narrow neck", "open at the top")


@maker("bucket", inverted=0.2, tabletop=False)
def bucket(rng: np.random.Generator) -> Made:
    """Buckets and waste bins: 20–34 cm across, 20–38 cm high, tapered, open; most with a bail."""
    r = rng.uniform(0.1, 0.17)
    h = 2 * r * rng.uniform(0.85, 1.25)
    body = vessel([(r * rng.uniform(0.65, 0.85), 0), (r * 0.98, h * 0.95), (r * 1.04, h)], 0.004)
    if rng.random() < 0.7:
        lean = rng.uniform(-1.3, 1.3)
        bow = np.column_stack([_bow(r * 0.95, r), np.zeros(12)])
        bail = turned(turned(tube(bow, 0.004), -np.pi / 2, (0, 1, 0)), lean, (0, 1, 0))
        return merged(body, moved(bail, (0, 0, h))), ("tapered", "open at the top", "with a bail handle")
    return body, ("tapered", "open at the top")


@maker("basket", tabletop=False)
def basket(rng: np.random.Generator) -> Made:
    """Rectangular baskets: 20–45 cm long, low walls of slats, a tall handle across."""
    a, b, h = rng.uniform(0.1, 0.22), rng.uniform(0.08, 0.16), rng.uniform(0.08, 0.2)
    flare = rng.uniform(1.0, 1.25)
    floor = prism([(-a, -b), (a, -b), (a, b), (-a, b)], 0.006)
    rails = []
    for level in np.linspace(0.1, 1, 6):
        k = 1 + (flare - 1) * level
        ring = [(-a * k, -b * k), (a * k, -b * k), (a * k, b * k), (-a * k, b * k), (-a * k, -b * k)]
        dense = np.concatenate([np.linspace(p, q, 6) for p, q in pairwise(ring)])
        rails.append(tube(np.column_stack([dense, np.full(len(dense), h * level)]), h / 16, 6))
    bow = np.column_stack([np.zeros(12), _bow(h * 1.2, b * flare)[:, ::-1]])
    return merged(floor, *rails, moved(tube(bow, 0.007), (0, 0, h))), ("with slatted walls", "with a tall handle")
