"""CrossConv and C3x: two one-dimensional kernels are one kernel of rank one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.layers.activations import using_activation
from models.layers.cross import C3x, CrossConv


@pytest.mark.parametrize("stride", [1, 2])
def test_without_activations_it_is_one_convolution_with_the_product_of_both_kernels(stride: int) -> None:
    with using_activation("nn.Identity()"):
        block = CrossConv(4, 6, 3, stride, expansion=0.5).eval()
    across, down = block.cv1.conv.weight[:, :, 0], block.cv2.conv.weight[:, :, :, 0]
    kernel = torch.einsum("hix,ohy->oiyx", across, down) / (1 + 1e-5)
    x = torch.randn(2, 4, 8, 10)
    assert torch.allclose(block(x), F.conv2d(x, kernel, stride=stride, padding=1), atol=1e-5)


def test_adds_its_input_where_asked_and_channels_agree() -> None:
    plain, adding = CrossConv(4, 4).eval(), CrossConv(4, 4, shortcut=True).eval()
    adding.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 5, 5)
    assert torch.allclose(adding(x), plain(x) + x)
    assert not CrossConv(4, 8, shortcut=True).add


@pytest.mark.parametrize("shortcut", [True, False])
def test_c3x_passes_its_shortcut_on(shortcut: bool) -> None:
    block = C3x(8, 16, 2, shortcut)
    assert [inner.add for inner in block.m] == [shortcut, shortcut]
    assert block.m[0].cv1.conv.kernel_size == (1, 3) and block.m[0].cv2.conv.kernel_size == (3, 1)
