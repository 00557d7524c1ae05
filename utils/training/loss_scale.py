"""The factor that keeps small gradients of float16 from vanishing: as large as it can be without overflow."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FIRST = 2.0**16
LEAST = 1.0
MOST = 2.0**24
GROWTH, BACK_OFF = 2.0, 0.5
GOOD_STEPS_BEFORE_GROWTH = 2000


class LossScale:
    """A power of two by which losses are multiplied before the backward pass (Micikevicius et al., arXiv:1710.03740).

    It is halved after a step whose gradients overflowed, and doubled after many steps without overflow. Everything
    stays on the device.

    Args:
        device: where the model runs.
        growth_interval: good steps after which a larger factor is tried.

    Attributes:
        scale: 0-dim float32 tensor, the present factor, from 1 to 2**24.
    """

    def __init__(self, device: torch.device, growth_interval: int = GOOD_STEPS_BEFORE_GROWTH) -> None:
        self.scale = torch.full((), FIRST, device=device)
        self.growth_interval = growth_interval
        self._good_steps = torch.zeros((), dtype=torch.int32, device=device)

    @property
    def is_least(self) -> Tensor:
        """0-dim bool tensor: the factor cannot fall any further, so that an overflow is no fault of its own."""
        return self.scale <= LEAST

    def update(self, overflow: Tensor) -> None:
        """Take note of a step.

        Args:
            overflow: 0-dim float32 tensor, 1 where the step's gradients were not finite, else 0.
        """
        torch._amp_update_scale_(self.scale, self._good_steps, overflow, GROWTH, BACK_OFF, self.growth_interval)
        self.scale.clamp_(LEAST, MOST)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"scale": self.scale, "good_steps": self._good_steps}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned; an empty one leaves everything as it is."""
        if state:
            self.scale.copy_(state["scale"])
            self._good_steps.copy_(state["good_steps"])
