"""Gradients of heads that pull against each other are projected until they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from utils.training.balance.base import Balance, Gradients, add_up


class ProjectedGradients(Balance):
    """Gradient surgery (PCGrad): from each head's gradient the parts that oppose other heads' gradients are removed.

    All gradients of shared parameters are taken as one vector per head. For every head, the others are gone through in
    random order; where the product with another one's gradient is negative, the part along that gradient is taken out.
    The results are added up. All of it happens in the coefficients of the heads' gradients, of which only the products
    of each pair are needed, so it costs a few passes over the shared parameters and no waiting for the device.

    The order is a function of seed and step alone. Parameters of one head keep their gradient.

    Source: Yu, Kumar, Gupta, Levine, Hausman and Finn, Gradient Surgery for Multi-Task Learning (2020).

    Args:
        heads: names of the heads.
        shared: for every parameter whether several heads use it.
        seed: of the run.
    """

    separate: ClassVar[bool] = True

    def __init__(self, heads: Sequence[str], shared: Sequence[bool], seed: int) -> None:
        super().__init__(heads)
        self._shared = [i for i, common in enumerate(shared) if common]
        self.seed = seed

    @torch.no_grad()
    def combine(self, gradients: Mapping[str, Gradients], step: int) -> list[Tensor | None]:
        """Return the sum of the projected gradients, see ``Balance.combine``."""
        present = [gradients[name] for name in self.heads if name in gradients]
        listed = [[head[i] for i in self._shared] for head in present]
        total = add_up(present)
        if len(listed) < 2:
            return total
        coefficients = project(products(listed), self.orders(len(listed), step))
        scaled = []
        for own, factor in zip(listed, coefficients.unbind(), strict=True):
            scaled.append(multiplied(own, factor))
        for i, value in zip(self._shared, add_up(scaled), strict=True):
            total[i] = value
        return total

    def orders(self, heads: int, step: int) -> list[list[int]]:
        """Return for every head the order in which it meets the other ones in a step."""
        rng = np.random.default_rng([self.seed, step])
        return [[int(other) for other in rng.permutation(heads) if other != own] for own in range(heads)]


def multiplied(gradients: Gradients, factor: Tensor) -> list[Tensor | None]:
    """Return gradients times a 0-dim factor."""
    places = [i for i, gradient in enumerate(gradients) if gradient is not None]
    result: list[Tensor | None] = [None] * len(gradients)
    if places:
        values = torch._foreach_mul([gradients[i] for i in places], factor)
        for i, value in zip(places, values, strict=True):
            result[i] = value
    return result


def products(gradients: Sequence[Gradients]) -> Tensor:
    """Return (heads, heads) the scalar products of the heads' gradients over all parameters, float32."""
    count = len(gradients)
    flat = [{i: g for i, g in enumerate(listed) if g is not None} for listed in gradients]
    zero = next((g.new_zeros((), dtype=torch.float32) for listed in flat for g in listed.values()), torch.zeros(()))
    found: dict[tuple[int, int], Tensor] = {}
    for a in range(count):
        for b in range(a, count):
            both = sorted(flat[a].keys() & flat[b].keys())
            parts = torch._foreach_mul([flat[a][i] for i in both], [flat[b][i] for i in both]) if both else []
            found[a, b] = found[b, a] = torch.stack([part.sum(dtype=torch.float32) for part in parts] or [zero]).sum()
    return torch.stack([found[a, b] for a in range(count) for b in range(count)]).view(count, count)


def project(gram: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Return (heads,) how often each head's gradient is in the sum of the projected ones.

    Args:
        gram: (heads, heads) scalar products of the gradients.
        orders: for every head the other ones in the order in which it meets them.
    """
    rows = []
    smallest = torch.finfo(gram.dtype).tiny
    for own, others in enumerate(orders):
        row = torch.zeros_like(gram[own])
        row[own] = 1
        for other in others:
            conflict = (row * gram[other]).sum().clamp(max=0)
            row[other] -= conflict / gram[other, other].clamp(min=smallest)
        rows.append(row)
    return torch.stack(rows).sum(0)
