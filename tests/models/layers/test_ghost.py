"""Ghost blocks against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.conv import Conv
from models.layers.ghost import GhostBottleneck, GhostConv


def by_hand(block: Conv, x: Tensor, act: bool, **options: int) -> Tensor:
    """Return what a fresh Conv block gives in eval mode, from its kernel alone."""
    y = F.conv2d(x, block.conv.weight, **options) / (1 + block.bn.eps) ** 0.5
    return F.silu(y) if act else y


@pytest.mark.parametrize("act", [True, False])
def test_second_half_is_made_from_the_first(act: bool) -> None:
    block = GhostConv(6, 8, 3, 2, act=act).eval()
    x = torch.randn(2, 6, 10, 12)
    first = by_hand(block.cv1, x, act, stride=2, padding=1)
    second = by_hand(block.cv2, first, act, padding=2, groups=4)
    assert torch.allclose(block(x), torch.cat((first, second), 1), atol=1e-6)


def test_odd_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="7 output channels have to be even"):
        GhostConv(4, 7)


def test_bottleneck_adds_its_input_at_stride_one() -> None:
    block = GhostBottleneck(8, 8).eval()
    x = torch.randn(1, 8, 5, 5)
    assert torch.allclose(block(x) - x, block.conv[2](block.conv[0](x)), atol=1e-6)
    last = block.conv[2]
    hidden = block.conv[0](x)
    first = by_hand(last.cv1, hidden, False)
    assert torch.allclose(block.conv(x)[:, :4], first, atol=1e-6)


def test_bottleneck_halves_both_ways_at_stride_two() -> None:
    block = GhostBottleneck(8, 16, 3, 2).eval()
    x = torch.randn(1, 8, 6, 10)
    down = by_hand(block.shortcut[0], x, False, stride=2, padding=1, groups=8)
    side = by_hand(block.shortcut[1], down, False)
    hidden = by_hand(block.conv[1], block.conv[0](x), False, stride=2, padding=1, groups=8)
    assert torch.allclose(block(x), block.conv[2](hidden) + side, atol=1e-6)


@pytest.mark.parametrize(("arguments", "words"), [((8, 16), "must agree"), ((8, 8, 3, 3), "is 1 or 2")])
def test_bottlenecks_that_cannot_add_are_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GhostBottleneck(*arguments)
