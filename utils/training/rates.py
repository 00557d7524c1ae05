"""Learning rates, momentum and accumulation of a run as functions of its position, counted in rounds of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from utils.schedules import accumulation, cosine_factor, linear_factor, warmup_accumulation, warmup_value


class Rates:
    """The schedule of a run.

    Args:
        hyp: the recipe.
        rounds: rounds per epoch; in a round every task gives one batch.
        epochs: length of the run.
        batch_size: images per batch.

    Attributes:
        warmup: rounds of warm-up.
        full_accumulation: rounds per optimizer step after it.
    """

    def __init__(self, hyp: Mapping[str, Any], rounds: int, epochs: int, batch_size: int) -> None:
        self.hyp, self.rounds, self.epochs, self.batch_size = hyp, rounds, epochs, batch_size
        wanted = max(round(hyp["warmup_epochs"] * rounds), hyp["warmup_min"]) if hyp["warmup_epochs"] > 0 else 0
        # A short run would otherwise end inside its warm-up.
        self.warmup = min(wanted, rounds * epochs // 4)
        self.full_accumulation = accumulation(batch_size, int(hyp["nominal_batch"]))
        self.factor = cosine_factor if hyp["schedule"] == "cosine" else linear_factor

    def accumulate(self, position: int) -> int:
        """Return how many rounds make one optimizer step from ``position`` on."""
        return warmup_accumulation(position, self.warmup, self.batch_size, int(self.hyp["nominal_batch"]))

    def apply(self, optimizer: Optimizer, position: int) -> float:
        """Set learning rates and momentum for the step that begins at ``position``; return the weights' rate."""
        hyp = self.hyp
        rate = hyp["lr0"] * self.factor(position / self.rounds, self.epochs, hyp["lrf"])
        momentum = warmup_value(position, self.warmup, hyp["warmup_momentum"], hyp["momentum"])
        for group in optimizer.param_groups:
            start = hyp["warmup_bias_lr"] if group["name"] == "bias" else 0.0
            group["lr"] = warmup_value(position, self.warmup, start, rate)
            if "momentum" in group:
                group["momentum"] = momentum
        return optimizer.param_groups[0]["lr"]
