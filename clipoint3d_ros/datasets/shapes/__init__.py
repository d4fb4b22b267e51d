"""Procedural household shapes: one maker a class, random in proportion and metric size."""

from clipoint3d_ros.datasets.shapes import cookware, desk, furniture, packages, unseen, vessels
from clipoint3d_ros.datasets.shapes.shape import MAKERS, Shape, make_shape, rested, surface_points

__all__ = [
    "MAKERS",
    "Shape",
    "cookware",
    "desk",
    "furniture",
    "make_shape",
    "packages",
    "rested",
    "surface_points",
    "unseen",
    "vessels",
]
