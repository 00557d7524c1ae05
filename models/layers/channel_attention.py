"""Channels weighed by what the whole map holds: Attention, SE, ARM."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.conv import Conv
from models.registry import ChannelKeepingBlock, RowBlock, register


@register
class Attention(ChannelKeepingBlock):
    """Weigh every channel by global context (SENet, arXiv:1709.01507)::

        x * sigmoid(Conv(Conv(global average pool of x)))

    The inner Conv is there for a reduction above 1, the outer one has no activation. BatchNorm over one pixel
    follows batches of more than one image alone.

    Args:
        c_in: channels.
        reduction: divisor of the inner channels.
    """

    def __init__(self, c_in: int, reduction: int = 1) -> None:
        super().__init__()
        if reduction < 1 or c_in // reduction < 1:
            raise ValueError(f"the reduction is from 1 to the {c_in} channels, but it is {reduction}")
        hidden = c_in // reduction
        inner = [Conv(c_in, hidden)] if reduction > 1 else []
        self.W = nn.Sequential(nn.AdaptiveAvgPool2d(1), *inner, Conv(hidden, c_in, act=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.W(x)


@register
class SE(ChannelKeepingBlock):
    """Squeeze and excitation (Hu et al., SENet, arXiv:1709.01507) by two layers without biases and norms::

        x * sigmoid(Linear(ReLU(Linear(global average pool of x))))

    Args:
        c_in: channels.
        reduction: divisor of the inner channels.
    """

    def __init__(self, c_in: int, reduction: int = 16) -> None:
        super().__init__()
        if reduction < 1 or c_in // reduction < 1:
            raise ValueError(f"the reduction is from 1 to the {c_in} channels, but it is {reduction}")
        hidden = c_in // reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        squeeze, excite = nn.Linear(c_in, hidden, bias=False), nn.Linear(hidden, c_in, bias=False)
        self.fc = nn.Sequential(squeeze, nn.ReLU(inplace=True), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.pool(x).flatten(1))[:, :, None, None]


@register
class ARM(RowBlock):
    """Attention refinement module (BiSeNet, arXiv:1808.00897)::

        f = Conv 3x3(x);  y = f * sigmoid(Conv 1x1 (no act) (global average pool of f))

    BatchNorm over one pixel follows batches of more than one image alone.

    Args:
        c_in: input channels.
        c_out: output channels.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3)
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(c_out, c_out, act=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.channel_attention(x)
