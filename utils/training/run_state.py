"""Everything that a run needs to go on: written after every epoch, read by ``--resume``."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.graph import Graph
from utils.ema import ModelEma
from utils.errors import ModelError, UsageError
from utils.optimizer import load_optimizer_tensors, optimizer_tensors
from utils.training.tasks import TrainTask, criterion_tensors, load_criterion_tensors

LOGGER = logging.getLogger("yolograph")
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epochs_done: completed epochs.
        best_fitness: highest fitness so far, -1 before the first validation.
        best_epoch: the epoch that reached it.
        seconds: time spent in training and validation.
        stopped_early: whether it ended because the patience was used up.
    """

    epochs_done: int = 0
    best_fitness: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    stopped_early: bool = False

    def take_fitness(self, epoch: int, fitness: float) -> bool:
        """Take the fitness of a validated epoch; return whether it is the best so far."""
        if fitness <= self.best_fitness:
            return False
        self.best_fitness, self.best_epoch = fitness, epoch
        return True


@dataclass
class Run:
    """A run folder with its options and recipe, new or taken up again.

    Attributes:
        folder: the run folder.
        options: command-line values; those of the first start when it is taken up again.
        hyp: the recipe.
        progress: how far it has come.
        checkpoint: what to continue from; None for a new run, and once everything is restored.
        transfer: what became of the tensors of ``--weights``, by name; empty without.
    """

    folder: Path
    options: argparse.Namespace
    hyp: dict[str, Any]
    progress: Progress = field(default_factory=Progress)
    checkpoint: Checkpoint | None = None
    transfer: str = ""

    @property
    def weights_folder(self) -> Path:
        """Where checkpoints lie."""
        return self.folder / "weights"


def find_last(resume: str, project: str) -> Path:
    """Return the checkpoint that ``--resume`` means.

    Args:
        resume: a run folder, a checkpoint, or empty for the newest run.
        project: folder of runs.

    Raises:
        UsageError: there is nothing to resume.
    """
    if not resume:
        found = sorted(Path(project).glob(f"*/weights/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UsageError(f"--resume: no run below {project} has a {LAST}; name the run's folder")
        return found[-1]
    path = Path(resume)
    for candidate in (path / "weights" / LAST, path / LAST, path):
        if candidate.is_file():
            return candidate
    raise UsageError(f"--resume {resume}: there is no weights/{LAST} in that folder; name a run's folder")


def load_resumable(last: Path) -> Checkpoint:
    """Read the last checkpoint of a run, or the one before it when the last is damaged.

    Raises:
        ModelError: neither can be read, or the file is a model for use.
    """
    try:
        checkpoint = load_checkpoint(last)
    except ModelError as error:
        previous = last.with_name(PREVIOUS)
        if last.name != LAST or not previous.is_file():
            raise
        LOGGER.warning("%s; going on from %s", error, previous)
        checkpoint = load_checkpoint(previous)
    if "options" not in checkpoint.progress:
        raise ModelError(f"{last}: is a finished model and cannot be resumed; train on from it with --weights {last}")
    return checkpoint


def resume_run(resume: str, project: str) -> Run:
    """Take up an interrupted run with the options and the recipe it was started with.

    Raises:
        UsageError: there is no such run.
        ModelError: its checkpoint cannot be read, or it has come to its end.
    """
    last = find_last(resume, project)
    checkpoint = load_resumable(last)
    stored = checkpoint.progress
    progress = Progress(**stored["progress"])
    options = argparse.Namespace(**stored["options"])
    if progress.stopped_early or progress.epochs_done >= options.epochs:
        best = last.with_name(BEST)
        raise ModelError(
            f"{last}: the run is finished after {progress.epochs_done} epochs"
            f"{' (stopped early)' if progress.stopped_early else ''}; "
            f"train on with --weights {best if best.is_file() else last}"
        )
    weights_folder = last.absolute().parent
    if weights_folder.name != "weights":
        raise UsageError(
            f"--resume {resume}: the checkpoint does not lie in a run folder, as RUN/weights/{LAST}; "
            f"put it back there, or start a new run with --weights {resume}"
        )
    return Run(weights_folder.parent, options, stored["hyp"], progress, checkpoint)


def save_run(
    run: Run, graph: Graph, ema: ModelEma, optimizer: Optimizer, tasks: list[TrainTask], is_best: bool
) -> None:
    """Write ``last`` (the one before it is kept as ``previous``), and ``best`` without the optimizer where it is.

    Raises:
        RunError: a weight is not finite; the files stay as they are.
    """
    tensors = {
        "model": graph.state_dict(),
        "ema": ema.module.state_dict(),
        "optimizer": optimizer_tensors(optimizer, graph),
        "criterion": criterion_tensors(tasks),
        "rng": random_states(),
    }
    stored = {
        "progress": vars(run.progress),
        "options": vars(run.options),
        "hyp": run.hyp,
        "ema_updates": ema.updates,
    }
    whole = Checkpoint(graph.spec.source, graph.spec.text, graph.names, tensors, stored)
    # The best comes first: a run that is killed in between does its epoch again, and finds the same best.
    if is_best and not run.options.nosave:
        save_checkpoint(run.weights_folder / BEST, stripped(whole))
    last = run.weights_folder / LAST
    if last.is_file():
        keep_as_previous(last)
    save_checkpoint(last, whole)


def keep_as_previous(last: Path) -> None:
    """Let ``previous`` stand for the same checkpoint as ``last``, without a copy where the file system can."""
    previous = last.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        os.link(last, previous)
    except OSError:
        # Memory cards and some network folders know no links.
        shutil.copyfile(last, previous)


def random_states() -> dict[str, torch.Tensor]:
    """Return the state of PyTorch's generators: the CPU's, and that of every GPU in use."""
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"cuda{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states


def restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Restore what ``random_states`` returned; GPUs that are not there are passed over."""
    torch.set_rng_state(states["torch"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)


def stripped(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with the averaged weights alone, for use and not for going on."""
    kept = {key: checkpoint.progress[key] for key in ("progress", "hyp")}
    return Checkpoint(
        checkpoint.source, checkpoint.graph_yaml, checkpoint.names, {"ema": checkpoint.tensors["ema"]}, kept
    )


def restore_run(run: Run, graph: Graph, ema: ModelEma, optimizer: Optimizer, tasks: list[TrainTask]) -> None:
    """Put everything back as it was when the run's checkpoint was written; a new run stays as it is."""
    if run.checkpoint is None:
        return
    tensors = run.checkpoint.tensors
    graph.load_state_dict(tensors["model"])
    ema.load(tensors["ema"], run.checkpoint.progress["ema_updates"])
    load_optimizer_tensors(optimizer, graph, tensors.get("optimizer", {}))
    load_criterion_tensors(tasks, tensors.get("criterion", {}))
    restore_random_states(tensors["rng"])
    # The tensors have been copied; a checkpoint kept to the end would hold twice the model in memory.
    run.checkpoint = None
