"""Pyramid pooling blocks against formulas written out here."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.pooling import C3SPP, DAPPM, SPP, SPPF, PyramidPooling
from models.registry import Scale


def test_sppf_equals_spp_with_the_same_weights() -> None:
    spp, sppf = SPP(8, 16, [5, 9, 13]).eval(), SPPF(8, 16, 5).eval()
    sppf.load_state_dict(spp.state_dict())
    x = torch.randn(2, 8, 10, 14)
    assert torch.equal(spp(x), sppf(x))


def test_c3spp_takes_its_width_from_the_input() -> None:
    block = C3SPP(32, 48)
    assert block.cv1.conv.out_channels == 16
    assert block.m.cv2.conv.out_channels == 24
    assert block.cv3.conv.in_channels == 40


def test_pyramid_pooling_averages_the_whole_map() -> None:
    block = PyramidPooling(8).eval()
    x = torch.randn(1, 8, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :8], x)
    whole = block.conv1(x.mean((2, 3), keepdim=True)).expand(-1, -1, 6, 6)
    assert torch.allclose(y[:, 8:10], whole, atol=1e-6)


def activated(stack: nn.Sequential, x: Tensor) -> Tensor:
    """Return BatchNorm of a fresh block in eval mode, SiLU, convolution, from the kernel alone."""
    kernel = stack[-1].weight
    return F.conv2d(F.silu(x / (1 + 1e-5) ** 0.5), kernel, padding=kernel.shape[-1] // 2)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (3, 5)])
def test_dappm_by_its_formula(height: int, width: int) -> None:
    block = DAPPM(6, 8, 4).eval()
    x = torch.randn(2, 6, height, width)
    maps = [activated(block.scale0, x)]
    pooled = [F.avg_pool2d(x, 2 * s + 1, s, s) for s in (2, 4, 8)] + [x.mean((2, 3), keepdim=True)]
    for k, small in enumerate(pooled, 1):
        enlarged = F.interpolate(
            activated(getattr(block, f"scale{k}"), small), (height, width), mode="bilinear", align_corners=True
        )
        maps.append(activated(getattr(block, f"process{k}"), enlarged + maps[-1]))
    expected = activated(block.compression, torch.cat(maps, 1)) + activated(block.shortcut, x)
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_dappm_scales_both_of_its_widths() -> None:
    built = DAPPM.from_row([16], 1, [64, 32], Scale(width=0.25))
    assert built.out_channels == 16 and built.module.scale0[-1].out_channels == 8
    with pytest.raises(ValueError, match="DAPPM takes"):
        DAPPM.from_row([16], 1, [64], Scale())
