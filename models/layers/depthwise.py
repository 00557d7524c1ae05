"""Depth-wise separable blocks of YOLOX-nano: DWConvPair, C3DW (Chollet, Xception, arXiv:1610.02357)."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.csp import C3, Bottleneck
from models.registry import RowBlock, register


@register
class DWConvPair(RowBlock):
    """A convolution per channel, then one across channels, each with BatchNorm and activation::

        x -> Conv k x k, one group per channel -> Conv 1x1 -> y

    Unlike ``DWConv``, which is a single grouped convolution.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size of the first convolution.
        stride: stride of the first convolution.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(c_in, c_in, kernel, stride, groups=c_in)
        self.pconv = Conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class DepthwiseBottleneck(Bottleneck):
    """Bottleneck whose 3x3 convolution is a ``DWConvPair``; hidden and output channels are those of the input."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__(channels, channels, shortcut, expansion=1.0)
        self.cv2 = DWConvPair(channels, channels, 3)


@register
class C3DW(C3):
    """C3 whose Bottlenecks have a ``DWConvPair`` for their 3x3 convolution; the three 1x1 convolutions are plain ones.

    Args:
        c_in: input channels.
        c_out: output channels.
        number: how many Bottlenecks.
        shortcut: whether they add their input.
        expansion: hidden channels as a share of ``c_out``.
    """

    def __init__(self, c_in: int, c_out: int, number: int = 1, shortcut: bool = True, expansion: float = 0.5) -> None:
        super().__init__(c_in, c_out, number, shortcut, expansion=expansion)

    def inner(self, hidden: int, number: int, shortcut: bool, groups: int) -> nn.Module:
        """Return the Bottlenecks."""
        return nn.Sequential(*(DepthwiseBottleneck(hidden, shortcut) for _ in range(number)))
