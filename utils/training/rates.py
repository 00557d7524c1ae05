"""Learning rates, momentum and accumulation of a run as functions of its position, counted in rounds of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from utils.schedules import (
    accumulation,
    cosine_factor,
    cosine_with_plateaus,
    flat_then_cosine,
    linear_factor,
    schedule_epoch,
    step_factor,
    warmup_accumulation,
    warmup_value,
)
from utils.training.deadline import RunLength

WARMUP_POWERS = {"linear": 1.0, "quadratic": 2.0}
"""Recipe key ``warmup``: as which power of time the learning rate rises."""


class Rates:
    """The schedule of a run.

    Args:
        hyp: the recipe.
        rounds: rounds per epoch; in a round every task gives one batch.
        length: of the run; a deadline may set it anew.
        batch_size: images per batch.
        planned_epochs: length that was asked for, by which the warm-up is bounded and of which ``close_mosaic`` is a
            part.

    Attributes:
        warmup: rounds of warm-up.
        wanted_warmup: rounds of warm-up that the recipe asks for; a quarter of the run is the most that it gets.
        full_accumulation: rounds per optimizer step after it.
        factor_of_run: by which all learning rates are multiplied; below 1 after a run went back to a good state.
    """

    def __init__(
        self, hyp: Mapping[str, Any], rounds: int, length: RunLength, batch_size: int, planned_epochs: int
    ) -> None:
        self.hyp, self.rounds, self.length, self.batch_size = hyp, rounds, length, batch_size
        self.full_accumulation = accumulation(batch_size, int(hyp["nominal_batch"]))
        wanted = max(round(hyp["warmup_epochs"] * rounds), hyp["warmup_min"]) if hyp["warmup_epochs"] > 0 else 0
        self.wanted_warmup = max(wanted, int(hyp["warmup_steps"]) * self.full_accumulation)
        # A short run would otherwise end inside its warm-up.
        self.warmup = min(self.wanted_warmup, rounds * planned_epochs // 4)
        self.factor_of_run = 1.0
        self.power = WARMUP_POWERS[hyp["warmup"]]
        # Published warm-ups in steps are those of full steps; and the square of time begins low enough for them.
        self.steps_grow = self.power == 1 and not hyp["warmup_steps"]
        self.planned_epochs = planned_epochs
        self.plateaus = self.warmup / (rounds * planned_epochs), min(hyp["close_mosaic"] / planned_epochs, 1.0)

    def factor(self, share: float) -> float:
        """Return the share of ``lr0`` that is left, but for the warm-up, when a share of the run (0..1) is done."""
        kind, lrf = self.hyp["schedule"], self.hyp["lrf"]
        if kind == "yolox":
            return cosine_with_plateaus(share, *self.plateaus, lrf)
        if kind == "flat_cosine":
            return flat_then_cosine(share, self.hyp["flat_share"], lrf)
        if kind == "step":
            return step_factor(share * self.planned_epochs, self.hyp["step_epochs"], self.hyp["step_factor"])
        return (cosine_factor if kind == "cosine" else linear_factor)(share, 1, lrf)

    def falls(self) -> list[float] | None:
        """Return after which epochs a rate that falls in steps does; None for other schedules."""
        if self.hyp["schedule"] != "step":
            return None
        every = self.hyp["step_epochs"]
        return [every * n for n in range(1, math.ceil(self.planned_epochs / every))]

    def accumulate(self, position: int) -> int:
        """Return how many rounds make one optimizer step from ``position`` on.

        Under a linear warm-up steps grow from one round; a quadratic one, and one of ``warmup_steps``, has full steps.
        """
        if not self.steps_grow:
            return self.full_accumulation
        return warmup_accumulation(position, self.warmup, self.batch_size, int(self.hyp["nominal_batch"]))

    def rate(self, position: int, start: float | None = None) -> float:
        """Return the learning rate of the step that begins at ``position``.

        Args:
            position: rounds of the run before it.
            start: rate at which the warm-up begins; None is that of weights, ``warmup_start`` times ``lr0``.
        """
        start = self.hyp["lr0"] * self.hyp["warmup_start"] if start is None else start
        epochs = schedule_epoch(position / self.rounds, self.hyp["schedule_every"])
        rate = self.hyp["lr0"] * self.factor(self.length.share_at(epochs))
        return warmup_value(position, self.warmup, start, rate, self.power) * self.factor_of_run

    def last_rate(self, epoch: int) -> float:
        """Return the learning rate of weights at the end of epoch number ``epoch``, counted from 1."""
        return self.rate(epoch * self.rounds - 1)

    def apply(self, optimizer: Optimizer, position: int) -> None:
        """Set learning rates and momentum for the step that begins at ``position``."""
        momentum = warmup_value(position, self.warmup, self.hyp["warmup_momentum"], self.hyp["momentum"], self.power)
        for group in optimizer.param_groups:
            start = self.hyp["warmup_bias_lr"] if group["name"] == "bias" else None
            group["lr"] = self.rate(position, start) * group.get("factor", 1.0)
            if "momentum" in group:
                group["momentum"] = momentum
