"""Rows that join several rows: Concat, Sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.registry import Built, RowBlock, Scale, construct, register


@register
class Concat(RowBlock):
    """Concatenate the source rows along one dimension.

    Args:
        dimension: 1, the channels; there is no other.
    """

    same_size_inputs = True

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        if dimension != 1:
            raise ValueError(f"Concat joins along dimension 1, the channels, but its argument is {dimension}")
        self.dimension = dimension

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return torch.cat(inputs, self.dimension)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from any number of source rows; the output has the sum of their channels."""
        return Built(construct(cls, *args), sum(in_channels))


@register
class Sum(RowBlock):
    """Add source rows of equal channels and size, the first as it is and the others with learned weights if asked::

        y = x0 + x1 + x2 + ...          or          y = x0 + 2 sigmoid(w1) x1 + 2 sigmoid(w2) x2 + ...

    Args:
        inputs: how many rows are added; a row may leave it out.
        weighted: learn the weights; w_i starts at -i / 2.
    """

    same_size_inputs = True

    def __init__(self, inputs: int, weighted: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(-torch.arange(1.0, inputs) / 2) if weighted else None

    def forward(self, inputs: list[Tensor]) -> Tensor:
        first, *others = inputs
        if self.w is None:
            return sum(others, first)
        return sum((2 * w.sigmoid() * x for w, x in zip(self.w, others, strict=True)), first)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from at least two source rows and ``[inputs, weighted]``; ``inputs`` may be left out.

        Raises:
            ValueError: fewer than two rows, a number above 1, rows of different channels, or not ``inputs`` rows.
        """
        count = len(in_channels)
        if count < 2:
            raise ValueError(f"Sum adds two rows or more, but 'from' names {count}; list them in 'from'")
        if number > 1:
            raise ValueError(f"a sum cannot be repeated, but its number is {number}; write 1")
        if len(set(in_channels)) > 1:
            raise ValueError(f"Sum adds rows of equal channels, but they have {in_channels}; put a Conv before it")
        if args and not isinstance(args[0], bool) and args[0] != count:
            raise ValueError(f"its first argument is the number of rows, {count}, but it is {args[0]!r}")
        given = args[1:] if args and not isinstance(args[0], bool) else args
        return Built(construct(cls, count, *given), in_channels[0])
