"""One trial of a search: a training in a folder of its own, stopped early where it is not worth its time."""

from __future__ import annotations

import argparse
import copy
import gc
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from utils.errors import DataError, ModelError, StoppedRun, UsageError, YolographError, is_out_of_memory

FITNESS = "val/fitness"
TRIALS = "trials"


class StopRun(Exception):
    """Raised by ``on_epoch``: the run ends here, cleanly, and ``train`` returns it."""


class TrainedRun(Protocol):
    """What a search reads of a run that has ended."""

    progress: Any


OnEpoch = Callable[[int, dict[str, float]], None]
Train = Callable[..., TrainedRun]
"""``train(options, hyp=..., on_epoch=...)``."""


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        fitness: best fitness of its epochs; None where none was measured.
        epochs: how many it trained.
        seconds: how long it took.
        reason: why it failed, one sentence.
        mistake: the error where it is one of the command, the data or the model rather than of the trained values.
    """

    state: str
    fitness: float | None
    epochs: int
    seconds: float
    reason: str = ""
    mistake: YolographError | None = None


def trial_folder(search: Path, number: int) -> Path:
    """Return the run folder of a trial, counted from 1."""
    return search / TRIALS / f"{number:04d}"


def trial_options(options: argparse.Namespace, search: Path, number: int) -> argparse.Namespace:
    """Return the options of a trial: those of the search, without pictures, logs and checkpoints to keep."""
    own = copy.copy(options)
    folder = trial_folder(search, number)
    own.project, own.name, own.exist_ok = str(folder.parent), folder.name, True
    own.resume = own.evolve = own.time = None
    own.evolve_keys, own.loggers, own.save_period = [], ["none"], -1
    own.noplots = own.nosave = True
    return own


class TrialWatch:
    """Follows a trial from epoch to epoch, and ends it where it is not worth its time.

    Args:
        epochs: of the whole trial.
        report: is told each measured fitness: epoch, fitness.
        hopeless: whether the trial should be given up, asked after each report.

    Attributes:
        latest: number of the last epoch that ended.
        pruned: whether the trial was given up.
    """

    def __init__(self, epochs: int, report: Callable[[int, float], None], hopeless: Callable[[], bool]) -> None:
        self.epochs, self.report, self.hopeless = epochs, report, hopeless
        self.latest, self.pruned = 0, False
        self._seen: list[float] = []

    def __call__(self, epoch: int, row: Mapping[str, float]) -> None:
        """Take the results of an epoch.

        Raises:
            StopRun: the trial is given up.
        """
        self.latest = epoch
        if FITNESS not in row:
            return
        self._seen.append(float(row[FITNESS]))
        self.report(epoch, self._seen[-1])
        # What is not pruned after its last epoch counts as complete, which it is.
        if epoch < self.epochs and self.hopeless():
            self.pruned = True
            raise StopRun

    @property
    def best(self) -> float | None:
        """The best finite fitness so far."""
        return max((value for value in self._seen if math.isfinite(value)), default=None)


def run_trial(
    train: Train,
    options: argparse.Namespace,
    hyp: Mapping[str, Any],
    report: Callable[[int, float], None],
    hopeless: Callable[[], bool],
) -> Outcome:
    """Train once and say what came of it. Its checkpoints are removed; results, options and recipe stay.

    Args:
        train: the function that trains.
        options: of ``trial_options``.
        hyp: the trial's recipe.
        report: is told each measured fitness: epoch, fitness.
        hopeless: whether the trial should be given up, asked after each report.

    Raises:
        StoppedRun: a signal ended it.
    """
    watch = TrialWatch(options.epochs, report, hopeless)
    started = time.perf_counter()
    reason, mistake, run = "", None, None
    try:
        run = train(options, hyp=dict(hyp), on_epoch=watch)
    except StoppedRun:
        raise
    except YolographError as error:
        reason = str(error)
        mistake = error if isinstance(error, UsageError | DataError | ModelError) else None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = "there is not enough memory"
    finally:
        shutil.rmtree(Path(options.project) / options.name / "weights", ignore_errors=True)
    seconds = time.perf_counter() - started
    fitness = watch.best
    if run is not None and not watch.pruned:
        fitness = float(run.progress.best_fitness) if fitness is not None else None
        reason = "" if fitness is not None else "no fitness was measured"
    # Out of the error's reach, so that what it held of the model is let go before the next trial begins.
    run = None
    free_memory()
    state = "failed" if reason else "pruned" if watch.pruned else "complete"
    return Outcome(state, fitness, watch.latest, seconds, reason, mistake)


def free_memory() -> None:
    """Let go of what the last training held, the GPU's memory included."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
