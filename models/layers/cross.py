"""A 3x3 convolution cut in two, row and column: CrossConv, and C3x made of it."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.csp import C3
from models.registry import RowBlock, register


@register
class CrossConv(RowBlock):
    """A horizontal, then a vertical convolution::

        x -> Conv 1 x k, stride along x -> Conv k x 1, stride along y -> (+ x) -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: length of both kernels.
        stride: stride of the pair.
        groups: groups of the vertical convolution.
        expansion: hidden channels as a share of ``c_out``.
        shortcut: add the input where the channels agree.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        expansion: float = 1.0,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, hidden, (1, kernel), (1, stride))
        self.cv2 = Conv(hidden, c_out, (kernel, 1), (stride, 1), groups=groups)
        self.add = shortcut and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


@register
class C3x(C3):
    """C3 with CrossConvs of kernel 3 in place of the Bottlenecks."""

    def inner(self, hidden: int, number: int, shortcut: bool, groups: int) -> nn.Module:
        return nn.Sequential(*(CrossConv(hidden, hidden, 3, 1, groups, 1.0, shortcut) for _ in range(number)))
