"""Augmented clouds stay clouds of the same object; only where asked for is a part missing."""

import torch

from clipoint3d_ros.geometry.augment import augment


def clouds(count=6, points=512):
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(0)) * 0.1


def drawn(points, camera, seed, cut_share=0.2, count=256):
    return augment(points, camera, count, torch.Generator().manual_seed(seed), cut_share)


def test_the_same_seed_gives_the_same_clouds():
    camera = torch.tensor([True, False] * 3)
    first = drawn(clouds(), camera, 1)
    assert first.shape == (6, 256, 3)
    assert torch.isfinite(first).all()
    assert torch.equal(first, drawn(clouds(), camera, 1))
    assert not torch.equal(first, drawn(clouds(), camera, 2))


def test_nothing_is_missing_from_whole_clouds_without_a_cut_share():
    # A long bar: cutting a third off would shorten it, turns and stretches of 8 % do not.
    bar = torch.linspace(-0.5, 0.5, 400)[None, :, None].repeat(64, 1, 3) * torch.tensor([0.0, 1.0, 0.0])
    seen = torch.zeros(64, dtype=torch.bool)
    whole = drawn(bar, seen, 3, cut_share=0.0, count=400)
    assert (whole[..., 1].amax(1) - whole[..., 1].amin(1)).min() > 0.88
    cut = drawn(bar, seen, 3, cut_share=1.0, count=400)
    missing = [float(c[:, 1].quantile(0.98) - c[:, 1].quantile(0.02)) for c in cut]
    assert min(missing) < 0.75


def test_a_cameras_clouds_keep_their_azimuth_and_others_turn_freely():
    front = torch.zeros(400, 64, 3)
    front[..., 2] = torch.linspace(0.0, 1.0, 64)
    for camera, least, most in ((True, 0.6, 0.95), (False, 0.0, 0.3)):
        turned = drawn(front, torch.full((400,), camera), 4, cut_share=0.0, count=64)
        # The share whose far end still points within 30 degrees of +z.
        end = turned[torch.arange(400), turned.norm(dim=-1).argmax(1)]
        share = float((end[:, 2] / end.norm(dim=-1) > 0.866).float().mean())
        assert least <= share <= most, f"camera {camera}: {share:.2f} of the clouds still face the sensor"
