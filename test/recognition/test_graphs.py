"""Passes filled up to a bucket: the same answers, one recording a size, and nothing left over from the pass before."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import VisionTransformer

from clipoint3d_ros.clip.backbone import Preprocessing
from clipoint3d_ros.clip.tower import patch_occupancy
from clipoint3d_ros.recognition.engine import Engine, ServedTower
from clipoint3d_ros.recognition.graphs import LARGEST, TOKENS, Bucket, Recordings, bucket, to_front

LOOK = Preprocessing(32, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), drop_empty=True)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def test_a_bucket_holds_the_pass_and_is_not_twice_as_large():
    for views in range(1, LARGEST + 1):
        for tokens in (1, TOKENS, TOKENS + 1, 200):
            size = bucket(views, tokens)
            assert views <= size.views < max(2 * views, 3)
            assert tokens <= size.tokens < tokens + TOKENS


def test_what_is_there_comes_first_in_its_order():
    sequence = torch.arange(8.0).view(2, 4, 1)
    present = torch.tensor([[True, False, True, False], [True, True, False, True]])
    rows, there = to_front(sequence, present)
    assert there.tolist() == [[True, True, False], [True, True, True]]
    assert rows[there].flatten().tolist() == [0, 2, 4, 5, 7]
    assert torch.equal(rows[there], sequence[present])


def tower(pool="tok"):
    torch.manual_seed(3)
    visual = VisionTransformer(32, 8, 32, 3, 2, 4.0, output_dim=16).eval().requires_grad_(False)
    visual.pool_type = pool
    return visual


def views(count, seed):
    rng, made = torch.Generator().manual_seed(seed), torch.ones(count, 32, 32)
    for row in range(count):
        made[row, : 4 + 8 * (row % 4), 2:20] = torch.rand(1, generator=rng) * 0.8
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_played_back_is_as_computed_whatever_was_played_before(device, pool):
    visual = tower(pool).to(device)
    plain, played = (Engine(ServedTower(visual, LOOK), LOOK, torch.float32, graphs) for graphs in (False, True))
    for count, seed in ((5, 1), (16, 2), (3, 3), (5, 4), (16, 5), (1, 6)):
        given = views(count, seed).to(device)
        expected, found = (engine.encode(given, None, None, 100) for engine in (plain, played))
        assert (found - expected).abs().max() < 1e-4, f"{count} views"
    sizes = set(played._recordings._made)
    assert {size.views for size in sizes} == {2, 4, 8, 16}
    assert len(played._recordings) == len(sizes) <= 8, "a size is recorded once"


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_more_views_than_any_bucket_holds_are_not_recorded(pool):
    served = ServedTower(tower(pool), LOOK)
    recordings = Recordings(served.through)
    for count in (LARGEST + 1, LARGEST + 7):
        given = views(count, 1)
        occupancy = patch_occupancy(given, 8)
        found, expected = (served(given, None, occupancy, played) for played in (recordings, None))
        assert (found - expected).abs().max() < 1e-4
    assert len(recordings) == 0, "every number of views beyond the largest bucket has a recording of its own"


def test_a_result_is_the_caller_s_own():
    def doubled(rows, packed):
        return 2 * rows

    recordings = Recordings(doubled)
    present = torch.ones(2, 3, dtype=torch.bool)
    first = recordings(torch.ones(2, 3, 4), present)
    recordings(torch.zeros(2, 3, 4), present)
    assert set(recordings._made) == {Bucket(2, TOKENS)}
    assert first.shape == (2, TOKENS, 4)
    assert (first[:, :3] == 2).all(), "the pass after it does not write over it"
