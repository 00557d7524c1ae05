"""Factors of losses from the heads' own uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from utils.training.balance.base import Balance

MOST = 6.9
"""Largest size of a log variance; factors stay between a thousandth and a thousand."""


class Uncertainty(Balance):
    """Homoscedastic uncertainty: every head's loss L counts as ``exp(-s) L + s`` with a learned log variance s.

    At rest ``exp(-s) = 1 / L``: heads whose loss is large by nature count less, and every head's share settles at its
    gain. The gradient by s, ``1 - exp(-s) L``, needs no backward pass. It is kept within -1 and 1, so that one unusual
    batch moves a factor by ``rate`` at most, and follows its own plain gradient descent rather than the optimizer of
    the weights, whose rates and decay are meant for them.

    Source: Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics (2018), in the form that is learned there, by the logarithm of the variance.

    Args:
        heads: names of the heads.
        rate: learning rate of the log variances.
    """

    def __init__(self, heads: Sequence[str], rate: float) -> None:
        super().__init__(heads)
        self.rate = rate
        self.register_buffer("log_variances", torch.zeros(len(self.heads)))

    def weights(self) -> Tensor:
        """Return (heads,) ``exp(-s)``."""
        return torch.exp(-self.log_variances)

    def slopes(self, losses: Tensor) -> Tensor:
        """Return the derivatives of ``exp(-s) L + s`` by s, (heads,) like the losses."""
        return 1 - self.weights() * losses

    @torch.no_grad()
    def update(
        self, losses: Mapping[str, Tensor], left_out: Tensor | None = None, scales: Mapping[str, float] | None = None
    ) -> None:
        """Move the log variances of the heads that took part down their slopes."""
        column = self._column(losses)
        moved = (self.log_variances - self.rate * self.slopes(column).clamp(-1, 1)).clamp(-MOST, MOST)
        self._keep(self.log_variances, moved, column.isfinite(), left_out)
