"""Everything that takes part in training a model, put together once at the start of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.optim import Optimizer

from data.samples import Batch
from models.graph import Graph
from utils.distributed import World
from utils.ema import ModelEma
from utils.loggers import Loggers
from utils.training.balance import Balance
from utils.training.health import Health
from utils.training.memory_retry import MemoryRetry
from utils.training.precise_norm import estimate_statistics
from utils.training.progress import LossMeter
from utils.training.rates import Rates
from utils.training.results import ResultsTable
from utils.training.step import Stepper
from utils.training.tasks import TrainTask
from utils.training.turns import Turns
from utils.training.update import Update
from utils.validation import HeadTest


@dataclass
class Parts:
    """The moving parts of a run.

    Attributes:
        world: the processes that share the work.
        device: where this process computes.
        dtype: reduced format of forward passes, None for float32.
        graph: the model being trained.
        tasks: what training each head takes.
        tests: the validation of each head.
        fitness_weights: weight of each head in the fitness that picks the best weights.
        turns: which head gives a batch when.
        rates: learning rates and accumulation by position.
        optimizer: over the model's parameters.
        ema: the averaged model.
        update: what happens to the weights at the end of a step.
        balance: how the heads' losses are weighed against each other.
        retry: what happens when the memory does not suffice.
        stepper: makes steps.
        health: watches for steps that are not finite.
        meter: mean losses of the epoch that is under way.
        table: ``results.csv``.
        loggers: where else results go; in the first process alone.
    """

    world: World
    device: torch.device
    dtype: torch.dtype | None
    graph: Graph
    tasks: list[TrainTask]
    tests: dict[str, HeadTest]
    fitness_weights: dict[str, float]
    turns: Turns
    rates: Rates
    optimizer: Optimizer
    ema: ModelEma
    update: Update
    balance: Balance
    retry: MemoryRetry
    stepper: Stepper
    health: Health
    meter: LossMeter
    table: ResultsTable
    loggers: Loggers
    _streams: dict[str, Iterator[Batch]] = field(default_factory=dict, init=False)

    def start_epoch(self, epoch: int, planned_epochs: int) -> None:
        """Bring model and losses to where they are in an epoch, also in the middle of it after a resume.

        Args:
            epoch: its number, from 1.
            planned_epochs: length of the run that was asked for. ``--time`` may make it another one, but the last
                epochs, which are without mosaic, count from here.
        """
        self.graph.train()
        for task in self.tasks:
            task.criterion.start_epoch(epoch - 1, planned_epochs)

    def open_streams(self, rounds_done: int) -> None:
        """Let the loaders begin behind what the run has had so far.

        Args:
            rounds_done: rounds of the whole run.
        """
        self._streams = {task.name: task.loader.stream(self.turns.taken(task.name, rounds_done)) for task in self.tasks}

    def draw(self, first: int, count: int) -> dict[str, list[Batch]]:
        """Return the next micro-batches of every head.

        Args:
            first: round of the epoch that comes next.
            count: how many rounds to draw.
        """
        batches: dict[str, list[Batch]] = {task.name: [] for task in self.tasks}
        for number in range(first, first + count):
            for name in self.turns.order(number):
                batches[name].append(next(self._streams[name]))
        return batches

    def close(self) -> None:
        """End the workers of all loaders, and the logs."""
        for task in self.tasks:
            task.loader.close()
        self.loggers.finish({})

    def share_statistics(self) -> None:
        """Give every process the first one's BatchNorm statistics, which are those that are saved."""
        if self.world.size > 1:
            for model in (self.graph, self.ema.module):
                self.world.broadcast_tensors(buffer for buffer in model.buffers() if buffer.is_floating_point())

    def make_statistics_precise(self, epoch: int, count: int) -> None:
        """Estimate the averaged model's BatchNorm statistics anew.

        Args:
            epoch: number of the epoch that has ended, from 1; every head takes batches of the pass over its data in
                which it is then.
            count: batches per head.
        """
        rounds_done = epoch * self.turns.rounds
        batches = {
            task.name: task.batches_of_pass(self.turns.taken(task.name, rounds_done) // len(task.loader), count)
            for task in self.tasks
        }
        sums = None if self.world.size == 1 else lambda tensor: self.world.sum_over_ranks([tensor.cpu()])[0].to(tensor)
        estimate_statistics(self.ema.module, batches, self.device, self.dtype, sums)
