"""A convolution that several levels share while each has a BatchNorm of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from models.layers.activations import make_activation
from models.layers.batch_norm import BatchNorm2d
from models.layers.conv import same_padding


class SharedConv(nn.Module):
    """Convolution without bias, BatchNorm of the level, activation::

        x of level i -> Conv2d (one for all levels) -> BatchNorm2d i -> activation -> y

    The weights are one parameter: stored, optimised and averaged once.

    Args:
        c_in: input channels.
        c_out: output channels.
        levels: number of levels.
        kernel: kernel size.
        activation: as a YAML writes it; None for the model's own.

    Attributes:
        conv: the convolution, or after ``fold_norms`` a list with one of them for every level.
        bn: the norm of every level.
    """

    def __init__(self, c_in: int, c_out: int, levels: int, kernel: int = 3, activation: str | None = None) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(c_in, c_out, kernel, padding=same_padding(kernel), bias=False)
        self.bn = nn.ModuleList(BatchNorm2d(c_out) for _ in range(levels))
        self.act = make_activation(activation)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """Return the output for the map of a level."""
        conv = self.conv[level] if isinstance(self.conv, nn.ModuleList) else self.conv
        return self.act(self.bn[level](conv(x)))

    def fold_norms(self, folded: Callable[[nn.Module, nn.Module], nn.Module]) -> None:
        """Give every level a convolution of its own with its norm folded in.

        Args:
            folded: takes a convolution, which it may change, and a norm, and returns what answers for both.
        """
        self.conv = nn.ModuleList(folded(copy.deepcopy(self.conv), norm) for norm in self.bn)
        self.bn = nn.ModuleList(nn.Identity() for _ in self.bn)
