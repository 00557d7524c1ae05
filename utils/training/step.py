"""One optimizer step over the micro-batches of every task."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch.optim import Optimizer

from data.samples import Batch
from models.graph import Graph
from utils.ema import ModelEma
from utils.errors import RunError
from utils.training.tasks import TrainTask

LOGGER = logging.getLogger("yolograph")
MOST_BAD_STEPS = 10


class Stepper:
    """Turns micro-batches into optimizer steps.

    Args:
        graph: the model, in training mode while stepping.
        tasks: its tasks.
        optimizer: over its parameters.
        ema: its average.
        device: where it runs.
        dtype: reduced format of forward passes, None for float32.
        clip_norm: largest norm of the gradient of a step; 0 does not clip.

    Attributes:
        skipped_steps: steps left out because a gradient was not finite.
    """

    def __init__(
        self,
        graph: Graph,
        tasks: list[TrainTask],
        optimizer: Optimizer,
        ema: ModelEma,
        device: torch.device,
        dtype: torch.dtype | None,
        clip_norm: float,
    ) -> None:
        self.graph, self.tasks, self.optimizer, self.ema = graph, tasks, optimizer, ema
        self.device, self.dtype, self.clip_norm = device, dtype, clip_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.skipped_steps = 0
        self._bad_in_a_row = 0

    def step(self, batches: Mapping[str, list[Batch]]) -> dict[str, torch.Tensor]:
        """Accumulate the gradients of all micro-batches, tasks taking turns, then change the weights once.

        Args:
            batches: per task the micro-batches of this step, as many for each task.

        Returns:
            Per task (parts,) the weighted loss parts, a mean over the step's images, objects or pixels.

        Raises:
            RunError: too many steps in a row had gradients that are not finite.
        """
        prepared = {task.name: [task.criterion.prepare(batch) for batch in batches[task.name]] for task in self.tasks}
        totals = {name: sum(targets.normalizers for targets in listed) for name, listed in prepared.items()}
        images = {name: sum(len(batch) for batch in listed) for name, listed in batches.items()}
        sums: dict[str, torch.Tensor] = {}
        for turn in range(max(len(listed) for listed in batches.values())):
            for task in self.tasks:
                batch = batches[task.name][turn].to(self.device)
                targets = prepared[task.name][turn].to(self.device)
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    raw = self.graph(batch.images, heads=(task.name,))[task.name]
                parts = task.criterion(raw, targets, totals[task.name])
                weighed = torch.stack([parts[name] for name in task.head.loss_names])
                # The published learning rates belong to losses that are summed over the images of a nominal batch.
                (weighed.sum() * (task.gain * images[task.name])).backward()
                sums[task.name] = sums.get(task.name, 0) + weighed.detach()
        self._apply(sums)
        return sums

    def _apply(self, sums: Mapping[str, torch.Tensor]) -> None:
        """Clip and apply the accumulated gradient, or leave the step out when it is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm or float("inf"))
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.ema.update()
            self._bad_in_a_row = 0
        else:
            self.skipped_steps += 1
            self._bad_in_a_row += 1
            blamed = [name for name, parts in sums.items() if not bool(torch.isfinite(parts).all())]
            LOGGER.warning(
                "a step was left out: the gradient is not finite%s", f" (head {blamed[0]})" if blamed else ""
            )
            if self._bad_in_a_row >= MOST_BAD_STEPS:
                raise RunError(
                    f"{MOST_BAD_STEPS} steps in a row had gradients that are not finite"
                    f"{f', loss of head {blamed[0]}' if blamed else ''}; lower lr0 or --dtype float32, then --resume"
                )
        self.optimizer.zero_grad(set_to_none=True)
