"""Attention, SE and ARM against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.layers.channel_attention import ARM, SE, Attention

EPS = 1e-5
"""Of a BatchNorm outside of a graph."""


@pytest.mark.parametrize("reduction", [1, 4])
def test_attention_by_its_formula(reduction: int) -> None:
    block = Attention(8, reduction).eval()
    x = torch.randn(2, 8, 5, 6)
    weight = x.mean((2, 3), keepdim=True)
    *inner, outer = (module.conv.weight for module in block.W if hasattr(module, "conv"))
    for kernel in inner:
        weight = F.silu(F.conv2d(weight, kernel) / (1 + EPS) ** 0.5)
    weight = torch.sigmoid(F.conv2d(weight, outer) / (1 + EPS) ** 0.5)
    assert len(inner) == (reduction > 1)
    assert torch.allclose(block(x), x * weight, atol=1e-6)


@pytest.mark.parametrize(("channels", "hidden"), [(16, 1), (86, 5), (172, 10), (345, 21), (691, 43)])
def test_se_by_its_formula(channels: int, hidden: int) -> None:
    block = SE(channels).eval()
    x = torch.randn(2, channels, 5, 6)
    first, second = (module.weight for module in (block.fc[0], block.fc[2]))
    weight = torch.sigmoid(torch.relu(x.mean((2, 3)) @ first.T) @ second.T)
    assert first.shape == (hidden, channels)
    assert torch.allclose(block(x), x * weight[:, :, None, None], atol=1e-6)


def test_arm_by_its_formula() -> None:
    block = ARM(6, 8).eval()
    x = torch.randn(2, 6, 5, 6)
    f = F.silu(F.conv2d(x, block.conv.conv.weight, padding=1) / (1 + EPS) ** 0.5)
    kernel = block.channel_attention[1].conv.weight
    weight = torch.sigmoid(F.conv2d(f.mean((2, 3), keepdim=True), kernel) / (1 + EPS) ** 0.5)
    assert torch.allclose(block(x), f * weight, atol=1e-6)


@pytest.mark.parametrize("reduction", [0, 9])
def test_reductions_that_leave_no_channel_are_refused(reduction: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the 8 channels"):
        Attention(8, reduction)
    with pytest.raises(ValueError, match="from 1 to the 8 channels"):
        SE(8, reduction)
