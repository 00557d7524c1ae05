"""The progress line of training: one group of columns per head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from models.heads.base import Head
from utils.host_memory import peak_host_memory
from utils.training.tasks import TrainTask


class LossMeter:
    """Mean of the loss parts of an epoch, and of what criteria watch beside them.

    The sums stay on the device until they are asked for.

    Args:
        tasks: of the model.
        device: where losses are.
    """

    def __init__(self, tasks: list[TrainTask], device: torch.device) -> None:
        self.names = {task.name: task.shown for task in tasks}
        self.columns = {task.name: columns_of(task.head) for task in tasks}
        self.criteria = {task.name: task.criterion for task in tasks}
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Begin a new epoch."""
        # The last entry counts the steps in which the head had a part.
        self._sums = {name: torch.zeros(len(parts) + 1, device=self.device) for name, parts in self.names.items()}

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Count the loss parts of a step; of a head whose losses are not finite nothing, or no mean would be left."""
        for name, value in parts.items():
            finite = torch.isfinite(value).all()
            self._sums[name][:-1] += torch.where(finite, value, 0)
            self._sums[name][-1] += finite

    def means(self) -> dict[str, dict[str, float]]:
        """Return head -> part -> mean so far; waits for the device once."""
        flat = torch.cat(list(self._sums.values())).tolist()
        means, start = {}, 0
        for name, parts in self.names.items():
            *sums, count = flat[start : start + len(parts) + 1]
            start += len(parts) + 1
            if count:
                means[name] = {part: value / count for part, value in zip(parts, sums, strict=True)}
        return means

    def texts(self) -> dict[str, str]:
        """Return head -> its means so far in words, a column for every group of parts. Waits for the device once.

        A column all of whose parts come in later says when the first one does.
        """
        shown = {}
        for name, parts in self.means().items():
            resting = self.criteria[name].resting
            words = []
            for column, members in self.columns[name].items():
                counted = [parts[part] for part in members if part not in resting]
                words.append(f"{column} {f'{sum(counted):.4f}' if counted else _when(resting, members)}")
            shown[name] = " ".join(words)
        return shown

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the sums per head."""
        return dict(self._sums)

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state_tensors`` returned; heads that it does not know stay at nothing."""
        for name, value in tensors.items():
            if name in self._sums and value.shape == self._sums[name].shape:
                self._sums[name].copy_(value)


def columns_of(head: Head) -> dict[str, tuple[str, ...]]:
    """Return the columns of the progress line that a head has, with the parts of whose means each shows the sum.

    Raises:
        ValueError: a group names a part that the head does not have, or one that another group has.
    """
    grouped = [part for parts in head.loss_groups.values() for part in parts]
    if len(set(grouped)) != len(grouped) or not set(grouped) <= set(head.loss_names):
        raise ValueError(f"{type(head).__name__}: every part of loss_groups is one of loss_names, in one group alone")
    rest = {part: (part,) for part in head.loss_names if part not in grouped}
    return {**{column: tuple(parts) for column, parts in head.loss_groups.items() if parts}, **rest}


def _when(resting: Mapping[str, int | None], parts: Sequence[str]) -> str:
    """Return what stands in the column of parts that are off; their epochs count from 0."""
    begins = [begin for part in parts if (begin := resting[part]) is not None]
    return f"off until epoch {min(begins) + 1}" if begins else "off"


def used_memory(device: torch.device) -> float | None:
    """Return the peak memory in GiB: on the GPU where the model is on one, else main memory; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_host_memory()


def progress_bar(done: int, total: int, epoch: int, epochs: int, hidden: bool) -> tqdm:
    """Return the bar of an epoch, counted in rounds, of which ``done`` are done already."""
    return tqdm(
        initial=done,
        total=total,
        desc=f"epoch {epoch}/{epochs}",
        unit="batch",
        dynamic_ncols=True,
        mininterval=1.0,
        disable=hidden,
    )


def show_losses(bar: tqdm, meter: LossMeter, device: torch.device) -> None:
    """Write the mean losses of every head behind the bar."""
    groups = [f"{name} [{text}]" for name, text in meter.texts().items()]
    memory = used_memory(device)
    shown = groups if memory is None else [f"{memory:.2f}G", *groups]
    bar.set_postfix_str(" ".join(shown), refresh=False)
