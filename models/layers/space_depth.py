"""Space into channels and back: Contract, Expand."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.registry import Built, RowBlock, Scale, construct, register, single_input


def check_factor(factor: int) -> None:
    """Refuse a factor that is no size.

    Raises:
        ValueError: it is below 1.
    """
    if factor < 1:
        raise ValueError(f"the factor is a whole number above 0, but it is {factor}")


@register
class Contract(RowBlock):
    """Move blocks of factor x factor pixels into the channels::

        (B, C, H, W) -> (B, factor^2 C, H / factor, W / factor)

    The output channels are ordered by row within the block, then column within the block, then input channel.

    Args:
        factor: side of a block, pixels; it divides height and width.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        check_factor(factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        s = self.factor
        batch, channels, height, width = x.shape
        if height % s or width % s:
            raise ValueError(f"{s} does not divide the size {height}x{width}")
        x = x.reshape(batch, channels, height // s, s, width // s, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(batch, s * s * channels, height // s, width // s)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row; the output has ``factor^2`` times its channels."""
        c_in = single_input(cls, in_channels)
        blocks = [construct(cls, *args) for _ in range(number)]
        c_out = c_in * blocks[0].factor ** (2 * number)
        return Built(blocks[0] if number == 1 else nn.Sequential(*blocks), c_out)


@register
class Expand(RowBlock):
    """Lay channels out as blocks of factor x factor pixels, the inverse of Contract::

    (B, C, H, W) -> (B, C / factor^2, factor H, factor W)

    Args:
        factor: side of a block, pixels; its square divides the channels.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        check_factor(factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        s = self.factor
        batch, channels, height, width = x.shape
        x = x.reshape(batch, s, s, channels // s**2, height, width).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(batch, channels // s**2, height * s, width * s)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row; the output has its channels divided by ``factor^2``.

        Raises:
            ValueError: the channels cannot be divided.
        """
        c_in = single_input(cls, in_channels)
        blocks = [construct(cls, *args) for _ in range(number)]
        side = blocks[0].factor ** number
        if c_in % side**2:
            raise ValueError(f"{c_in} channels do not divide into blocks of {side}x{side} pixels")
        return Built(blocks[0] if number == 1 else nn.Sequential(*blocks), c_in // side**2)
