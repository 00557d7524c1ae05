"""Rows that join several rows: Concat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.registry import Built, RowBlock, Scale, construct, register


@register
class Concat(RowBlock):
    """Concatenate the source rows along one dimension (1 = channels)."""

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
