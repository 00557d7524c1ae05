"""Exponential moving average of a model's weights and statistics, always in float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from utils.schedules import ema_decay


class ModelEma:
    """Keeps an averaged copy of a model.

    Args:
        model: the model being trained.
        decay: weight of the past in the long run.
        tau: updates after which the weight of the past has risen to 63 % of ``decay``.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.module = copy.deepcopy(model).float().eval().requires_grad_(False)
        self.decay, self.tau = decay, tau
        self.updates = 0
        averaged, live = self.module.state_dict(), model.state_dict()
        floating = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        self._averaged = [averaged[name] for name in floating]
        self._live = [live[name] for name in floating]
        self._copied = [(averaged[n], live[n]) for n in averaged if n not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's present state."""
        self.updates += 1
        weight = 1.0 - ema_decay(self.updates, self.decay, self.tau)
        torch._foreach_lerp_(self._averaged, [tensor.float() for tensor in self._live], weight)
        for averaged, live in self._copied:
            averaged.copy_(live)

    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Restore an average that was saved after ``updates`` updates."""
        self.module.load_state_dict(dict(state))
        self.updates = updates
