"""Convolution blocks: Conv, ConvGN, DWConv, DWConvTranspose2d, Focus."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.layers.activations import make_activation
from models.layers.batch_norm import BatchNorm2d
from models.registry import Built, RowBlock, Scale, register


def same_padding(kernel: int | list[int] | tuple[int, ...], dilation: int = 1) -> int | tuple[int, ...]:
    """Return the padding that keeps height and width at stride 1, per axis for a kernel list."""
    if isinstance(kernel, int):
        return (dilation * (kernel - 1) + 1) // 2
    return tuple((dilation * (k - 1) + 1) // 2 for k in kernel)


def check_window(what: str, value: int | list[int] | tuple[int, ...]) -> None:
    """Refuse a kernel or stride that is neither a size nor one size per axis.

    Raises:
        ValueError: it is below 1, or a list of other than two numbers.
    """
    sizes = [value] if isinstance(value, int) else list(value)
    if min(sizes, default=0) < 1 or len(sizes) > 2:
        raise ValueError(f"the {what} is one number above 0, or two for height and width, but it is {value}")


@register
class Conv(RowBlock):
    """Convolution without bias, BatchNorm, activation::

        x -> Conv2d -> BatchNorm2d -> SiLU -> y

    The model's key ``activation`` can name another activation for all of them.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size, or one per axis.
        stride: stride, or one per axis.
        padding: zero padding; None keeps the size at stride 1.
        groups: convolution groups.
        dilation: kernel dilation.
        act: False leaves the activation out.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int | list[int] | tuple[int, ...] = 1,
        stride: int | list[int] | tuple[int, ...] = 1,
        padding: int | list[int] | tuple[int, ...] | None = None,
        groups: int = 1,
        dilation: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        check_window("kernel", kernel)
        check_window("stride", stride)
        if c_in < 1 or c_out < 1:
            raise ValueError(f"its arguments leave a convolution of {c_in} input and {c_out} output channels")
        if groups < 1 or c_in % groups or c_out % groups:
            raise ValueError(f"{groups} groups do not divide {c_in} input and {c_out} output channels")
        if padding is None:
            padding = same_padding(kernel, dilation)
        as_tuple = [tuple(v) if isinstance(v, list) else v for v in (kernel, stride, padding)]
        self.conv = nn.Conv2d(c_in, c_out, *as_tuple, groups=groups, dilation=dilation, bias=False)
        self.bn = BatchNorm2d(c_out)
        self.act = make_activation() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class AnyGroupNorm(nn.GroupNorm):
    """GroupNorm that also takes a group of one value, as one channel of a map of one pixel is; it becomes the bias."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


@register
class ConvGN(nn.Sequential, RowBlock):
    """Convolution with bias and GroupNorm, which bring a map to the width of a transformer::

        x -> Conv2d -> GroupNorm -> y

    ``width_multiple`` leaves the output channels as they are.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size.
        stride: stride.
        groups: groups of channels that are normalised together; they divide the output channels.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 32) -> None:
        check_window("kernel", kernel)
        check_window("stride", stride)
        if groups < 1 or c_out % groups:
            raise ValueError(f"{groups} groups of channels do not divide {c_out}; change the channels or the groups")
        conv = nn.Conv2d(c_in, c_out, kernel, stride, same_padding(kernel))
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
        super().__init__(conv, AnyGroupNorm(groups, c_out))

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row.

        Raises:
            ValueError: see ``RowBlock.from_row``.
        """
        return super().from_row(in_channels, number, args, replace(scale, width=1.0, divisor=None))


@register
class DWConv(Conv):
    """Conv with as many groups as input and output channels have in common (depth-wise when they are equal).

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size.
        stride: stride.
        act: False leaves the activation out.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, act: bool = True) -> None:
        super().__init__(c_in, c_out, kernel, stride, groups=math.gcd(c_in, c_out), act=act)


@register
class DWConvTranspose2d(nn.ConvTranspose2d, RowBlock):
    """Transposed convolution with bias and as many groups as input and output channels have in common.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size.
        stride: how many times larger the output is.
        padding: how many pixels are cut off each side of the output.
        output_padding: how many pixels are added to one side of the output, below ``stride``.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, padding: int = 0, output_padding: int = 0
    ) -> None:
        check_window("kernel", kernel)
        check_window("stride", stride)
        super().__init__(c_in, c_out, kernel, stride, padding, output_padding, groups=math.gcd(c_in, c_out))


@register
class Focus(RowBlock):
    """Space to depth by two, then Conv (YOLOv5 v5.0 stem)::

        (B, C, H, W) -> four phases side by side (B, 4C, H/2, W/2) -> Conv

    Phase order along the channels (row, column): even-even, odd-even, even-odd, odd-odd.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size of the Conv.
        stride: its stride.
        padding: its zero padding; None keeps the size at stride 1.
        groups: its groups.
        act: False leaves its activation out.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(4 * c_in, c_out, kernel, stride, padding, groups, act=act)

    def forward(self, x: Tensor) -> Tensor:
        phases = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(phases, 1))
