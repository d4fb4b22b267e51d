"""The tower's forward: equal to open_clip's own, room for prompts, and empty patches that take part in nothing."""

import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.stem import install_stem


def vit(**changes):
    torch.manual_seed(0)
    settings = {
        "image_size": 32,
        "patch_size": 8,
        "width": 48,
        "layers": 2,
        "heads": 3,
        "mlp_ratio": 4.0,
        "output_dim": 16,
    }
    return VisionTransformer(**settings, **changes).eval()


IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("changes", [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"no_ln_pre": True}])
def test_forward_equals_open_clips(changes):
    visual = vit(**changes)
    assert (tower.forward(visual, IMAGES) - visual(IMAGES)).abs().max() < 1e-5


@pytest.mark.parametrize("pool_type", ["tok", "avg"])
def test_empty_patches_take_part_in_nothing(pool_type):
    visual = vit(pool_type=pool_type)
    occupancy = torch.rand(5, 16, generator=torch.Generator().manual_seed(2)) < 0.5
    occupancy[0] = False
    occupancy[1] = True
    before = tower.forward(visual, IMAGES, occupancy=occupancy)
    # Whatever stands in the unoccupied patches, the answer is the same …
    mask = occupancy.view(5, 1, 4, 1, 4, 1).expand(-1, 3, -1, 8, -1, 8).reshape(5, 3, 32, 32)
    other = torch.where(mask, IMAGES, torch.full_like(IMAGES, 9.0))
    assert (tower.forward(visual, other, occupancy=occupancy) - before).abs().max() < 1e-5
    # … and it is that of each image alone, without padding to its neighbours' number of patches.
    for i in range(5):
        alone = tower.forward(visual, IMAGES[i : i + 1], occupancy=occupancy[i : i + 1])
        assert (alone - before[i : i + 1]).abs().max() < 1e-5
    assert torch.isfinite(before).all()
    assert (
        tower.forward(visual, IMAGES, occupancy=torch.ones(5, 16, dtype=torch.bool)) - visual(IMAGES)
    ).abs().max() < 1e-5


def test_prompts_join_as_extra_tokens_and_get_a_gradient():
    visual = vit()
    prompts = torch.zeros(5, 4, 48, requires_grad=True)
    answer = tower.forward(visual, IMAGES, prompts)
    assert answer.shape == (5, 16)
    answer.square().sum().backward()
    assert prompts.grad.abs().sum() > 0
    assert not torch.allclose(answer, visual(IMAGES)), "prompts change the answer"
    order = torch.tensor([2, 0, 3, 1])
    varied = torch.randn(5, 4, 48, generator=torch.Generator().manual_seed(3))
    shuffled = tower.forward(visual, IMAGES, varied[:, order])
    assert (tower.forward(visual, IMAGES, varied) - shuffled).abs().max() < 1e-5, "prompts carry no position"


def test_wrong_shapes_are_refused_in_words():
    with pytest.raises(ValueError, match=r"occupancy must be \(5, 16\)"):
        tower.forward(vit(), IMAGES, occupancy=torch.ones(5, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"prompts must be \(5, K, 48\)"):
        tower.forward(vit(), IMAGES, torch.zeros(5, 4, 32))


def test_occupied_patches_are_those_with_something_in_them():
    images = torch.ones(2, 32, 32)
    images[0, 9, 30] = 0.4
    images[1, 0, 0] = 0.999
    occupied = tower.patch_occupancy(images, 8)
    assert occupied.shape == (2, 16)
    assert occupied[0].nonzero().flatten().tolist() == [7]
    assert occupied[1].nonzero().flatten().tolist() == [0]


def test_foreign_towers_are_refused_by_name():
    with pytest.raises(ValueError, match="'RN50' has a vision tower of type ModifiedResNet"):
        tower.check_tower(open_clip.create_model("RN50", pretrained=None).visual, "RN50")
    with pytest.raises(ValueError, match="pools by attention"):
        tower.check_tower(vit(attentional_pool=True), "pooled")


def test_a_stem_keeps_the_grid_of_tokens():
    visual = vit()
    install_stem(visual, (8, 16, 24))
    assert visual.conv1(IMAGES).shape == (5, 48, 4, 4)
    assert tower.forward(visual, IMAGES).shape == (5, 16)
    deeper = vit()
    install_stem(deeper, (8, 16, 24), blocks=2)
    assert deeper.conv1(IMAGES).shape == (5, 48, 4, 4)
    assert sum(p.numel() for p in deeper.conv1.parameters()) > 4 * sum(p.numel() for p in visual.conv1.parameters())
    with pytest.raises(ValueError, match="give 3 channel counts"):
        install_stem(vit(), (8, 16))
