"""Procedural shapes: every class, many seeds: sound meshes of household size, resting on the ground."""

import re

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from clipoint3d_ros.clip.descriptions import load_descriptions
from clipoint3d_ros.datasets.shapes import MAKERS, make_shape, surface_points
from clipoint3d_ros.datasets.shapes.poses import inverted, laid, settled
from clipoint3d_ros.datasets.shapes.shape import INVERTED, LYING, STANDING
from clipoint3d_ros.datasets.shapes.solids import block, tube, turned, vessel
from clipoint3d_ros.geometry.camera import DepthCamera, look_at, render
from clipoint3d_ros.resources import config_file

TABLETOP = ["box", "can", "tin", "book", "pot", "bowl", "mug", "carton", "bottle"]


def test_the_library_has_the_classes_it_promises():
    assert len(MAKERS) >= 24
    assert set(TABLETOP) <= set(MAKERS)
    for file in ("pointda10", "graspnetpc10", "household"):
        names = load_descriptions(config_file(f"classes/{file}.yaml")).names
        assert set(names) <= set(MAKERS), file


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_shape_rests_on_the_ground_and_has_a_household_size(name):
    rng = np.random.default_rng(1)
    sizes = []
    for _ in range(6):
        shape = make_shape(name, rng)
        low, high = shape.mesh.bounds
        assert np.isfinite(shape.mesh.vertices).all()
        assert shape.name == name
        assert shape.attributes
        np.testing.assert_allclose(low[2], 0, atol=1e-9)
        np.testing.assert_allclose((low + high)[:2], 0, atol=1e-9)
        largest = np.ptp(shape.mesh.bounds, axis=0).max()
        assert 0.03 < largest < (0.8 if MAKERS[name].tabletop else 3.2), f"a {name} of {largest:.2f} m"
        sizes.append(largest)
    assert max(sizes) > 1.05 * min(sizes), "sizes vary"


def test_shapes_are_the_same_for_the_same_seed():
    first, second = (make_shape("mug", np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.mesh.vertices, second.mesh.vertices)
    assert first.attributes == second.attributes


def test_an_unknown_class_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'nonsense'; there are .*mug"):
        make_shape("nonsense", np.random.default_rng(0))


def test_surface_points_lie_on_the_surface_in_proportion_to_area():
    mesh = block((2, 1, 0.5))
    points = surface_points(mesh, 20000, np.random.default_rng(0))
    assert points.shape == (20000, 3)
    beyond = np.abs(points - [0, 0, 0.25]) - np.array([1, 0.5, 0.25])
    np.testing.assert_allclose(beyond.max(1), 0, atol=1e-6)
    assert (points[:, 2] < 1e-6).mean() == pytest.approx(2 / mesh.area, abs=0.01)


def test_a_vessel_is_open_and_hollow():
    cup = vessel([(0.04, 0), (0.04, 0.1)], 0.004)
    camera = DepthCamera().scaled(0.1)
    pose = look_at(np.array([0.001, 0, 1.0]), np.zeros(3), up=(0, 1, 0))
    middle = render([(cup.vertices, cup.faces)], camera, pose).depth[camera.height // 2, camera.width // 2]
    assert 1 - middle == pytest.approx(0.004, abs=1e-3), "looking in one sees the floor, not a lid"


def test_a_tube_follows_its_path_with_its_radius():
    mesh = tube([(0, 0, 0), (0, 0, 0.5), (0, 0, 1)], 0.1)
    assert np.hypot(*mesh.vertices[:-2, :2].T) == pytest.approx(0.1)
    assert mesh.is_watertight


def _carried(mesh, slack=2e-4):
    """Whether the hull's centre of mass stands above what touches z = 0, and the extents of what touches."""
    touching = mesh.vertices[mesh.vertices[:, 2] < slack][:, :2]
    mass = mesh.convex_hull.center_mass[:2]
    support = ConvexHull(touching)
    margin = -(support.equations[:, :2] @ mass + support.equations[:, 2]).max()
    return margin > -slack, np.ptp(touching, axis=0)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_shape_stands_on_a_facet_that_carries_it(name):
    rng = np.random.default_rng(5)
    for number in range(6):
        shape = make_shape(name, rng)
        carried, _ = _carried(shape.mesh)
        assert carried, f"{name} number {number}, {shape.pose}, {shape.attributes}, would fall over"


def test_a_lying_box_rests_on_a_face_and_mostly_on_its_largest():
    sizes = np.array([0.20, 0.06, 0.30])
    rng = np.random.default_rng(0)
    heights = []
    for _ in range(60):
        low, high = laid(block(sizes), rng).bounds
        heights.append(high[2] - low[2])
        assert np.abs(sizes - heights[-1]).min() < 1e-9, "balanced on an edge"
    heights = np.array(heights)
    assert 0.55 < (heights < 0.07).mean() < 0.95
    assert not (heights > 0.25).any(), "a lying box does not stand"


def test_a_tilted_block_falls_back_onto_its_face():
    level = settled(turned(block((0.1, 0.2, 0.3)), 0.2, (1, 0.4, 0)))
    assert np.ptp(level.bounds, axis=0)[2] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "pose", "share"), [("mug", INVERTED, 0.25), ("can", LYING, 0.3), ("pot", INVERTED, 0.3)]
)
def test_poses_are_drawn_in_their_shares(name, pose, share):
    rng = np.random.default_rng(2)
    drawn = np.mean([make_shape(name, rng).pose == pose for _ in range(160)])
    assert drawn == pytest.approx(share, abs=0.09)


def test_an_inverted_bowl_shows_its_foot():
    bowl = vessel([(0.04, 0), (0.1, 0.08)], 0.004)
    top = inverted(bowl).vertices
    assert np.hypot(*top[top[:, 2] > top[:, 2].max() - 1e-6][:, :2].T).max() == pytest.approx(0.04, abs=1e-6)


def test_the_unseen_classes_can_be_made_and_are_never_trained():
    unseen = load_descriptions(config_file("classes/unseen.yaml"))
    assert len(unseen.names) == 10
    assert set(unseen.names) <= set(MAKERS)
    assert not set(unseen.names) & set(load_descriptions(config_file("classes/household.yaml")).names)


@pytest.mark.parametrize(
    ("name", "low", "high"),  # metres, the longest side
    [
        ("box", 0.06, 0.45),
        ("can", 0.05, 0.26),
        ("tin", 0.07, 0.28),
        ("carton", 0.08, 0.34),
        ("plate", 0.13, 0.34),
        ("pot", 0.14, 0.45),
        ("mug", 0.06, 0.17),
        ("bowl", 0.09, 0.33),
        ("book", 0.13, 0.5),
        ("bottle", 0.13, 0.37),
    ],
)
def test_tableware_has_catalogue_sizes(name, low, high):
    rng = np.random.default_rng(11)
    longest = [np.ptp(make_shape(name, rng).mesh.convex_hull.vertices, axis=0).max() for _ in range(25)]
    assert low < min(longest)
    assert max(longest) < high * 1.2


def test_tins_are_wide_and_cans_are_not():
    rng = np.random.default_rng(4)
    for name, wide in (("tin", True), ("can", False)):
        for _ in range(40):
            shape = make_shape(name, rng)
            if shape.pose == LYING:
                continue
            across, height = np.ptp(shape.mesh.bounds, axis=0)[0], np.ptp(shape.mesh.bounds, axis=0)[2]
            assert (across > 1.48 * height) == wide, f"a {name} {across:.3f} m wide and {height:.3f} m high"


def test_boxes_stand_or_lie_flat_and_seldom_on_a_side():
    rng = np.random.default_rng(9)
    poses = [make_shape("box", rng).pose for _ in range(200)]
    assert 0.4 < np.mean([pose == STANDING for pose in poses]) < 0.62


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_attributes_are_a_few_plain_words_and_nothing_inverted_is_open_at_the_top(name):
    rng = np.random.default_rng(6)
    for _ in range(6):
        shape = make_shape(name, rng)
        assert 2 <= len(shape.attributes) <= 5, shape.attributes
        assert all(re.fullmatch(r"[A-Za-z -]+", words) for words in shape.attributes), shape.attributes
        assert shape.pose != INVERTED or "open at the top" not in shape.attributes
