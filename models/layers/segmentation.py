"""Context and fusion blocks of the segmentation heads: ASPP, ASPPs, RFB1, RFB2, FFM, and what they share.

The widths and dilations are those of the multi-task YOLOv5; the ideas come from DeepLabv3 (arXiv:1706.05587),
RFBNet (arXiv:1711.07767) and BiSeNet (arXiv:1808.00897).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.batch_norm import BatchNorm2d
from models.layers.conv import Conv
from models.registry import Built, RowBlock, Scale, register


def dilated_conv(c_in: int, c_out: int, dilation: int) -> list[nn.Module]:
    """Return a dilated 3x3 convolution, its BatchNorm and SiLU as a list, to be spliced into a Sequential."""
    conv = nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation, bias=False)
    return [conv, BatchNorm2d(c_out), nn.SiLU(inplace=True)]


def check_branches(c_in: int, map_reduce: int, dilations: list[int] | tuple[int, ...], branches: int) -> int:
    """Return the channels of a branch.

    Raises:
        ValueError: the divisor leaves no channel, or there is not one dilation above 0 for every dilated branch.
    """
    if not 1 <= map_reduce <= c_in:
        raise ValueError(f"map_reduce is from 1 to the {c_in} input channels, but it is {map_reduce}")
    if len(dilations) != branches or min(dilations) < 1:
        raise ValueError(f"the dilations are {branches} numbers above 0, but they are {list(dilations)}")
    return c_in // map_reduce


@register
class ASPP(RowBlock):
    """Atrous spatial pyramid pooling::

        x -> 1x1, dilated d1, dilated d2, dilated d3 (, global pool) -> cat -> 1x1 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        dilations: dilations of the three 3x3 branches.
        global_pool: add a branch that sees the whole map.
        map_reduce: every branch has ``c_in // map_reduce`` channels.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        dilations: list[int] | tuple[int, ...] = (3, 6, 9),
        global_pool: bool = True,
        map_reduce: int = 4,
    ) -> None:
        super().__init__()
        hidden = check_branches(c_in, map_reduce, dilations, 3)
        self.branch0 = nn.Sequential(Conv(c_in, hidden, 1))
        self.branch1, self.branch2, self.branch3 = (nn.Sequential(*dilated_conv(c_in, hidden, d)) for d in dilations)
        self.branch4 = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(c_in, hidden, 1)) if global_pool else None
        self.ConvLinear = Conv(hidden * (5 if global_pool else 4), c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        if self.branch4 is not None:
            maps.append(F.interpolate(self.branch4(x), x.shape[-2:], mode="nearest"))
        return self.ConvLinear(torch.cat(maps, 1))


@register
class ASPPs(RowBlock):
    """ASPP whose branches narrow the channels first, each by itself::

        branch0: 1x1, 3x3;  branch k: 1x1, dilated dk (k = 1, 2, 3);  branch4: global pool, 1x1
        x -> branch0, branch1, branch2, branch3 (, branch4) -> cat -> 1x1 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        dilations: dilations of the three dilated branches.
        global_pool: add a branch that sees the whole map.
        map_reduce: every branch has ``c_in // map_reduce`` channels.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        dilations: list[int] | tuple[int, ...] = (3, 6, 9),
        global_pool: bool = True,
        map_reduce: int = 4,
    ) -> None:
        super().__init__()
        hidden = check_branches(c_in, map_reduce, dilations, 3)
        self.branch0 = nn.Sequential(Conv(c_in, hidden, 1), Conv(hidden, hidden, 3))
        self.branch1, self.branch2, self.branch3 = (
            nn.Sequential(Conv(c_in, hidden, 1), *dilated_conv(hidden, hidden, d)) for d in dilations
        )
        self.branch4 = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(c_in, hidden, 1)) if global_pool else None
        self.ConvLinear = Conv(hidden * (5 if global_pool else 4), c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        if self.branch4 is not None:
            maps.append(F.interpolate(self.branch4(x), x.shape[-2:], mode="nearest"))
        return self.ConvLinear(torch.cat(maps, 1))


@register
class RFB1(RowBlock):
    """Receptive field block with parallel branches of growing kernels and dilations::

        branch0: 1x1, 3x3;  branch k: 1x1, 3x3 (k = 1, 2) or 5x5 (k = 3), dilated dk;  branch4: global pool, 1x1
        x -> branch0, branch1, branch2, branch3 (, branch4) -> cat -> 1x1 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        map_reduce: every branch has ``c_in // map_reduce`` channels.
        dilations: dilations of the last three branches.
        global_pool: add a branch that sees the whole map.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        map_reduce: int = 4,
        dilations: list[int] | tuple[int, ...] = (3, 5, 7),
        global_pool: bool = False,
    ) -> None:
        super().__init__()
        hidden = check_branches(c_in, map_reduce, dilations, 3)
        self.branch0 = nn.Sequential(Conv(c_in, hidden, 1), Conv(hidden, hidden, 3))
        self.branch1, self.branch2, self.branch3 = (
            nn.Sequential(Conv(c_in, hidden, 1), Conv(hidden, hidden, kernel), *dilated_conv(hidden, hidden, d))
            for kernel, d in zip((3, 3, 5), dilations, strict=True)
        )
        self.branch4 = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(c_in, hidden, 1)) if global_pool else None
        self.Fusion = Conv(hidden * (5 if global_pool else 4), c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        if self.branch4 is not None:
            maps.append(F.interpolate(self.branch4(x), x.shape[-2:], mode="nearest"))
        return self.Fusion(torch.cat(maps, 1))


@register
class RFB2(RowBlock):
    """Receptive field block with cascaded dilations::

    x -> branch0 (1x1, 3x3) -> x0 -> branch1 (dilated d1) -> x1 -> branch2 (dilated d2) -> x2 (-> global pool -> x4)
    x -> branch3 (1x1) -> x3;   cat(x0, x1, x2, x3 (, x4)) -> 1x1 -> y

    Args:
        c_in: input channels.
        c_out: output channels.
        map_reduce: divisor of the branches' channels.
        dilations: of branch1 and branch2.
        global_pool: add a branch with the mean over the picture.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        map_reduce: int = 4,
        dilations: list[int] | tuple[int, ...] = (2, 3),
        global_pool: bool = False,
    ) -> None:
        super().__init__()
        hidden = check_branches(c_in, map_reduce, dilations, 2)
        self.branch0 = nn.Sequential(Conv(c_in, hidden, 1), Conv(hidden, hidden, 3))
        self.branch1 = nn.Sequential(*dilated_conv(hidden, hidden, dilations[0]))
        self.branch2 = nn.Sequential(*dilated_conv(hidden, hidden, dilations[1]))
        self.branch3 = nn.Sequential(Conv(c_in, hidden, 1))
        self.branch4 = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(hidden, hidden, 1)) if global_pool else None
        self.ConvLinear = Conv(hidden * (5 if global_pool else 4), c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x0 = self.branch0(x)
        x1 = self.branch1(x0)
        x2 = self.branch2(x1)
        maps = [x0, x1, x2, self.branch3(x)]
        if self.branch4 is not None:
            maps.append(F.interpolate(self.branch4(x2), x.shape[-2:], mode="nearest"))
        return self.ConvLinear(torch.cat(maps, 1))


@register
class FFM(RowBlock):
    """Feature fusion module (BiSeNet): fuse one row, or several of one size, and weigh the channels by global context::

        f = Conv(cat(inputs));  a = sigmoid(1x1(SiLU(1x1(global pool f))));  y = f * a + f

    Args:
        c_in: channels of all inputs together.
        c_out: output channels.
        reduction: divisor of the hidden channels of the channel attention.
        kernel: kernel of the fusing convolution.
    """

    same_size_inputs = True

    def __init__(self, c_in: int, c_out: int, reduction: int = 1, kernel: int = 1) -> None:
        super().__init__()
        if not 1 <= reduction <= c_out:
            raise ValueError(f"the reduction is from 1 to the {c_out} output channels, but it is {reduction}")
        self.convblk = Conv(c_in, c_out, kernel)
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(c_out, c_out // reduction, 1, bias=False),
            nn.SiLU(inplace=True),
            nn.Conv2d(c_out // reduction, c_out, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, inputs: Tensor | list[Tensor]) -> Tensor:
        """Fuse one tensor, or the outputs of several rows."""
        if isinstance(inputs, list):
            inputs = torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0]
        fused = self.convblk(inputs)
        return fused * self.channel_attention(fused) + fused

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from any number of source rows, which are concatenated."""
        return super().from_row([sum(in_channels)], number, args, scale)
