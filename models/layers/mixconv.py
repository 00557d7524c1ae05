"""Convolutions of several kernel sizes side by side: MixConv2d."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.batch_norm import BatchNorm2d
from models.registry import RowBlock, register


def split_into_equal_channels(channels: int, groups: int) -> list[int]:
    """Split channels into groups as equal as possible: channel j of C belongs to the group that j / (C - 1) falls in.

    A channel on the border of two groups belongs to the lower one.
    """
    last = max(channels - 1, 1)
    owners = [max(-(-j * groups // last) - 1, 0) for j in range(channels)]
    return [owners.count(group) for group in range(groups)]


def split_into_equal_weights(channels: int, kernels: Sequence[int]) -> list[int]:
    """Split channels so that every kernel size has about as many weights: shares go with 1 / kernel^2."""
    shares = [1 / kernel**2 for kernel in kernels]
    counts = [round(channels * share / sum(shares)) for share in shares]
    # Rounding may lose or gain a channel; the largest group notices it least.
    counts[counts.index(max(counts))] += channels - sum(counts)
    return counts


@register
class MixConv2d(RowBlock):
    """Each kernel size makes its share of the channels (Tan and Le, MixConv, arXiv:1907.09595)::

        x -> [Conv2d k1, Conv2d k2, ...] -> cat -> BatchNorm2d -> LeakyReLU(0.1) -> + x

    Args:
        c_in: input channels.
        c_out: output channels, as many as input channels, because the input is added.
        kernels: odd kernel sizes.
        stride: 1, because the input is added.
        equal_channels: every kernel size makes equally many channels; False: has equally many weights.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernels: list[int] | tuple[int, ...] = (1, 3),
        stride: int = 1,
        equal_channels: bool = True,
    ) -> None:
        super().__init__()
        if c_in != c_out or stride != 1:
            raise ValueError(
                "MixConv2d adds its input, so it needs stride 1 and as many output as input channels, "
                f"but the stride is {stride} and the channels are {c_in} and {c_out}"
            )
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"the kernels are odd numbers above 0, but they are {list(kernels)}")
        if equal_channels:
            counts = split_into_equal_channels(c_out, len(kernels))
        else:
            counts = split_into_equal_weights(c_out, kernels)
        if min(counts) < 1:
            raise ValueError(f"{c_out} channels are too few for the kernels {list(kernels)}: one of them gets none")
        self.m = nn.ModuleList(
            nn.Conv2d(c_in, count, kernel, stride, kernel // 2, bias=False)
            for count, kernel in zip(counts, kernels, strict=True)
        )
        self.bn = BatchNorm2d(c_out)
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.bn(torch.cat([conv(x) for conv in self.m], 1)))
