"""The size token: metres in, a token out; what is no size is told apart."""

import pytest
import torch
from open_clip.transformer import VisionTransformer

from clipoint3d_ros.clip.size import LARGEST, SMALLEST, SizeToken, install_size_token, size_prompts


@pytest.fixture
def token():
    torch.manual_seed(0)
    made = SizeToken(24)
    torch.nn.init.constant_(made.unknown, 7.0)
    return made


def test_sizes_give_different_tokens_smoothly(token):
    tokens = token(torch.tensor([[0.05, 0.2, 0.1], [0.051, 0.2, 0.1], [0.5, 0.2, 0.1]]))
    assert tokens.shape == (3, 1, 24)
    near, far = (tokens[0] - tokens[1]).norm(), (tokens[0] - tokens[2]).norm()
    assert 0 < near < 0.2 * far


@pytest.mark.parametrize(
    "extents",
    [[torch.nan, 0.1, 0.1], [torch.inf, 0.1, 0.1], [LARGEST * 2, 0.1, 0.1], [SMALLEST / 2, SMALLEST / 2, 0.0]],
)
def test_what_is_no_size_gets_the_unknown_token_and_finite_gradients(token, extents):
    tokens = token(torch.tensor([extents, [0.1, 0.1, 0.1]]))
    assert (tokens[0] == 7).all()
    assert not (tokens[1] == 7).any()
    tokens.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in token.parameters())


def test_a_flat_object_has_a_size(token):
    assert not (token(torch.tensor([[0.0, 0.3, 0.2]])) == 7).any()


def test_a_tower_without_the_token_does_not_look_at_sizes():
    visual = VisionTransformer(32, 8, 48, 1, 3, 4.0, output_dim=16)
    assert size_prompts(visual, torch.ones(2, 3), 2) is None
    install_size_token(visual)
    assert size_prompts(visual, torch.ones(2, 3), 2).shape == (2, 1, 48)
    assert torch.equal(size_prompts(visual, None, 2), size_prompts(visual, torch.full((2, 3), torch.nan), 2))
    assert "size_token.unknown" in visual.state_dict(), "its weights travel with the tower's"
