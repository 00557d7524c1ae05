"""Inputs on which a model's choice of its best places is plain, so that two programs must make the same one.

A two-stage decoder takes the best few hundred of several thousand places. Where the last one taken and the first one
left out differ by less than rounding, a right file may take the other one, and its answers are then others too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CLEAR = 1e-5
"""A choice is plain where what is taken and what is left lie so far apart, relative to the largest of the scores."""
MOST_TRIES = 6
STEP = 7
"""By so many pixels an input is moved for another try."""


class _Gaps(TorchFunctionMode):
    """Looks on while a model runs, and keeps the narrowest choice of the best k among more than k.

    Attributes:
        narrowest: relative gap; infinite where nothing was chosen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.narrowest = float("inf")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.topk, torch.Tensor.topk):
            self._look(*args, **kwargs)
        return func(*args, **kwargs)

    def _look(self, values: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> None:
        if k >= values.shape[dim]:
            return
        last, next_one = values.topk(k + 1, dim, largest).values.narrow(dim, k - 1, 2).unbind(dim)
        scale = values.abs().amax().clamp(min=torch.finfo(values.dtype).tiny)
        self.narrowest = min(self.narrowest, float(((last - next_one).abs() / scale).min()))


@torch.inference_mode()
def choice_gap(module: Callable[[Tensor], Any], pixels: np.ndarray) -> float:
    """Return how far apart what a model takes and what it leaves out are, where it is closest.

    Args:
        module: the model, on the CPU.
        pixels: (B, 3, H, W) uint8.

    Returns:
        The gap relative to the largest score; infinite for models that choose nothing.
    """
    with _Gaps() as gaps:
        module(torch.from_numpy(np.ascontiguousarray(pixels)))
    return gaps.narrowest


def with_clear_choices(module: Callable[[Tensor], Any], images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return inputs, moved in themselves by a few columns where a model's choice is not plain otherwise.

    Args:
        module: the model, on the CPU.
        images: network inputs by description, (B, 3, H, W) uint8 each.

    Returns:
        The same descriptions; where no move helps, the input with the widest gap.
    """
    return {name: _clearest(module, pixels) for name, pixels in images.items()}


def _clearest(module: Callable[[Tensor], Any], pixels: np.ndarray) -> np.ndarray:
    best, widest = pixels, -1.0
    for number in range(MOST_TRIES):
        moved = np.roll(pixels, number * STEP, -1)
        gap = choice_gap(module, moved)
        if gap > widest:
            best, widest = moved, gap
        if gap >= CLEAR:
            break
    return best
