"""Bottleneck and the blocks around it."""

from __future__ import annotations

import torch

from models.layers.csp import C3, Bottleneck


def test_bottleneck_adds_only_where_channels_agree() -> None:
    x = torch.randn(1, 8, 4, 4)
    same, plain, other = Bottleneck(8, 8).eval(), Bottleneck(8, 8, False).eval(), Bottleneck(8, 16).eval()
    plain.load_state_dict(same.state_dict())
    assert torch.allclose(same(x), plain(x) + x)
    assert not other.add


def test_c3_joins_two_ways() -> None:
    block = C3(8, 12, 2, False, expansion=0.25).eval()
    x = torch.randn(1, 8, 5, 5)
    ways = block.m[1](block.m[0](block.cv1(x))), block.cv2(x)
    assert block.cv1.conv.out_channels == 3 and not block.m[0].add
    assert torch.allclose(block(x), block.cv3(torch.cat(ways, 1)))
