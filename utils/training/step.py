"""One optimizer step over the micro-batches of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from data.samples import Batch
from models.graph import Graph
from models.heads.base import Targets
from models.row_use import parameter_users
from utils.distributed import World
from utils.errors import RunError, is_out_of_memory
from utils.flat_tensors import flat, spread
from utils.training.balance import Balance
from utils.training.health import StepRecord
from utils.training.memory_retry import MemoryRetry
from utils.training.multi_scale import MultiScale
from utils.training.tasks import TrainTask
from utils.training.update import Update

LEARNED = ""
"""Under this name, which no head can have, the criteria's state travels with the losses."""


@dataclass
class MicroBatch:
    """A piece of work between two backward passes: a head's batch, and what its criterion made of the labels."""

    task: TrainTask
    batch: Batch
    targets: Targets


class Stepper:
    """Turns micro-batches into optimizer steps, without waiting for the device.

    Args:
        graph: the model, in training mode while stepping.
        tasks: its tasks.
        update: what happens to the weights at the end of a step.
        balance: how the heads' losses are weighed against each other.
        world: the processes that share the work.
        device: where the model runs.
        dtype: reduced format of forward passes, None for float32.
        retry: what to do when the memory does not suffice.
        multi_scale: changes the size from step to step, where the run asks for it.

    Attributes:
        steps: steps made so far.
    """

    def __init__(
        self,
        graph: Graph,
        tasks: list[TrainTask],
        update: Update,
        balance: Balance,
        world: World,
        device: torch.device,
        dtype: torch.dtype | None,
        retry: MemoryRetry,
        multi_scale: MultiScale | None = None,
    ) -> None:
        self.graph, self.tasks, self.update, self.balance = graph, tasks, update, balance
        self.world, self.device, self.dtype, self.retry, self.multi_scale = world, device, dtype, retry, multi_scale
        self.steps = 0
        self.parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
        users, names = parameter_users(graph), {id(p): name for name, p in graph.named_parameters()}
        self._users = [set(users.get(names[id(parameter)], ())) for parameter in self.parameters]
        norms = [module for module in graph.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        self._learned = [value for task in tasks for value in task.criterion.state_dict().values()]
        self._statistics = [b for norm in norms for b in (norm.running_mean, norm.running_var)] + self._learned

    def step(self, batches: Mapping[str, list[Batch]], flags: tuple[bool, ...] = ()) -> tuple[StepRecord, list[bool]]:
        """Accumulate the gradients of all micro-batches, tasks taking turns, then change the weights once.

        Args:
            batches: per head its micro-batches of this step; a head may have none. In a run of several processes each
                has its own share of every batch, and the same number of batches per head.
            flags: wishes of this process, such as to stop after this step.

        Returns:
            The record of the step, with the weighted loss parts of every head and what its criterion watches: means
            over the step's images, objects or pixels. And the flags, each true where any process had it set.

        Raises:
            RunError: a single image does not fit into the memory.
        """
        self.steps += 1
        statistics = self._flat_statistics()
        shared = None
        active = [task for task in self.tasks if batches[task.name]]
        while True:
            try:
                work = self._cut(batches)
                # Once: it is an exchange with the other processes, and pieces do not change it.
                shared = shared or self._share_totals(work, batches, flags)
                totals, images, flags_of_all = shared
                sums, gradients = self._accumulate(work, totals, images)
                break
            except (RuntimeError, MemoryError) as error:
                self._cut_smaller(error, batches)
                self._take_statistics_back(statistics, torch.ones((), device=self.device))
        sums = self._reduce(sums, gradients, active)
        left_out = self.update.apply()
        self._take_statistics_back(statistics, left_out)
        scales = {task.name: task.scale(images[task.name]) for task in active}
        losses = {task.name: sums[task.name][: len(task.head.loss_names)].sum() for task in active}
        self.balance.update(losses, left_out, scales)
        self._forget_gradients()
        ids = {name: [file for batch in listed for file in batch.ids] for name, listed in batches.items()}
        return StepRecord(self.steps, sums, self.update.bad, ids, batches), flags_of_all

    def _cut_smaller(self, error: Exception, batches: Mapping[str, list[Batch]]) -> None:
        """Let a step be made again in smaller pieces, if it was the memory that did not suffice.

        Raises:
            RunError: no smaller pieces are possible.
        """
        if self.world.synchronises_norms and is_out_of_memory(error):
            raise RunError(
                "out of memory; BatchNorms of several processes (--sync-bn) need equal batches everywhere, so go on "
                "with --resume --recompute, or start anew with a smaller --batch-size"
            ) from None
        images = max(len(batch) for listed in batches.values() for batch in listed)
        self.retry.on_failure(error, -(-images // self.retry.pieces))
        self._forget_gradients()

    def _cut(self, batches: Mapping[str, list[Batch]]) -> list[MicroBatch]:
        """Return the work of a step in its order: tasks take turns, or follow each other where they are kept apart."""
        turns = range(max(len(listed) for listed in batches.values()))
        order = [(turn, task) for turn in turns for task in self.tasks if turn < len(batches[task.name])]
        if self.balance.separate:
            order.sort(key=lambda entry: self.tasks.index(entry[1]))
        work = []
        for turn, task in order:
            for batch in batches[task.name][turn].cut(self.retry.pieces):
                if self.multi_scale is not None and "masks" not in task.head.targets:
                    images = batch.images.to(self.device, non_blocking=True)
                    batch = self.multi_scale.resize(self.graph, replace(batch, images=images), self.steps)
                work.append(MicroBatch(task, batch, task.criterion.prepare(batch)))
        return work

    def _share_totals(
        self, work: list[MicroBatch], batches: Mapping[str, list[Batch]], flags: tuple[bool, ...]
    ) -> tuple[dict[str, Tensor], dict[str, float], list[bool]]:
        """Return denominators and images of the step per head over all processes, and the flags that any has set."""
        own = {
            task.name: sum(micro.targets.normalizers for micro in work if micro.task is task)
            for task in self.tasks
            if batches[task.name]
        }
        if self.world.size > 1:
            # Labels lie on the CPU as a rule; only masks that are kept on a GPU have to be waited for here.
            own = {name: total.cpu() for name, total in own.items()}
        counts = [float(sum(len(batch) for batch in batches[name])) for name in own]
        extras = torch.tensor(counts + [float(flag) for flag in flags])
        *summed, extras = self.world.sum_over_ranks([*own.values(), extras])
        values = extras.tolist()
        return (
            dict(zip(own, summed, strict=True)),
            dict(zip(own, values, strict=False)),
            [value > 0 for value in values[len(own) :]],
        )

    def _accumulate(
        self, work: list[MicroBatch], totals: Mapping[str, Tensor], images: Mapping[str, float]
    ) -> tuple[dict[str, Tensor], dict[str, list[Tensor | None]]]:
        """Run every micro-batch forwards and backwards.

        Returns:
            Per head its summed loss parts and what is watched; and per head its gradients where they are kept apart,
            otherwise nothing.
        """
        factors = self.balance.factors()
        sums: dict[str, Tensor] = {}
        apart: dict[str, list[Tensor | None]] = {}
        for position, micro in enumerate(work):
            task, name = micro.task, micro.task.name
            if name not in sums:
                sums[name] = torch.zeros(len(task.shown), device=self.device)
            if len(micro.batch) or self.world.synchronises_norms:
                targets = micro.targets.to(self.device)
                images_on_device = micro.batch.images.to(self.device, non_blocking=True)
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    raw = self.graph(images_on_device, heads=(name,), sizes=micro.batch.sizes)[name]
                parts = task.criterion(raw, targets, totals[name])
                weighed = torch.stack([parts[part] for part in task.head.loss_names])
                loss = weighed.sum() * task.scale(images[name]) * factors[name]
                self.update.scaled(loss).backward()
                if seen := task.criterion.seen():
                    weighed = torch.stack([*weighed.detach(), *(seen[part] for part in task.criterion.watched)])
                sums[name] += weighed.detach()
            ends = position + 1 == len(work) or work[position + 1].task is not task
            if self.balance.separate and ends:
                apart[name] = [p.grad for p in self.parameters]
                self._forget_gradients()
        return sums, apart

    def _reduce(
        self, sums: dict[str, Tensor], apart: dict[str, list[Tensor | None]], active: list[TrainTask]
    ) -> dict[str, Tensor]:
        """Sum gradients over all processes, join those that were kept apart; return the losses of all processes."""
        if self.balance.separate:
            for task in active:
                for parameter, gradient in zip(self.parameters, apart[task.name], strict=True):
                    parameter.grad = gradient
                self.world.reduce_gradients(self.parameters, self._expected([task]))
                apart[task.name] = [p.grad for p in self.parameters]
                self._forget_gradients()
            for parameter, gradient in zip(self.parameters, self.balance.combine(apart, self.steps), strict=True):
                parameter.grad = gradient
            return self._of_all(sums, self.world.sum_losses)
        expected = self._expected(active)
        return self._of_all(sums, lambda given: self.world.reduce_gradients(self.parameters, expected, given))

    def _of_all(
        self, sums: dict[str, Tensor], reduce: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the losses of all processes, and let the criteria learn from the first process's batches alone.

        Otherwise every process would weigh its losses differently, and only the first one's weights are saved.
        """
        if self.world.size == 1 or not self._learned:
            return reduce(sums)
        learned = flat(self._learned)
        summed = reduce({**sums, LEARNED: learned if self.world.rank == 0 else torch.zeros_like(learned)})
        spread(summed.pop(LEARNED), self._learned)
        return summed

    def _expected(self, active: list[TrainTask]) -> list[bool]:
        """Return for each parameter whether one of these heads uses it, so that every process sends the same."""
        names = {task.name for task in active}
        return [bool(users & names) for users in self._users]

    def _flat_statistics(self) -> Tensor | None:
        """Return a copy of BatchNorm's statistics, and of what the criteria have learned, side by side."""
        return flat(self._statistics) if self._statistics else None

    def _take_statistics_back(self, earlier: Tensor | None, left_out: Tensor) -> None:
        """Let all statistics be the earlier ones where a step is left out: they may not be finite either."""
        if earlier is not None:
            spread(torch.where(left_out > 0, earlier, flat(self._statistics)), self._statistics)

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
