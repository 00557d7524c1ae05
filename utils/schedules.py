"""Learning-rate factors, warm-up, accumulation and EMA decay as plain functions of the step: nothing to restore."""

from __future__ import annotations

import math


def cosine_factor(epoch: float, epochs: int, lrf: float) -> float:
    """Return the learning-rate factor of a half cosine from 1 at the start to ``lrf`` at ``epochs``."""
    return (1 - math.cos(math.pi * epoch / epochs)) / 2 * (lrf - 1) + 1


def linear_factor(epoch: float, epochs: int, lrf: float) -> float:
    """Return the learning-rate factor of a straight line from 1 at the start to ``lrf`` at ``epochs``."""
    return (1 - epoch / epochs) * (1.0 - lrf) + lrf


def warmup_value(step: float, warmup_steps: float, start: float, end: float) -> float:
    """Return a value that moves in a straight line from ``start`` to ``end`` over the warm-up, then stays."""
    if warmup_steps <= 0 or step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps


def accumulation(batch_size: int, nominal: int = 64) -> int:
    """Return how many batches make one optimizer step, together never more than ``nominal`` images."""
    return max(nominal // batch_size, 1)


def warmup_accumulation(step: float, warmup_steps: float, batch_size: int, nominal: int = 64) -> int:
    """Return the accumulation during warm-up: it grows from 1 to the full value."""
    return max(1, round(warmup_value(step, warmup_steps, 1, accumulation(batch_size, nominal))))


def ema_decay(updates: int, decay: float = 0.9999, tau: float = 2000.0) -> float:
    """Return the weight of the average's past after ``updates`` updates; it rises to ``decay`` with time ``tau``."""
    return decay * (1 - math.exp(-updates / tau))
