"""A small network that answers for every token by itself, as the heads of DETR's family do."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class TokenMLP(nn.ModuleList):
    """Three linear layers with ReLU between them, ``width`` wide inside.

    Args:
        width: channels of a token.
        c_out: channels of the answer.
    """

    def __init__(self, width: int, c_out: int) -> None:
        super().__init__((nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, c_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., c_out) for tokens (..., width)."""
        first, second, last = self
        return last(F.relu(second(F.relu(first(x)))))
