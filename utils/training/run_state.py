"""Everything that a run needs to go on from any step: written now and then, read by ``--resume``."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.transforms.hsv import colours_are_compiled
from models.checkpoint import Checkpoint, load_checkpoint, read_header, save_checkpoint
from utils.distributed import World
from utils.errors import ModelError, UsageError
from utils.optimizer import load_optimizer_tensors, optimizer_tensors
from utils.recipe import fill_recipe
from utils.training.deadline import RunLength
from utils.training.options import default_options
from utils.training.parts import Parts
from utils.training.tasks import TrainTask, criterion_tensors, load_criterion_tensors

LOGGER = logging.getLogger("yolograph")
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epochs_done: completed epochs.
        rounds_done: rounds of batches done within the epoch that is under way.
        steps: optimizer steps since the start of the run, those that were left out included.
        epochs: length of the run; a deadline may make it another one than was asked for.
        length: how its schedule follows from that, see ``RunLength``.
        train_seconds: time spent on the training of the epoch that is under way.
        best_fitness: highest fitness so far, -1 before the first validation.
        best_epoch: the epoch that reached it.
        seconds: time spent in training and validation.
        stopped_early: whether it ended because the patience was used up.
        bad_steps: steps left out because a gradient was not finite.
        bad_in_a_row: those since the last good one.
        returns: how often the run went back to its last good state.
        pieces: into how many pieces a batch is cut because more at once does not fit into the memory.
        pictures: how many each head trains on; positions in the data follow from it.
        compiled_colours: whether numba changed the colours of its pictures; None where nothing changes them.
    """

    epochs_done: int = 0
    rounds_done: int = 0
    steps: int = 0
    epochs: int = 0
    length: dict[str, float] = field(default_factory=dict)
    train_seconds: float = 0.0
    best_fitness: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    stopped_early: bool = False
    bad_steps: int = 0
    bad_in_a_row: int = 0
    returns: int = 0
    pieces: int = 1
    pictures: dict[str, int] = field(default_factory=dict)
    compiled_colours: bool | None = None

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped_early or (self.epochs > 0 and self.epochs_done >= self.epochs)

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
    _ticked: float = field(default_factory=time.perf_counter, init=False)
    _saved: float = field(default_factory=time.perf_counter, init=False)

    def take_time(self) -> None:
        """Add the time since the last call to what the run has taken, and to its epoch while that is trained."""
        now = time.perf_counter()
        self.progress.seconds += now - self._ticked
        if self.progress.rounds_done:
            self.progress.train_seconds += now - self._ticked
        self._ticked = now

    @property
    def is_save_due(self) -> bool:
        """Whether the last save within this process is longer ago than the options want."""
        return time.perf_counter() - self._saved >= 60 * self.options.save_minutes

    @property
    def length(self) -> RunLength:
        """How long the run is and where on its schedule it is."""
        return RunLength.from_state(self.progress.length, self.progress.epochs)

    def length_within(self, hours: float, epochs_done: float) -> RunLength:
        """Return the length that suits a run of so many hours, by the time that its epochs have taken so far."""
        length = self.length
        length.fit(hours, epochs_done, self.progress.seconds)
        return length

    def validates_after(self, epoch: int) -> bool:
        """Whether an epoch ends with a validation; every one of the last, without mosaic, does."""
        if self.options.noval or epoch == self.progress.epochs:
            return epoch == self.progress.epochs
        return epoch % self.options.val_interval == 0 or epoch > self.options.epochs - self.hyp["close_mosaic"]

    def note_save(self) -> None:
        """Begin to count the time to the next save."""
        self._saved = time.perf_counter()

    @property
    def weights_folder(self) -> Path:
        """Where checkpoints lie."""
        return self.folder / "weights"


def find_last(resume: str, project: str) -> Path:
    """Return the checkpoint that ``--resume`` means.

    Args:
        resume: a run folder, a checkpoint, or empty for the newest run that has not come to its end.
        project: folder of runs.

    Raises:
        UsageError: there is nothing to resume.
    """
    if not resume:
        found = sorted(Path(project).glob(f"*/weights/{LAST}"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not found:
            raise UsageError(f"--resume: no run below {project} has a {LAST}; name the run's folder")
        return next((path for path in found if not _is_known_finished(path)), found[0])
    path = Path(resume)
    for candidate in (path / "weights" / LAST, path / LAST, path):
        if candidate.is_file():
            return candidate
    raise UsageError(f"--resume {resume}: there is no weights/{LAST} in that folder; name a run's folder")


def _is_known_finished(last: Path) -> bool:
    try:
        return stored_progress(read_header(last)["progress"]).is_finished
    except ModelError:
        # A damaged file may have a good one beside it; resuming finds out.
        return False


def stored_progress(stored: Mapping[str, Any]) -> Progress:
    """Return how far a saved run has come; values that its version did not know yet have their defaults."""
    known = {entry.name for entry in fields(Progress)}
    progress = Progress(**{name: value for name, value in stored.get("progress", {}).items() if name in known})
    progress.epochs = progress.epochs or stored.get("options", {}).get("epochs", 0)
    return progress


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
        # The next save would let the damaged one stand for the previous, and be all that is left if it failed.
        os.replace(previous, last)
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
    progress = stored_progress(stored)
    # Over the defaults, because a run of an earlier version knew fewer options.
    options = argparse.Namespace(**(vars(default_options()) | stored["options"]))
    if progress.is_finished:
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
    # Earlier versions had it among the options alone.
    hyp = {"close_mosaic": options.close_mosaic or 0, **stored["hyp"]}
    return Run(weights_folder.parent, options, fill_recipe(hyp, str(last)), progress, checkpoint)


def save_run(run: Run, parts: Parts, is_best: bool = False, keep_epoch: bool = False) -> None:
    """Write ``last`` (the one before it is kept as ``previous``); every process calls it, the first one writes.

    Args:
        run: whose progress is up to date.
        parts: whose state is written.
        is_best: write the averaged weights as ``best`` too.
        keep_epoch: write them under the epoch's number too.

    Raises:
        RunError: a weight is not finite; the files stay as they are.
    """
    generators = random_states(parts.world)
    run.note_save()
    # Every process may be the one that tells of it.
    run.progress.steps = parts.stepper.steps
    if parts.world.rank > 0:
        return
    run.progress.bad_steps, run.progress.bad_in_a_row = parts.health.bad_total, parts.health.bad_in_a_row
    run.progress.pieces = parts.retry.pieces
    run.progress.pictures = {task.name: len(task.dataset) for task in parts.tasks}
    run.progress.compiled_colours = colours_are_compiled()
    tensors = {
        "model": parts.graph.state_dict(),
        "ema": parts.ema.module.state_dict(),
        "optimizer": optimizer_tensors(parts.optimizer, parts.graph),
        "criterion": criterion_tensors(parts.tasks),
        "balance": parts.balance.state_dict(),
        "update": parts.update.state(),
        "meter": parts.meter.state_tensors(),
        "image_weights": image_weight_tensors(parts.tasks),
        "rng": generators,
    }
    stored = {
        "progress": vars(run.progress),
        "options": vars(run.options),
        "hyp": run.hyp,
        "ema_updates": parts.ema.updates,
    }
    graph = parts.graph
    whole = Checkpoint(graph.spec.source, graph.spec.text, graph.names, tensors, stored, graph.keypoints)
    # The best comes first: a run that is killed in between does its epoch again, and finds the same best.
    if is_best and not run.options.nosave:
        save_checkpoint(run.weights_folder / BEST, stripped(whole))
    if keep_epoch:
        save_checkpoint(run.weights_folder / f"epoch{run.progress.epochs_done}.safetensors", stripped(whole))
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


def random_states(world: World) -> dict[str, Tensor]:
    """Return the states of PyTorch's generators of all processes: ``RANK/torch``, and ``RANK/cuda`` on a GPU."""
    own = {"torch": torch.get_rng_state()}
    if world.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(world.device)
    gathered = world.gather_objects({name: state.tolist() for name, state in own.items()}) if world.size > 1 else []
    states = {
        f"{rank}/{name}": torch.tensor(state, dtype=torch.uint8)
        for rank, found in enumerate(gathered)
        for name, state in found.items()
    }
    return states or {f"0/{name}": state for name, state in own.items()}


def restore_random_states(states: Mapping[str, Tensor], world: World) -> None:
    """Restore what ``random_states`` returned for this process; what it did not know stays as it is."""
    if (own := states.get(f"{world.rank}/torch")) is not None:
        torch.set_rng_state(own)
    if world.device.type == "cuda" and (own := states.get(f"{world.rank}/cuda")) is not None:
        torch.cuda.set_rng_state(own, world.device)


def stripped(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with the averaged weights alone, for use and not for going on."""
    kept = {key: checkpoint.progress[key] for key in ("progress", "hyp")}
    return replace(checkpoint, tensors={"ema": checkpoint.tensors["ema"]}, progress=kept)


def image_weight_tensors(tasks: list[TrainTask]) -> dict[str, Tensor]:
    """Return how often images come, named ``HEAD/PASS``; nothing without ``--image-weights``."""
    return {
        f"{task.name}/{first_pass}": torch.from_numpy(weights)
        for task in tasks
        for first_pass, weights in task.loader.image_weights.items()
    }


def load_image_weight_tensors(tasks: list[TrainTask], tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``image_weight_tensors`` returned; loaders must not stream yet.

    Weights of other pictures than there are now are passed over.
    """
    for task in tasks:
        own = [(name.rpartition("/"), value) for name, value in tensors.items()]
        weights = {int(number): value.numpy() for (name, _, number), value in own if name == task.name}
        if weights and all(len(values) == len(task.dataset) for values in weights.values()):
            task.loader.image_weights = weights


def restore_run(run: Run, parts: Parts) -> None:
    """Put everything back as it was when the run's checkpoint was written; a new run stays as it is."""
    if run.checkpoint is None:
        return
    checkpoint, progress = run.checkpoint, run.progress
    warn_of_other_data(progress, parts.tasks)
    warn_of_other_colours(progress)
    _put_back(checkpoint, parts)
    load_image_weight_tensors(parts.tasks, checkpoint.tensors.get("image_weights", {}))
    parts.meter.load_state_tensors(checkpoint.tensors.get("meter", {}))
    restore_random_states(checkpoint.tensors["rng"], parts.world)
    parts.stepper.steps = progress.steps
    parts.health.bad_total, parts.health.bad_in_a_row = progress.bad_steps, progress.bad_in_a_row
    parts.retry.pieces = progress.pieces
    # The tensors have been copied; a checkpoint kept to the end would hold twice the model in memory.
    run.checkpoint = None


def warn_of_other_data(progress: Progress, tasks: list[TrainTask]) -> None:
    """Say where pictures have come or gone since the run was saved, because it cannot go on exactly then."""
    changes = [
        f"{task.name} {progress.pictures[task.name]} -> {len(task.dataset)}"
        for task in tasks
        if progress.pictures.get(task.name, len(task.dataset)) != len(task.dataset)
    ]
    if changes:
        LOGGER.warning(
            "the training pictures have changed since the run was saved (%s): it goes on, but not as it would have; "
            "put them back for an exact resume",
            ", ".join(changes),
        )


def warn_of_other_colours(progress: Progress) -> None:
    """Say where numba has come or gone since the run was saved, because it rounds some levels otherwise than OpenCV."""
    before, now = progress.compiled_colours, colours_are_compiled()
    if None not in (before, now) and before != now:
        LOGGER.warning(
            "the run was saved %s numba, which changes colours by a level here and there: it goes on, but not as it "
            "would have; %s it for an exact resume",
            *(("with", "install") if before else ("without", "remove")),
        )


def return_to_last_good(run: Run, parts: Parts) -> None:
    """Take weights, averages and the optimizer's memory from ``last``; the run's position stays where it is.

    Raises:
        ModelError: the checkpoint cannot be read.
    """
    _put_back(parts.world.from_first_rank(lambda: load_resumable(run.weights_folder / LAST)), parts)


def _put_back(checkpoint: Checkpoint, parts: Parts) -> None:
    tensors = checkpoint.tensors
    parts.graph.load_state_dict(tensors["model"])
    parts.ema.load(tensors["ema"], checkpoint.progress["ema_updates"])
    parts.optimizer.state.clear()
    load_optimizer_tensors(parts.optimizer, parts.graph, tensors.get("optimizer", {}))
    load_criterion_tensors(parts.tasks, tensors.get("criterion", {}))
    parts.balance.load_state_dict(tensors.get("balance", {}), strict=False)
    parts.update.load(tensors.get("update", {}))
