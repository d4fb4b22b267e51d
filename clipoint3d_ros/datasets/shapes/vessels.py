"""Round things that hold something: cans, tins, bottles, jars, vases, buckets, baskets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from clipoint3d_ros.datasets.shapes.shape import Made, maker, said
from clipoint3d_ros.datasets.shapes.solids import (
    arc,
    block,
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


@maker("can", lying=0.3)
def can(rng: np.random.Generator) -> Made:
    """Drink cans, food cans and crisp tubes, never wider than 1.5 times their height.

    Drink cans 53, 58 and 66 mm across (150–500 ml: 85–168 mm high), ends necked to 50 mm and domed beneath; food cans
    65, 73, 83 and 99 mm across and 58–125 mm high, ribbed, with a double seam; crisp tubes 66–80 mm by 8–25 cm.
    """
    kind = rng.choice(["drink", "food", "tube"], p=[0.4, 0.42, 0.18])
    loose = rng.uniform(0.94, 1.06)
    if kind == "drink":
        r, h = np.array([(26.5, 88), (26.5, 134), (29, 145), (33, 115), (33, 150), (33, 168)])[rng.integers(6)] / 1000
        r, h = r * loose, h * rng.uniform(0.94, 1.06)
        end = r * rng.uniform(0.78, 0.88)
        foot = r * rng.uniform(0.7, 0.82)
        profile = [(0, 0.009), (foot - 0.004, 0.003), (foot - 0.001, 0), (foot + 0.002, 0), (r, 0.010), (r, h - 0.016)]
        profile += [(end, h - 0.004), (end + 0.001, h), (end - 0.002, h), (end - 0.003, h - 0.004), (0, h - 0.004)]
        mesh = lathe(profile)
        if rng.random() < 0.5:
            mesh = merged(mesh, block((0.022, 0.013, 0.0015), (0.006, 0, h - 0.003)))
        words = said(rng, "with a narrowed neck", "narrower at both ends", "with a recessed end")
    elif kind == "food":
        r = rng.choice([0.0325, 0.0365, 0.0365, 0.0415, 0.0495]) * loose
        h = max(rng.uniform(0.055, 0.125), (2 * r + 0.004) / 1.45)
        seam, ribs = rng.uniform(0.0008, 0.002), int(rng.integers(0, 9))
        profile = [(0, 0.003), (r - 0.003, 0.003), (r - 0.002, 0), (r + seam, 0), (r + seam, 0.003)]
        rows = np.linspace(0.0, 1.0, 4 * ribs + 2)
        wave = 0.0012 * np.abs(np.sin(np.pi * ribs * rows)) if ribs else np.zeros(2)
        low, high = 0.25 * h if ribs else 0.005, 0.75 * h if ribs else h - 0.005
        profile += [(r, 0.004), *((r - w, low + (high - low) * s) for s, w in zip(rows, wave, strict=True))]
        profile += [(r, h - 0.004), (r + seam, h - 0.003), (r + seam, h), (r - 0.002, h), (r - 0.003, h - 0.004)]
        mesh = lathe([*profile, (0, h - 0.004)])
        words = (
            said(rng, "with ribs around it", "with ring ribs") if ribs else said(rng, "with thin rims", "with two rims")
        )
    else:
        r, h = rng.uniform(0.033, 0.04), rng.uniform(0.08, 0.25)
        lid = rng.uniform(0.006, 0.012)
        profile = [(0, 0), (r + 0.001, 0), (r + 0.001, 0.003), (r, 0.004), (r, h - lid), (r + 0.0015, h - lid)]
        mesh = lathe([*profile, (r + 0.0015, h), (r - 0.003, h), (r - 0.004, h - 0.003), (0, h - 0.003)])
        words = said(rng, "with a thin lid", "a straight tube")
    height = said(rng, "tall", "much higher than wide") if h > 4 * r else said(rng, "short", "about as high as wide")
    return mesh, (
        height if kind != "food" or h > 4 * r else said(rng, "short", "stout"),
        said(rng, "closed", "closed at both ends"),
        said(rng, "with flat round ends", "a straight cylinder", "round without a handle"),
        words,
    )


@maker("tin", lying=0.1)
def tin(rng: np.random.Generator) -> Made:
    """Biscuit and tuna tins: always at least 1.5 times as wide as high, closed, with a stepped lid or a seam.

    Round biscuit tins 12–26 cm by 4–10 cm; tuna and pet-food tins 83–99 mm by 30–50 mm; rectangular and oval biscuit
    and tea tins 14–26 × 9–20 × 4–11 cm with rounded corners.
    """
    kind = rng.choice(["biscuit", "tuna", "rectangular", "oval"], p=[0.48, 0.22, 0.18, 0.12])
    low = said(rng, "wide and low", "much wider than high", "low", "a flat drum" if kind != "rectangular" else "low")
    if kind == "tuna":
        r = rng.choice([0.0415, 0.0425, 0.0495]) * rng.uniform(0.95, 1.08)
        h = rng.uniform(0.028, 0.05)
        profile = [(0, 0.003), (r * 0.8, 0.003), (r * 0.88, 0), (r * 0.97, 0), (r, 0.005), (r, h - 0.004)]
        profile += [(r + 0.0015, h - 0.003), (r + 0.0015, h), (r - 0.002, h), (r - 0.003, h - 0.003)]
        profile += [(r * 0.7, h - 0.003), (r * 0.68, h - 0.002), (0, h - 0.002)]
        return lathe(profile), ("round", low, said(rng, "with a rim", "with a raised edge"), "closed")
    if kind == "biscuit":
        x = y = rng.uniform(0.12, 0.26)
        polygon = outline(x, y, x, 11)
    else:
        x = rng.uniform(0.14, 0.26)
        y = x * rng.uniform(0.6, 0.95)
        polygon = (
            outline(x, y, rng.uniform(0.1, 0.3) * y) if kind == "rectangular" else outline(x, x, x, 11) * [1, y / x]
        )
    h = min(rng.uniform(0.04, 0.105), y / 1.5)
    lid, step, edge = rng.uniform(0.12, 0.45) * h, rng.uniform(0.0008, 0.003), rng.uniform(0.001, 0.007)
    levels = [(step + 0.003, 0), (step, 0.003), (step, h - lid), (0, h - lid), (0, h - edge), (edge, h)]
    if rng.random() < 0.5:  # a raised or sunken panel on the lid
        panel, sign = rng.uniform(0.006, 0.02), rng.choice([-1, 1])
        levels += [(edge + panel, h), (edge + panel + 0.003, h + sign * rng.uniform(0.001, 0.004))]
    shape = {"biscuit": "round", "oval": "oval"}.get(str(kind), "with rounded corners")
    lidded = said(rng, "with a flat lid", "with a stepped lid", "with a lid over its edge")
    return stacked(polygon, levels), (shape, low, lidded, "closed")


@maker("jar", lying=0.15)
def jar(rng: np.random.Generator) -> Made:
    """Jam, pickle and spice jars: 4.5–11 cm across, 0.9–2 times as high, a shoulder and a lid narrower than the body.

    Twist-off finishes 43, 53, 63, 70 and 82 mm on 106–720 ml jars; a visible glass neck below the lid.
    """
    r = rng.uniform(0.023, 0.055)
    h = 2 * r * rng.uniform(0.9, 2.0)
    lid, lid_height = r * rng.uniform(0.66, 0.9), rng.uniform(0.009, 0.02)
    neck = rng.uniform(0.002, 0.006)
    fall = min(rng.uniform(0.12, 0.25) * h, 1.2 * r)
    start = h - lid_height - neck - fall
    curve = np.linspace(0, np.pi / 2, 6)
    shoulder = [(lid * 0.93 + (r - lid * 0.93) * np.cos(t), start + fall * np.sin(t)) for t in curve]
    waist = r * (1 - (rng.uniform(0.02, 0.1) if rng.random() < 0.3 else 0.0))
    profile = [(0, 0), (r * 0.9, 0), (r, 0.006), (waist, start * 0.5), *shoulder, (lid * 0.93, h - lid_height)]
    profile += [(lid, h - lid_height), (lid, h - 0.002), (lid - 0.002, h), (0, h)]
    return lathe(profile), (
        said(rng, "with a shoulder", "with rounded shoulders", "with a short neck"),
        said(rng, "with a screw lid", "with a wide lid", "with a lid narrower than its body"),
        said(rng, "stout", "short and round") if h < 3 * r else said(rng, "round", "upright"),
    )


@maker("bottle", lying=0.25)
def bottle(rng: np.random.Generator) -> Made:
    """Water, wine, beer and sauce bottles: 5–11 cm across, 15–35 cm high, a narrow neck of 24–32 mm.

    Catalogue: 0.33 l beer 61 × 229 mm, 0.5 l PET 65 × 220 mm, 0.75 l wine 76 × 300 mm, 1.5 l PET 88 × 340 mm.
    """
    r = rng.uniform(0.026, 0.05)
    h = r * rng.uniform(5.4, 8.4)
    neck = rng.uniform(0.011, 0.017) * (1 if r < 0.04 else 1.1)
    start, end = h * rng.uniform(0.5, 0.68), h * rng.uniform(0.74, 0.86)
    steep = rng.uniform(0.6, 1.6)
    shoulder = [
        (neck + (r - neck) * (1 + np.cos(np.pi * s**steep)) / 2, start + (end - start) * s)
        for s in np.linspace(0, 1, 8)
    ]
    waist = [(r * (1 - rng.uniform(0.03, 0.14)), start * rng.uniform(0.4, 0.6))] if rng.random() < 0.35 else []
    cap, high = neck * rng.uniform(1.05, 1.35), rng.uniform(0.008, 0.024)
    profile = [(0, 0.004), (r * 0.75, 0), (r * 0.92, 0), (r, 0.008), (r, start * 0.25), *waist, (r, start * 0.8)]
    profile += [*shoulder, (neck, h - high), (cap, h - high), (cap, h), (0, h)]
    return lathe(profile), (
        said(rng, "tall", "slender", "tall and round"),
        said(rng, "with a narrow neck", "with a thin neck"),
        said(rng, "with a cap", "with a small cap", "with sloping shoulders"),
    )


@maker("shampoo bottle", lying=0.2)
def shampoo_bottle(rng: np.random.Generator) -> Made:
    """Flat-sided bottles: 5–10 × 3–6 cm, 12–26 cm high, a wide flip cap or a pump (200–750 ml retail packs)."""
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
        return merged(body, top), (
            said(rng, "flattened", "broader than deep"),
            said(rng, "with a pump", "with a pump on top"),
            "tall",
        )
    cap = rod(a * rng.uniform(0.4, 0.6), h * 0.15, (0, 0, h * 0.85))
    cap.apply_scale([1, max(flat, 0.7), 1])
    return merged(body, cap), (
        said(rng, "flattened", "with flat front and rounded sides"),
        said(rng, "with a wide cap", "with a flip cap"),
        "tall",
    )


@maker("vase", lying=0.1)
def vase(rng: np.random.Generator) -> Made:
    """Vases: 7–20 cm across, 14–40 cm high, curved outline, narrow waist below a flared open lip."""
    r = rng.uniform(0.035, 0.1)
    h = min(r * rng.uniform(3.0, 5.5), 0.42)
    foot, neck = r * rng.uniform(0.45, 0.75), r * rng.uniform(0.3, 0.6)
    lip, belly = neck * rng.uniform(1.15, 1.7), rng.uniform(0.3, 0.55)
    rows = np.linspace(0, 1, 18)
    # Half cosines between foot, belly, neck and lip: smooth like a thrown pot.
    keys, values = np.array([0, belly, rng.uniform(0.78, 0.88), 1]), np.array([foot, r, neck, lip])
    span = np.clip(np.searchsorted(keys, rows, side="right") - 1, 0, 2)
    share = (rows - keys[span]) / (keys[span + 1] - keys[span])
    radii = values[span] + (values[span + 1] - values[span]) * (1 - np.cos(np.pi * share)) / 2
    return vessel(list(zip(radii, rows * h, strict=True)), 0.004), (
        said(rng, "tall", "much higher than wide"),
        said(rng, "with a narrow neck", "with a belly that narrows", "with a curved outline"),
        "open at the top",
        said(rng, "with a flared lip", "with a lip"),
    )


@maker("bucket", inverted=0.2, tabletop=False)
def bucket(rng: np.random.Generator) -> Made:
    """Buckets (5–15 l) and waste bins: 20–34 cm across, 20–38 cm high, tapered, open; most with a bail."""
    r = rng.uniform(0.1, 0.17)
    h = 2 * r * rng.uniform(0.85, 1.25)
    body = vessel([(r * rng.uniform(0.65, 0.85), 0), (r * 0.98, h * 0.95), (r * 1.04, h)], 0.004)
    if rng.random() < 0.7:
        lean = rng.uniform(-1.3, 1.3)
        bow = np.column_stack([arc((r * 0.95, r), -np.pi / 2, np.pi / 2, 12), np.zeros(12)])
        bail = turned(turned(tube(bow, 0.004), -np.pi / 2, (0, 1, 0)), lean, (0, 1, 0))
        return merged(body, moved(bail, (0, 0, h))), (
            said(rng, "tapered", "wider at the rim"),
            "open at the top",
            said(rng, "with a bail handle", "with a thin bow handle"),
        )
    return body, (said(rng, "tapered", "wider at the rim"), "open at the top", "deep")


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
    bow = np.column_stack([np.zeros(12), arc((h * 1.2, b * flare), -np.pi / 2, np.pi / 2, 12)[:, ::-1]])
    return merged(floor, *rails, moved(tube(bow, 0.007), (0, 0, h))), ("with slatted walls", "with a tall handle")
