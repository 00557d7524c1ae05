"""What every method of balancing heads offers; by itself it leaves the recipe's gains alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

Gradients = Sequence[Tensor | None]
"""Gradients of the parameters in the optimizer's order; None where a head does not touch the parameter."""


class Balance(nn.Module):
    """Factors of the heads' losses on top of their gains; here all are 1.

    What a method has learned is in its buffers, so that a checkpoint can hold it. Nothing here waits for the device.
    In a run of several processes losses and gradients are those summed over all of them; the state is then the same
    everywhere.

    Args:
        heads: names of the heads, in the order of the model.

    Class attributes:
        separate: whether ``combine`` needs the gradients of every head by themselves.
    """

    separate: ClassVar[bool] = False

    def __init__(self, heads: Sequence[str]) -> None:
        super().__init__()
        self.heads = tuple(heads)
        self.register_buffer("_ones", torch.ones(len(self.heads)), persistent=False)
        self.register_buffer("_absent", torch.tensor(float("nan")), persistent=False)

    def weights(self) -> Tensor:
        """Return (heads,) the factors, float32."""
        return self._ones

    @torch.no_grad()
    def factors(self) -> dict[str, Tensor]:
        """Return for every head the 0-dim factor with which its loss is multiplied before the backward pass."""
        return dict(zip(self.heads, self.weights().unbind(), strict=True))

    @torch.no_grad()
    def combine(self, gradients: Mapping[str, Gradients], step: int) -> list[Tensor | None]:
        """Return the gradient that the optimizer gets: here the sum over heads.

        Args:
            gradients: per head that took part, of its loss with gain and factor, all with the same loss scale; they
                are left as they are.
            step: number of the step in the run, for methods with an order of their own choice.

        Returns:
            A gradient per parameter; a given tensor itself where only one head has one.
        """
        return add_up(gradients.values())

    def update(
        self, losses: Mapping[str, Tensor], left_out: Tensor | None = None, scales: Mapping[str, float] | None = None
    ) -> None:
        """Learn from a step, after ``combine`` where that is needed.

        Heads that took no part, or whose values are not finite, are left alone.

        Args:
            losses: per head that took part its 0-dim loss of the step: the mean, without gain and factor.
            left_out: 0-dim, above 0 where the step changed no weights; then nothing is learned either.
            scales: where ``separate``, by what besides its factor each head's mean loss was multiplied before the
                backward pass, see ``TrainTask.scale``.
        """

    @staticmethod
    def _keep(buffer: Tensor, fresh: Tensor, where: Tensor, left_out: Tensor | None) -> None:
        """Write the fresh values into a buffer where they hold, and nowhere when the step was left out."""
        chosen = where if left_out is None else where & ~(left_out > 0)
        buffer.copy_(torch.where(chosen, fresh, buffer))

    def _column(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return (heads,) the values in the order of the heads, NaN for heads without one."""
        return torch.stack([values[name].detach().float() if name in values else self._absent for name in self.heads])


def add_up(gradients: Iterable[Gradients]) -> list[Tensor | None]:
    """Return the sum of several heads' gradients, parameter by parameter."""
    total: list[Tensor | None] = []
    for listed in gradients:
        if not total:
            total = list(listed)
            continue
        both = [i for i, (a, b) in enumerate(zip(total, listed, strict=True)) if a is not None and b is not None]
        total = [b if a is None else a for a, b in zip(total, listed, strict=True)]
        if both:
            sums = torch._foreach_add([total[i] for i in both], [listed[i] for i in both])
            for i, value in zip(both, sums, strict=True):
                total[i] = value
    return total
