"""Layers against formulas written out here, shapes, and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.conv import Conv, DWConv, Focus
from models.layers.csp import C3, Bottleneck, BottleneckCSP
from models.layers.joining import Concat
from models.layers.pooling import C3SPP, SPP, SPPF, PyramidPooling
from models.layers.segmentation import ASPP, FFM, RFB2
from models.registry import Scale, lookup

BLOCKS = {
    "Conv": Conv(8, 16, 3),
    "DWConv": DWConv(8, 16, 3),
    "Focus": Focus(8, 16, 3),
    "Bottleneck": Bottleneck(8, 16),
    "C3": C3(8, 16, 2),
    "BottleneckCSP": BottleneckCSP(8, 16, 2),
    "SPP": SPP(8, 16),
    "SPPF": SPPF(8, 16),
    "C3SPP": C3SPP(8, 16),
    "PyramidPooling": PyramidPooling(8),
    "ASPP": ASPP(8, 16),
    "RFB2": RFB2(8, 16, global_pool=True),
    "FFM": FFM(8, 16, reduction=2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_shape_and_gradient_of_every_parameter(name: str) -> None:
    block = BLOCKS[name].train()
    x = torch.randn(2, 8, 12, 20, requires_grad=True)
    y = block(x)
    expected = (6, 10) if name == "Focus" else (12, 20)
    assert y.shape == (2, 16, *expected)
    (y * torch.randn_like(y)).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())


def test_focus_equals_a_convolution_of_six_by_six() -> None:
    """W6[o, c, 2i + dy, 2j + dx] = W3[o, g C + c, i, j] for the phase g = (dy, dx) (0,0), (1,0), (0,1), (1,1)."""
    focus, stem = Focus(3, 8, 3).eval(), Conv(3, 8, 6, 2, 2).eval()
    with torch.no_grad():
        for g, (dy, dx) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
            stem.conv.weight[:, :, dy::2, dx::2] = focus.conv.conv.weight[:, 3 * g : 3 * g + 3]
    x = torch.randn(1, 3, 16, 24)
    assert torch.allclose(focus(x), stem(x), atol=1e-5)


def test_sppf_equals_spp_with_the_same_weights() -> None:
    spp, sppf = SPP(8, 16, [5, 9, 13]).eval(), SPPF(8, 16, 5).eval()
    sppf.load_state_dict(spp.state_dict())
    x = torch.randn(2, 8, 10, 14)
    assert torch.equal(spp(x), sppf(x))


def test_bottleneck_adds_only_where_channels_agree() -> None:
    x = torch.randn(1, 8, 4, 4)
    same, plain, other = Bottleneck(8, 8).eval(), Bottleneck(8, 8, False).eval(), Bottleneck(8, 16).eval()
    plain.load_state_dict(same.state_dict())
    assert torch.allclose(same(x), plain(x) + x)
    assert not other.add


def test_c3spp_takes_its_width_from_the_input() -> None:
    block = C3SPP(32, 48)
    assert block.cv1.conv.out_channels == 16
    assert block.m.cv2.conv.out_channels == 24
    assert block.cv3.conv.in_channels == 40


def test_ffm_by_its_formula() -> None:
    block = FFM(8, 4).eval()
    x = torch.randn(2, 8, 5, 7)
    f = block.convblk(x)
    pooled = f.mean((2, 3), keepdim=True)
    attention = torch.sigmoid(
        F.conv2d(F.silu(F.conv2d(pooled, block.channel_attention[1].weight)), block.channel_attention[3].weight)
    )
    assert torch.allclose(block(x), f * attention + f, atol=1e-6)


def test_rfb2_is_a_cascade_and_pools_its_last_map() -> None:
    block = RFB2(8, 4, map_reduce=2, dilations=(2, 3), global_pool=True).eval()
    x = torch.randn(1, 8, 9, 9)
    x0 = block.branch0(x)
    x1 = block.branch1(x0)
    x2 = block.branch2(x1)
    pooled = block.branch4(x2).expand(-1, -1, 9, 9)
    assert torch.allclose(block(x), block.ConvLinear(torch.cat((x0, x1, x2, block.branch3(x), pooled), 1)), atol=1e-6)
    assert block.branch1[0].dilation == (2, 2) and block.branch2[0].dilation == (3, 3)


def test_aspp_without_the_global_branch_has_four() -> None:
    block = ASPP(12, 8, (3, 6, 9), global_pool=False, map_reduce=3)
    assert block.branch4 is None and block.ConvLinear.conv.in_channels == 16


def test_pyramid_pooling_averages_the_whole_map() -> None:
    block = PyramidPooling(8).eval()
    x = torch.randn(1, 8, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :8], x)
    whole = block.conv1(x.mean((2, 3), keepdim=True)).expand(-1, -1, 6, 6)
    assert torch.allclose(y[:, 8:10], whole, atol=1e-6)


def test_kernels_and_padding_per_axis() -> None:
    x = torch.randn(1, 4, 8, 8)
    assert Conv(4, 4, [1, 3])(x).shape == (1, 4, 8, 8)
    assert Conv(4, 4, (3, 1), (2, 1))(x).shape == (1, 4, 4, 8)
    assert Conv(4, 4, 3, dilation=2)(x).shape == (1, 4, 8, 8)
    assert isinstance(Conv(4, 4, act=False).act, nn.Identity)


@pytest.mark.parametrize(("c_in", "c_out", "groups"), [(8, 8, 8), (8, 12, 4), (5, 7, 1)])
def test_depthwise_groups_are_the_common_divisor(c_in: int, c_out: int, groups: int) -> None:
    assert DWConv(c_in, c_out, 3).conv.groups == groups


def test_concat_sums_channels() -> None:
    built = Concat.from_row([3, 5, 8], 1, [1], Scale())
    assert built.out_channels == 16
    parts: list[Tensor] = [torch.zeros(1, c, 2, 2) for c in (3, 5, 8)]
    assert built.module(parts).shape[1] == 16


@pytest.mark.parametrize(
    ("name", "args", "in_channels", "out_channels", "shape"),
    [
        ("nn.Upsample", [None, 2, "nearest"], 4, 4, (16, 16)),
        ("Upsample", [None, 2, "nearest"], 4, 4, (16, 16)),
        ("torch.nn.MaxPool2d", [2, 2, 0], 4, 4, (4, 4)),
        ("nn.ZeroPad2d", [[0, 1, 0, 1]], 4, 4, (9, 9)),
        ("nn.Conv2d", [16, 3, 2, 1], 4, 8, (4, 4)),
        ("nn.ConvTranspose2d", [16, 2, 2], 4, 8, (16, 16)),
        ("nn.BatchNorm2d", [], 4, 4, (8, 8)),
        ("nn.Identity", [], 4, 4, (8, 8)),
    ],
)
def test_pytorch_modules(name: str, args: list, in_channels: int, out_channels: int, shape: tuple[int, int]) -> None:
    built = lookup(name).from_row([in_channels], 1, args, Scale(width=0.5))
    y = built.module(torch.randn(2, in_channels, 8, 8))
    assert built.out_channels == out_channels
    assert y.shape == (2, out_channels, *shape)


def test_pytorch_modules_can_repeat() -> None:
    built = lookup("nn.MaxPool2d").from_row([4], 2, [2], Scale())
    assert built.module(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 2, 2)


@pytest.mark.parametrize("name", ["nn.Module", "nn.modules", "os", "nn.init", "Tensor", "__builtins__"])
def test_only_registered_names_can_be_reached(name: str) -> None:
    with pytest.raises(ValueError, match="no module named"):
        lookup(name)
