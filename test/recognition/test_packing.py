"""Packed rows and their attention, against the same with a mask."""

import torch
import torch.nn.functional as F

from clipoint3d_ros.recognition.packing import attend, packing

PRESENT = torch.tensor([[1, 0, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)


def test_spreading_and_gathering_give_the_rows_back():
    rows = torch.randn(int(PRESENT.sum()), 4)
    packed = packing(PRESENT)
    assert torch.equal(packed.gather(packed.spread(rows)), rows)
    assert packed.starts.tolist() == [0, 3, 4]
    assert packed.longest == 5
    assert packing(PRESENT[:, [0, 2]][[0, 2]]).slots is None, "views of one length need no filling up"


def test_attention_stays_within_each_view():
    torch.manual_seed(0)
    full = torch.randn(3, 5, 24)
    mixed = attend(full[PRESENT], packing(PRESENT), 2)
    q, k, v = full.unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    masked = F.scaled_dot_product_attention(q, k, v, PRESENT[:, None, None]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, masked[PRESENT])
    torch.testing.assert_close(attend(full[PRESENT], packing(PRESENT), 2, True), masked[:, 0])
