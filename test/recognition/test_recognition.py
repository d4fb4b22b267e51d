"""An answer's hypotheses."""

import numpy as np

from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition


def test_hypotheses_come_best_first_and_ties_keep_the_classes_order():
    answer = Recognition("b", 0.4, np.array([0.2, 0.4, 0.2, 0.2]), 1.3, ("a", "b", "c", "d"))
    assert answer.top(3) == [("b", 0.4), ("a", 0.2), ("c", 0.2)]
    assert answer.top(0) == []


def test_unknown_is_the_only_hypothesis_of_an_unknown_object():
    answer = Recognition(UNKNOWN, 0.7, np.array([0.3, 0.3, 0.4]), 1.0, ("a", "b", "c"))
    assert answer.top(3) == [(UNKNOWN, 0.7)]
