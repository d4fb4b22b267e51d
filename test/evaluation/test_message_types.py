"""Message definitions against the published interfaces."""

import pytest

from clipoint3d_ros.evaluation.message_types import typestore

PUBLISHED = {
    "ObjectHypothesis": "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "BoundingBox3D": "bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "Detection3D": "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_type_hashes_are_the_published_ones(name):
    assert typestore().hash_rihs01(f"vision_msgs/msg/{name}") == f"RIHS01_{PUBLISHED[name]}"
