"""Convolution blocks against formulas written out here."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.layers.conv import Conv, DWConv, DWConvTranspose2d, Focus


def test_focus_equals_a_convolution_of_six_by_six() -> None:
    """W6[o, c, 2i + dy, 2j + dx] = W3[o, g C + c, i, j] for the phase g = (dy, dx) (0,0), (1,0), (0,1), (1,1)."""
    focus, stem = Focus(3, 8, 3).eval(), Conv(3, 8, 6, 2, 2).eval()
    with torch.no_grad():
        for g, (dy, dx) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
            stem.conv.weight[:, :, dy::2, dx::2] = focus.conv.conv.weight[:, 3 * g : 3 * g + 3]
    x = torch.randn(1, 3, 16, 24)
    assert torch.allclose(focus(x), stem(x), atol=1e-5)


def test_kernels_and_padding_per_axis() -> None:
    x = torch.randn(1, 4, 8, 8)
    assert Conv(4, 4, [1, 3])(x).shape == (1, 4, 8, 8)
    assert Conv(4, 4, (3, 1), (2, 1))(x).shape == (1, 4, 4, 8)
    assert Conv(4, 4, 3, dilation=2)(x).shape == (1, 4, 8, 8)
    assert isinstance(Conv(4, 4, act=False).act, nn.Identity)


@pytest.mark.parametrize(("c_in", "c_out", "groups"), [(8, 8, 8), (8, 12, 4), (5, 7, 1)])
def test_depthwise_groups_are_the_common_divisor(c_in: int, c_out: int, groups: int) -> None:
    assert DWConv(c_in, c_out, 3).conv.groups == groups
    assert DWConvTranspose2d(c_in, c_out, 2, 2).groups == groups


def test_transposed_convolution_enlarges_every_channel_by_itself() -> None:
    block = DWConvTranspose2d(4, 4, 3, 2, 1, 1)
    x = torch.randn(1, 4, 5, 6)
    single = [
        F.conv_transpose2d(x[:, i : i + 1], block.weight[i : i + 1], block.bias[i : i + 1], 2, 1, 1) for i in range(4)
    ]
    assert block(x).shape == (1, 4, 10, 12)
    assert torch.allclose(block(x), torch.cat(single, 1), atol=1e-6)
