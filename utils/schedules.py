"""Learning-rate factors, warm-up, accumulation and EMA decay as plain functions of the step: nothing to restore."""

from __future__ import annotations

import math


def cosine_factor(epoch: float, epochs: int, lrf: float) -> float:
    """Return the learning-rate factor of a half cosine from 1 at the start to ``lrf`` at ``epochs``."""
    return (1 - math.cos(math.pi * epoch / epochs)) / 2 * (lrf - 1) + 1


def linear_factor(epoch: float, epochs: int, lrf: float) -> float:
    """Return the learning-rate factor of a straight line from 1 at the start to ``lrf`` at ``epochs``."""
    return (1 - epoch / epochs) * (1.0 - lrf) + lrf


def cosine_with_plateaus(share: float, warmup: float, tail: float, lrf: float) -> float:
    """Return the learning-rate factor of YOLOX: 1 up to the end of the warm-up, a half cosine, ``lrf`` over the tail.

    Args:
        share: of the run that is done, 0..1.
        warmup: share of the run that the warm-up takes.
        tail: share of the run at its end that has the last learning rate.
        lrf: the last factor.

    Source: the YOLOX repository's schedule ``yoloxwarmcos``.
    """
    if share >= 1 - tail:
        return lrf
    return cosine_factor(max(share - warmup, 0) / (1 - warmup - tail), 1, lrf) if share > warmup else 1.0


def flat_then_cosine(share: float, flat: float, lrf: float) -> float:
    """Return the learning-rate factor of RTMDet: 1 over the first part of the run, then half a cosine to ``lrf``.

    Args:
        share: of the run that is done, 0..1.
        flat: share of the run over which the factor is 1, 0 to below 1.
        lrf: the last factor.

    Source: Lyu et al., RTMDet: An Empirical Study of Designing Real-Time Object Detectors (2022), section 3.4.
    """
    return cosine_factor((share - flat) / (1 - flat), 1, lrf) if share > flat else 1.0


def step_factor(epoch: float, every: float, factor: float) -> float:
    """Return the learning-rate factor that is multiplied by ``factor`` each time that ``every`` epochs are done."""
    # A moment after the boundary may be a rounding error before it.
    return factor ** math.floor(epoch / every + 1e-9)


def schedule_epoch(epochs_done: float, every: str) -> float:
    """Return at which point of its schedule the learning rate is when ``epochs_done`` epochs are done, a fraction.

    Args:
        epochs_done: 0 or more.
        every: recipe key ``schedule_every``. ``round``: at this very point. ``epoch``: at the start of the epoch
            that is under way. ``late_epoch``: at the start of the epoch before that one, so that the first two epochs
            both have the rate of the start and the last one that of two epochs before the end.

    Source of the last: the YOLOS repository, whose scheduler hears of an epoch when it is over and sets the rate of the
    next one by the number of the one that has ended.
    """
    if every == "round":
        return epochs_done
    begun = math.floor(epochs_done)
    return float(begun if every == "epoch" else max(begun - 1, 0))


def warmup_value(step: float, warmup_steps: float, start: float, end: float, power: float = 1.0) -> float:
    """Return a value that moves from ``start`` to ``end`` over the warm-up as time to a power, then stays."""
    if warmup_steps <= 0 or step >= warmup_steps:
        return end
    return start + (end - start) * (step / warmup_steps) ** power


def accumulation(batch_size: int, nominal: int = 64) -> int:
    """Return how many batches make one optimizer step, together never more than ``nominal`` images."""
    return max(nominal // batch_size, 1)


def warmup_accumulation(step: float, warmup_steps: float, batch_size: int, nominal: int = 64) -> int:
    """Return the accumulation during warm-up: it grows from 1 to the full value."""
    return max(1, round(warmup_value(step, warmup_steps, 1, accumulation(batch_size, nominal))))


def ema_decay(updates: int, decay: float = 0.9999, tau: float = 2000.0) -> float:
    """Return the weight of the average's past after ``updates`` updates; it rises to ``decay`` with time ``tau``."""
    return decay * (1 - math.exp(-updates / tau))
