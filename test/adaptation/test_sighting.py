"""One object as it was seen."""

from __future__ import annotations

import numpy as np
import pytest
from memories_made import WIDTH, sighting


def test_a_sighting_owns_its_arrays_so_that_bytes_are_what_they_seem():
    message = np.zeros((1000, WIDTH), np.float32)
    one = sighting(feature=message[0], cloud=np.zeros((5000, 3), np.float64)[:50])
    assert one.feature.base is None
    assert one.cloud.base is None
    assert one.cloud.dtype == np.float32
    message[:] = 7
    assert not one.feature.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feature": np.ones((1, 4))}, r"feature has shape \(1, 4\)"),
        ({"logits": []}, "logits has shape"),
        ({"cloud": np.ones((4, 2))}, r"cloud has shape \(4, 2\)"),
        ({"cloud": np.ones((0, 3))}, r"cloud has shape \(0, 3\)"),
        ({"label": 4}, "label is 4, but it has logits of 4 classes"),
        ({"label": -2}, "label is -2"),
        ({"agreement": 1.2}, "agreement is 1.2"),
        ({"familiarity": -0.5}, "familiarity is -0.5"),
        ({"points": -1}, "-1 points"),
    ],
)
def test_what_is_no_sighting_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=words):
        sighting(**change)
