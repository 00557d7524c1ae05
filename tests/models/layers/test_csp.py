"""Bottleneck and the blocks around it."""

from __future__ import annotations

import torch

from models.layers.csp import C3, Bottleneck, C2f


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


def test_a_bottleneck_may_begin_with_a_larger_kernel() -> None:
    assert [Bottleneck(4, 4).cv1.conv.kernel_size, Bottleneck(4, 4, kernel=3).cv1.conv.kernel_size] == [(1, 1), (3, 3)]


def test_c2f_keeps_what_every_bottleneck_gives() -> None:
    block = C2f(8, 12, 2, True).eval()
    x = torch.randn(1, 8, 5, 5)
    first, second = block.cv1(x)[:, :6], block.cv1(x)[:, 6:]
    third = second + block.m[0].cv2(block.m[0].cv1(second))
    fourth = third + block.m[1].cv2(block.m[1].cv1(third))
    assert block.cv2.conv.in_channels == 24
    assert all(
        conv.conv.kernel_size == (3, 3) and conv.conv.in_channels == 6 for b in block.m for conv in (b.cv1, b.cv2)
    )
    torch.testing.assert_close(block(x), block.cv2(torch.cat((first, second, third, fourth), 1)))
    assert not C2f(8, 12).m[0].add
