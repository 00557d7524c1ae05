"""Spatial pyramid pooling blocks: SPP, SPPF, C3SPP, PyramidPooling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.conv import Conv
from models.registry import Built, RowBlock, Scale, construct, register, single_input


def check_odd(kernels: list[int] | tuple[int, ...]) -> None:
    """Refuse pools that would change the size of the map.

    Raises:
        ValueError: a kernel is not an odd number above 0.
    """
    wrong = [kernel for kernel in kernels if kernel < 1 or kernel % 2 == 0]
    if wrong:
        raise ValueError(f"pool kernels are odd numbers above 0, so that the size stays, but one is {wrong[0]}")


@register
class SPP(RowBlock):
    """Spatial pyramid pooling (He et al., arXiv:1406.4729) as YOLO uses it::

    x -> cv1 -> [x, maxpool k1, maxpool k2, ...] -> cat -> cv2 -> y
    """

    def __init__(self, c_in: int, c_out: int, kernels: list[int] | tuple[int, ...] = (5, 9, 13)) -> None:
        super().__init__()
        check_odd(kernels)
        hidden = c_in // 2
        self.cv1 = Conv(c_in, hidden, 1)
        self.cv2 = Conv(hidden * (len(kernels) + 1), c_out, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in kernels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


@register
class SPPF(RowBlock):
    """SPP by repeated pooling: three 5x5 pools in a row see 5, 9 and 13 pixels, so the weights of SPP(5, 9, 13) fit."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 5) -> None:
        super().__init__()
        check_odd([kernel])
        hidden = c_in // 2
        self.cv1 = Conv(c_in, hidden, 1)
        self.cv2 = Conv(hidden * 4, c_out, 1)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


@register
class C3SPP(RowBlock):
    """C3 with SPP in place of the bottlenecks, as the multi-task YOLOv5 has it (hidden channels from the input)::

    x -> cv1 -> SPP to 1.5 hidden -> |
    x -> cv2 ----------------------> cat -> cv3 -> y
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernels: list[int] | tuple[int, ...] = (5, 9, 13),
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(c_in * expansion)
        wide = int(1.5 * hidden)
        self.cv1 = Conv(c_in, hidden, 1, groups=groups)
        self.cv2 = Conv(c_in, hidden, 1, groups=groups)
        self.cv3 = Conv(hidden + wide, c_out, 1)
        self.m = SPP(hidden, wide, kernels)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@register
class PyramidPooling(RowBlock):
    """Pyramid pooling module (Zhao et al., PSPNet, arXiv:1612.01105); doubles the channels::

    x -> [x, pool 1, pool 2, pool 3, pool 6: each Conv to C/4, bilinear back] -> cat
    """

    def __init__(self, c_in: int, sizes: list[int] | tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        if len(sizes) != 4:
            raise ValueError(f"PyramidPooling takes four pool sizes, but got {list(sizes)}")
        self.sizes = tuple(sizes)
        self.conv1, self.conv2, self.conv3, self.conv4 = (Conv(c_in, c_in // 4, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        convs = (self.conv1, self.conv2, self.conv3, self.conv4)
        pooled = [conv(F.adaptive_avg_pool2d(x, size)) for conv, size in zip(convs, self.sizes, strict=True)]
        back = [F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=True) for y in pooled]
        return torch.cat([x, *back], 1)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row; the output has twice its channels."""
        c_in = single_input(cls, in_channels)
        return Built(construct(cls, c_in, *args), 2 * c_in)
