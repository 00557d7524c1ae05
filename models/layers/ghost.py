"""Ghost blocks: half of the channels by convolution, the other half by cheap filters (Han et al., arXiv:1911.11907)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import Conv, DWConv
from models.layers.csp import C3
from models.registry import RowBlock, register


@register
class GhostConv(RowBlock):
    """Convolution that makes half of its channels from the other half::

        x -> cv1 -> y -> cv2 (depth-wise 5x5) -> |
                    y -----------------------> cat

    Args:
        c_in: input channels.
        c_out: output channels, an even number.
        kernel: kernel size of cv1.
        stride: stride of cv1.
        groups: groups of cv1.
        act: False leaves both activations out.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        if c_out % 2:
            raise ValueError(f"ghost convolutions make pairs of channels, so {c_out} output channels have to be even")
        half = c_out // 2
        self.cv1 = Conv(c_in, half, kernel, stride, groups=groups, act=act)
        self.cv2 = Conv(half, half, 5, groups=half, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


@register
class GhostBottleneck(RowBlock):
    """Two ghost convolutions with a residual::

        stride 1:  x -> GhostConv -> GhostConv (no act) -> + x
        stride 2:  x -> GhostConv -> DWConv /2 (no act) -> GhostConv (no act) -> |
                   x -> DWConv /2 (no act) -> Conv 1x1 (no act) --------------> +

    Args:
        c_in: input channels.
        c_out: output channels, a multiple of 4; those of the input at stride 1.
        kernel: kernel size of the depth-wise convolutions at stride 2.
        stride: 1 or 2.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"the stride of a GhostBottleneck is 1 or 2, but it is {stride}")
        if stride == 1 and c_in != c_out:
            raise ValueError(f"at stride 1 it adds its input, so {c_in} input and {c_out} output channels must agree")
        hidden, halves = c_out // 2, stride == 2
        self.conv = nn.Sequential(
            GhostConv(c_in, hidden),
            DWConv(hidden, hidden, kernel, stride, act=False) if halves else nn.Identity(),
            GhostConv(hidden, c_out, act=False),
        )
        self.shortcut = (
            nn.Sequential(DWConv(c_in, c_in, kernel, stride, act=False), Conv(c_in, c_out, act=False))
            if halves
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


@register
class C3Ghost(C3):
    """C3 with GhostBottlenecks in place of the Bottlenecks; ``shortcut`` and ``groups`` have no effect."""

    def inner(self, hidden: int, number: int, shortcut: bool, groups: int) -> nn.Module:
        return nn.Sequential(*(GhostBottleneck(hidden, hidden) for _ in range(number)))
