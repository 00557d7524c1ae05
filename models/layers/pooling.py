"""Spatial pyramid pooling blocks: SPP, SPPF, C3SPP, PyramidPooling, DAPPM."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.batch_norm import BatchNorm2d
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

    Args:
        c_in: input channels.
        c_out: output channels.
        kernels: odd sizes of the max pools.
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
    """SPP by repeated pooling: three 5x5 pools in a row see 5, 9 and 13 pixels, so the weights of SPP(5, 9, 13) fit.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: odd size of the max pool.
    """

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

    Args:
        c_in: input channels.
        c_out: output channels.
        kernels: odd sizes of the max pools.
        groups: groups of the first two convolutions.
        expansion: hidden channels as a share of the input's.
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

    Args:
        c_in: input channels.
        sizes: rows and columns to which each branch pools.
    """

    def __init__(self, c_in: int, sizes: list[int] | tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        if len(sizes) != 4:
            raise ValueError(f"PyramidPooling takes four pool sizes, but got {list(sizes)}")
        if c_in % 4:
            raise ValueError(f"pyramid pooling divides its channels among four pools, but has {c_in} channels")
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
        blocks = [construct(cls, c_in * 2**i, *args) for i in range(number)]
        return Built(blocks[0] if number == 1 else nn.Sequential(*blocks), c_in * 2**number)


def activated_conv(c_in: int, c_out: int, kernel: int = 1) -> list[nn.Module]:
    """Return BatchNorm, SiLU and a convolution without bias as a list, to be spliced into a Sequential."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return [BatchNorm2d(c_in), nn.SiLU(inplace=True), conv]


@register
class DAPPM(RowBlock):
    """Deep aggregation pyramid pooling (DDRNet, arXiv:2101.06085): each scale is refined with the finer one before it::

        s0 = scale0(x);  sk = scalek(x), pooled: 5 /2, 9 /4, 17 /8, whole map
        y0 = s0;  yk = processk(enlarge(sk) + y(k-1));  y = compression(cat(y0 ... y4)) + shortcut(x)

    ``scale``, ``process``, ``compression`` and ``shortcut`` are BatchNorm, SiLU, convolution. BatchNorm over one pixel
    needs more than one image in training.

    Args:
        c_in: input channels.
        c_out: output channels.
        hidden: channels of a scale; a row's are scaled by the model's width.
    """

    def __init__(self, c_in: int, c_out: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"the hidden channels are a whole number above 0, but they are {hidden}")
        pools = [nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1)]
        self.scale1, self.scale2, self.scale3, self.scale4 = (
            nn.Sequential(pool, *activated_conv(c_in, hidden)) for pool in pools
        )
        self.scale0 = nn.Sequential(*activated_conv(c_in, hidden))
        self.process1, self.process2, self.process3, self.process4 = (
            nn.Sequential(*activated_conv(hidden, hidden, 3)) for _ in pools
        )
        self.compression = nn.Sequential(*activated_conv(5 * hidden, c_out))
        self.shortcut = nn.Sequential(*activated_conv(c_in, c_out))

    def forward(self, x: Tensor) -> Tensor:
        scales = (self.scale1, self.scale2, self.scale3, self.scale4)
        processes = (self.process1, self.process2, self.process3, self.process4)
        maps = [self.scale0(x)]
        for scale, process in zip(scales, processes, strict=True):
            context = F.interpolate(scale(x), x.shape[-2:], mode="bilinear", align_corners=True)
            maps.append(process(context + maps[-1]))
        return self.compression(torch.cat(maps, 1)) + self.shortcut(x)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row and ``[c_out, hidden]``, both scaled by the model's width."""
        if len(args) > 1 and isinstance(args[1], int) and not isinstance(args[1], bool):
            args = [args[0], scale.channels(args[1]), *args[2:]]
        return super().from_row(in_channels, number, args, scale)
