"""Attention over the pixels of a map: TransformerBlock, C3TR.

The layer has no normalisation and no activation, as YOLOv5 has it (idea: Dosovitskiy et al., arXiv:2010.11929).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.csp import C3
from models.registry import RowBlock, register

HEADS = 4
MOST_LAYERS = 1_000


class TransformerLayer(nn.Module):
    """Attention and two linear maps, each with a residual, on tokens (B, H * W, C)::

        x -> attention(q(x), k(x), v(x)) -> + x -> fc2(fc1(x)) -> + x

    Args:
        channels: of a token.
        heads: attention heads; they divide the channels.
    """

    uncounted: ClassVar[tuple[str, ...]] = ("ma",)
    """The published operations of models with this layer leave the attention module out; see ``models.trace``."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} attention heads do not divide {channels} channels")
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.ma = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0] + x
        return self.fc2(self.fc1(x)) + x


@register
class TransformerBlock(RowBlock):
    """Transformer layers over all pixels of the map::

        x -> (Conv 1x1 where the channels differ) -> tokens p -> p + linear(p) -> layers -> map

    Time grows with the square of the number of pixels, so it belongs on coarse rows.

    Args:
        c_in: input channels.
        c_out: output channels.
        heads: attention heads; they divide the output channels.
        layers: how many layers.
    """

    def __init__(self, c_in: int, c_out: int, heads: int = HEADS, layers: int = 1) -> None:
        super().__init__()
        if not 1 <= layers <= MOST_LAYERS:
            raise ValueError(f"the layers are a whole number from 1 to {MOST_LAYERS}, but they are {layers}")
        self.conv = Conv(c_in, c_out) if c_in != c_out else None
        self.linear = nn.Linear(c_out, c_out)
        self.tr = nn.Sequential(*(TransformerLayer(c_out, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)


@register
class C3TR(C3):
    """C3 with a TransformerBlock of four heads in place of the Bottlenecks; ``shortcut`` and ``groups`` have no effect.

    Time grows with the square of the number of pixels, so it belongs on coarse rows.
    """

    def inner(self, hidden: int, number: int, shortcut: bool, groups: int) -> nn.Module:
        return TransformerBlock(hidden, hidden, HEADS, number)
