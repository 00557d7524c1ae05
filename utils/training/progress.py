"""The progress line of training: one group of columns per head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tqdm import tqdm

from utils.host_memory import peak_host_memory
from utils.training.tasks import TrainTask


class LossMeter:
    """Mean of the loss parts of an epoch; the sums stay on the device until they are asked for.

    Args:
        tasks: of the model.
    """

    def __init__(self, tasks: list[TrainTask]) -> None:
        self.names = {task.name: task.head.loss_names for task in tasks}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    def add(self, parts: Mapping[str, torch.Tensor]) -> None:
        """Count the loss parts of a step."""
        self._steps += 1
        for name, value in parts.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()

    def means(self) -> dict[str, dict[str, float]]:
        """Return head -> part -> mean so far."""
        return {
            name: dict(zip(self.names[name], (value / max(self._steps, 1)).tolist(), strict=True))
            for name, value in self._sums.items()
        }


def used_memory(device: torch.device) -> float | None:
    """Return the peak memory in GiB: on the GPU where the model is on one, else main memory; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_host_memory()


def progress_bar(total: int, epoch: int, epochs: int) -> tqdm:
    """Return the bar of an epoch, counted in rounds."""
    return tqdm(total=total, desc=f"epoch {epoch}/{epochs}", unit="batch", dynamic_ncols=True, mininterval=1.0)


def show_losses(bar: tqdm, meter: LossMeter, device: torch.device) -> None:
    """Write the mean losses of every head behind the bar."""
    groups = [
        f"{name} [{' '.join(f'{part} {value:.4f}' for part, value in parts.items())}]"
        for name, parts in meter.means().items()
    ]
    memory = used_memory(device)
    shown = groups if memory is None else [f"{memory:.2f}G", *groups]
    bar.set_postfix_str(" ".join(shown), refresh=False)
