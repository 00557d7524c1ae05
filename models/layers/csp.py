"""Cross-stage-partial blocks: Bottleneck, C3, BottleneckCSP, C2f (Wang et al., CSPNet, arXiv:1911.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.activations import make_activation
from models.layers.batch_norm import BatchNorm2d
from models.layers.conv import Conv
from models.registry import RowBlock, register


@register
class Bottleneck(RowBlock):
    """Two convolutions with an optional residual::

        x -> Conv 1x1 -> Conv 3x3 -> (+ x) -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        shortcut: add the input where the channels agree.
        groups: groups of the 3x3 convolution.
        expansion: hidden channels as a share of ``c_out``.
        kernel: kernel size of the first convolution; the diagram has the usual 1.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        kernel: int = 1,
    ) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, hidden, kernel)
        self.cv2 = Conv(hidden, c_out, 3, groups=groups)
        self.add = shortcut and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


@register
class C3(RowBlock):
    """CSP block with three convolutions (YOLOv5)::

    x -> cv1 -> n Bottlenecks -> |
    x -> cv2 ------------------> cat -> cv3 -> y

    Subclasses put something else in the place of the Bottlenecks with ``inner``.

    Args:
        c_in: input channels.
        c_out: output channels.
        number: Bottlenecks.
        shortcut: Bottlenecks add their input.
        groups: groups of the Bottlenecks' second convolutions.
        expansion: hidden channels as a share of ``c_out``.
    """

    repeats_inside = True

    def __init__(
        self,
        c_in: int,
        c_out: int,
        number: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, hidden, 1)
        self.cv2 = Conv(c_in, hidden, 1)
        self.cv3 = Conv(2 * hidden, c_out, 1)
        self.m = self.inner(hidden, number, shortcut, groups)

    def inner(self, hidden: int, number: int, shortcut: bool, groups: int) -> nn.Module:
        """Return what stands between cv1 and the concatenation: ``hidden`` channels in and out."""
        return nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, groups, 1.0) for _ in range(number)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@register
class BottleneckCSP(RowBlock):
    """CSP block with plain 1x1 convolutions around the split (YOLOv5 before C3)::

    x -> cv1 -> n Bottlenecks -> cv3 (plain) -> |
    x -> cv2 (plain) -------------------------> cat -> BN -> activation -> cv4 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        number: how many Bottlenecks.
        shortcut: whether they add their input.
        groups: groups of their 3x3 convolutions.
        expansion: hidden channels as a share of ``c_out``.
        activation: the one after the BatchNorm; releases after v5.0 have ``nn.SiLU()`` there.
    """

    repeats_inside = True

    def __init__(
        self,
        c_in: int,
        c_out: int,
        number: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        activation: str = "nn.LeakyReLU(0.1)",
    ) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, hidden, 1)
        self.cv2 = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.cv4 = Conv(2 * hidden, c_out, 1)
        self.bn = BatchNorm2d(2 * hidden)
        self.act = make_activation(activation)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, groups, 1.0) for _ in range(number)))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(y)))


@register
class C2f(RowBlock):
    """CSP block that keeps what every Bottleneck gives (YOLOv8)::

        x -> cv1 -> halves h0, h1;  h(i+2) = Bottleneck 3x3, 3x3 of h(i+1);  cat(h0, h1, ... h(n+1)) -> cv2 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        number: how many Bottlenecks.
        shortcut: whether they add their input.
        groups: groups of their second convolution.
        expansion: channels of a half as a share of ``c_out``.
    """

    repeats_inside = True

    def __init__(
        self,
        c_in: int,
        c_out: int,
        number: int = 1,
        shortcut: bool = False,
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, 2 * hidden, 1)
        self.cv2 = Conv((2 + number) * hidden, c_out, 1)
        self.m = nn.ModuleList(Bottleneck(hidden, hidden, shortcut, groups, 1.0, 3) for _ in range(number))

    def forward(self, x: Tensor) -> Tensor:
        maps = [*self.cv1(x).chunk(2, 1)]
        for bottleneck in self.m:
            maps.append(bottleneck(maps[-1]))
        return self.cv2(torch.cat(maps, 1))
