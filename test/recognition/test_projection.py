"""What the first stage gives the second."""

import torch

from clipoint3d_ros.recognition.projection import Projection


def test_without_sizes_only_the_sizes_go():
    first = torch.rand(2, 3, 8, 8)
    made = Projection(
        first, torch.zeros(2, 3), torch.ones(2, 3) / 3, torch.rand(2, 5, 3), torch.rand(2, 3), torch.ones(2), True
    )
    bare = made.without_sizes()
    assert bare.extents.isnan().all()
    assert not made.extents.isnan().any(), "the one it was made from stays"
    assert bare.images is first
    assert bare.facing
