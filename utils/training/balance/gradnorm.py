"""Factors of losses that make the heads' gradients alike in the last rows that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from utils.training.balance.base import Balance, Gradients


class GradNorm(Balance):
    """Gradient normalisation: heads that learn slowly get longer gradients.

    With G the norms of the heads' gradients in the last shared rows, factor included, and r their losses as shares of
    their first ones, divided by the mean of these shares, the factors w go down the slope of
    ``sum |G - mean(G) r^alpha|`` with the targets held fixed. Afterwards they are scaled so that they add up to the
    number of heads.

    Two things differ from the paper. The slope is taken by log w and divided by the mean norm, so that factors cannot
    fall below 0 and the rate does not depend on how large losses are; the point of rest is the same. And norms are of
    the mean losses without their gains: a gain multiplies what is balanced and is not balanced away.

    Source: Chen, Badrinarayanan, Lee and Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss Balancing in
    Deep Multitask Networks (2018).

    Args:
        heads: names of the heads.
        watched: for every parameter whether it belongs to the last shared rows.
        rate: learning rate of the factors' logarithms.
        alpha: strength with which heads that lag behind are favoured, 0 or more.
    """

    separate: ClassVar[bool] = True

    def __init__(self, heads: Sequence[str], watched: Sequence[bool], rate: float, alpha: float) -> None:
        super().__init__(heads)
        self.rate, self.alpha = rate, alpha
        self._watched = [i for i, chosen in enumerate(watched) if chosen]
        self._norms: dict[str, Tensor] = {}
        self.register_buffer("learned_factors", torch.ones(len(self.heads)))
        self.register_buffer("first_losses", torch.full((len(self.heads),), float("nan")))

    def weights(self) -> Tensor:
        """Return (heads,) the factors; they add up to the number of heads."""
        # A copy: a graph of autograd that holds a factor must not see it change.
        return self.learned_factors.clone()

    def norm(self, gradients: Gradients) -> Tensor:
        """Return the 0-dim norm of a head's gradient in the last shared rows, 0 where it has none there."""
        listed = [gradients[i] for i in self._watched if gradients[i] is not None]
        if not listed:
            return torch.zeros_like(self._absent)
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(listed)))

    @staticmethod
    def slopes(norms: Tensor, targets: Tensor) -> Tensor:
        """Return the derivatives of ``sum |G - target|`` by log w, of which every G is a multiple of its own w."""
        return torch.sign(norms - targets) * norms

    @torch.no_grad()
    def combine(self, gradients: Mapping[str, Gradients], step: int) -> list[Tensor | None]:
        """Return the sum over heads, and measure the parts for ``update``."""
        # Before the sum is clipped, which may happen in place.
        self._norms = {name: self.norm(listed) for name, listed in gradients.items()}
        return super().combine(gradients, step)

    @torch.no_grad()
    def update(
        self, losses: Mapping[str, Tensor], left_out: Tensor | None = None, scales: Mapping[str, float] | None = None
    ) -> None:
        """Move the factors of the heads that took part."""
        if scales is None:
            raise ValueError("the norms of gradients say nothing without the scales of the losses")
        found = self._column(losses)
        norms = self._column({name: self._norms[name] / scales[name] for name in losses if scales[name] > 0})
        usable = found.isfinite() & norms.isfinite() & (found > 0) & (norms > 0)
        self._keep(self.first_losses, found, self.first_losses.isnan() & usable, left_out)
        targets, mean = self._targets(found, norms, usable)
        moved = self.learned_factors * torch.exp(-self.rate * self.slopes(norms, targets) / mean)
        moved = torch.where(usable, moved, 0)
        free = len(self.heads) - torch.where(usable, 0, self.learned_factors).sum()
        scaled = moved * (free / moved.sum())
        self._keep(self.learned_factors, scaled, usable, left_out)

    def _targets(self, losses: Tensor, norms: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Return (heads,) the norms that the heads should have, and the 0-dim mean of those they have."""
        count = usable.sum()
        mean = torch.where(usable, norms, 0).sum() / count
        progress = losses / self.first_losses
        rates = progress / (torch.where(usable, progress, 0).sum() / count)
        return mean * rates**self.alpha, mean
