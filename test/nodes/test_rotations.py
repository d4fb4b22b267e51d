from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipoint3d_ros.nodes.rotations import quaternion, rotation

parts = st.floats(-1, 1, allow_nan=False)


@given(st.tuples(parts, parts, parts, parts))
def test_a_quaternion_survives_the_round_trip_and_its_matrix_is_proper(q):
    q = np.array(q)
    if np.linalg.norm(q) < 0.01:
        return
    matrix = rotation(q)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) > 0.999
    np.testing.assert_allclose(rotation(quaternion(matrix)), matrix, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_are_exact(axis):
    matrix = -np.eye(3)
    matrix[axis, axis] = 1
    expected = np.zeros(4)
    expected[axis] = 1
    np.testing.assert_allclose(np.abs(quaternion(matrix)), expected, atol=1e-12)


def test_a_quarter_turn_about_z_takes_x_to_y():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation((0, 0, half, half)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("broken", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (0, 0, 1), (np.inf, 0, 0, 1)])
def test_what_is_no_rotation_is_refused(broken):
    with pytest.raises(ValueError, match="is not a rotation"):
        rotation(broken)
