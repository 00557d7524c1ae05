"""The processes of a run as one of them sees them, and everything that they tell each other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from utils.distributed.failure import FailureNote, told_when_broken
from utils.distributed.gradients import GradientExchange
from utils.distributed.meeting import Meeting

POLL_SECONDS = 0.05
T = TypeVar("T")


@dataclass
class Links:
    """What connects a process to the others.

    Attributes:
        meeting: the stores.
        note: where failures are noted.
        values: group of all processes for values on the CPU.
        machine: number of this process's machine.
        numbers: counts the uses of ``first_rank_first``, in the same order everywhere.
    """

    meeting: Meeting
    note: FailureNote
    values: dist.ProcessGroup
    machine: int
    numbers: Iterator[int] = field(default_factory=itertools.count)


class PendingSum:
    """A sum over processes that is under way.

    Args:
        tensors: what this process adds; they stay as they are.
        links: None for one process.
    """

    def __init__(self, tensors: Sequence[Tensor], links: Links | None) -> None:
        self._tensors, self._work = list(tensors), None
        if links is None:
            return
        wrong = next((t.device for t in self._tensors if t.device.type != "cpu"), None)
        if wrong is not None:
            raise ValueError(f"sums over processes are for tensors on the CPU, not on {wrong}; losses have sum_losses")
        # Counts of pixels are whole numbers beyond what float32 can hold; in float64 their sum is exact in any order.
        self._flat = torch.cat([t.detach().reshape(-1).double() for t in self._tensors])
        with told_when_broken():
            self._work = dist.all_reduce(self._flat, group=links.values, async_op=True)

    def wait(self) -> list[Tensor]:
        """Return the sums, each with the shape and the number format of what was given."""
        if self._work is None:
            return self._tensors
        with told_when_broken():
            self._work.wait()
        parts = self._flat.split([t.numel() for t in self._tensors])
        return [part.to(t.dtype).view(t.shape) for part, t in zip(parts, self._tensors, strict=True)]


@dataclass
class World:
    """The processes of a run. Every method that exchanges something has to be called by all of them, in one order.

    With one process there is nobody to talk to: sums are what was given, and nothing is copied.

    Attributes:
        rank: number of this process, 0 ... size - 1; the first process alone writes files and prints.
        size: processes on all machines.
        local_rank: number of this process on its machine.
        device: where this process computes.
        is_restarted: whether torchrun has started this job before; the same in every process.
        synchronises_norms: whether BatchNorms exchange their statistics, so that every process has to run the model
            for every batch, also for its share of no images at all.
        links: to the other processes; None for one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    is_restarted: bool = False
    synchronises_norms: bool = False
    links: Links | None = None
    _gradients: GradientExchange = field(default_factory=GradientExchange)

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size), as loaders ask for it."""
        return self.rank, self.size

    def start_sum(self, tensors: Sequence[Tensor]) -> PendingSum:
        """Begin to sum small CPU tensors over all processes in one exchange; nobody waits before ``wait()``.

        Args:
            tensors: of any shape and number format, bool as 0 and 1; as many and as large in every process.
        """
        return PendingSum(tensors, self.links)

    def sum_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums of small CPU tensors over all processes, exchanged at once without touching a GPU."""
        return self.start_sum(tensors).wait()

    def any_rank(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.links is None:
            return flag
        return bool(self.sum_over_ranks([torch.tensor(float(flag))])[0] > 0)

    def reduce_gradients(
        self, parameters: Sequence[Tensor], expected: Sequence[bool], losses: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Sum the gradients of a step over all processes, and its losses along with them, in one exchange.

        Args:
            parameters: all that learn, in the same order everywhere.
            expected: for each whether some head of this step uses it, known from the graph and so the same everywhere.
                A gradient that is absent here then counts as zero; the others stay None.
            losses: small tensors on the parameters' device, under the same names everywhere.

        Returns:
            The sums of the losses. ``parameter.grad`` becomes a part of one flat tensor, which is used again in the
            next step unless somebody still holds one of the gradients.
        """
        losses = dict(losses or {})
        if self.links is None:
            return losses
        with told_when_broken():
            summed = self._gradients.reduce(parameters, expected, list(losses.values()), self._all_reduce)
        return dict(zip(losses, summed, strict=True))

    def sum_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums of small tensors on the device, all of one number format, in one exchange."""
        return self.reduce_gradients([], [], losses)

    def _all_reduce(self, flat: Tensor) -> None:
        dist.all_reduce(flat)

    @torch.no_grad()
    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors on the device the values they have in the first process, in place, one exchange per format."""
        if self.links is None:
            return
        by_format: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_format.setdefault(tensor.dtype, []).append(tensor)
        with told_when_broken():
            for listed in by_format.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in listed])
                dist.broadcast(flat, 0)
                parts = flat.split([tensor.numel() for tensor in listed])
                for tensor, part in zip(listed, parts, strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def broadcast_object(self, value: T) -> T:
        """Return the first process's value: plain values, arrays, CPU tensors, or dataclasses of them."""
        if self.links is None:
            return value
        box = [value if self.rank == 0 else None]
        with told_when_broken():
            dist.broadcast_object_list(box, 0, group=self.links.values)
        return box[0]

    def from_first_rank(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns in the first process, which alone calls it; see ``broadcast_object``."""
        return self.broadcast_object(make() if self.rank == 0 else None)

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of all processes by rank, in every process."""
        if self.links is None:
            return [value]
        found: list[T | None] = [None] * self.size
        with told_when_broken():
            dist.all_gather_object(found, value, group=self.links.values)
        return found

    def gather_on_first_rank(self, value: T) -> list[T] | None:
        """Return the values of all processes by rank in the first process, None in the others."""
        if self.links is None:
            return [value]
        found: list[T | None] | None = [None] * self.size if self.rank == 0 else None
        with told_when_broken():
            dist.gather_object(value, found, 0, group=self.links.values)
        return found

    def messages_of_all(self, messages: Sequence[str]) -> list[str]:
        """Return the messages of all processes, each once, in the first process; the others have nothing to say."""
        found = self.gather_on_first_rank(list(messages))
        return list(dict.fromkeys(text for listed in found or [] for text in listed))

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.links is not None:
            with told_when_broken():
                dist.barrier(group=self.links.values)

    @contextmanager
    def first_rank_first(self) -> Iterator[None]:
        """Let the first process of every machine go through this context before its neighbours.

        What it builds on the disk, such as caches, they then find. However long it takes, they wait; if it fails, they
        end.

        Raises:
            LostProcess: another process has failed.
        """
        if self.links is None:
            yield
            return
        key = f"first/{next(self.links.numbers)}/{self.links.machine}"
        if self.local_rank == 0:
            yield
            self.links.meeting.store.set(key, "done")
            return
        while not self.links.meeting.store.check([key]):
            self.links.note.raise_if_left()
            time.sleep(POLL_SECONDS)
        yield

    def remember(self, name: str, value: str) -> None:
        """Leave a word for later starts of this job; the first process does it."""
        if self.links is not None and self.rank == 0:
            self.links.meeting.job.set(f"kept/{name}", value)

    def remembered(self, name: str) -> str | None:
        """Return the word that an earlier start of this job left, in every process; None where there is none."""
        if self.links is None:
            return None
        job, key = self.links.meeting.job, f"kept/{name}"
        return self.from_first_rank(lambda: job.get(key).decode() if job.check([key]) else None)
