"""Train every head of a model YAML in one loop: ``python train.py --cfg MODEL.yaml --data DATA.yaml``.

The functions below are the whole story. Batches of all tasks take turns, their gradients add up to one optimizer step,
the averaged weights are validated after each epoch. The run is saved after each epoch and now and then within one, so
that it can go on from there as if nothing had happened.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from data.samples import Batch
from utils.distributed import World, spoken_once, start_world
from utils.errors import StoppedRun, run_command
from utils.logging import start_logging
from utils.search.evolve import evolve
from utils.search.trial import StopRun
from utils.training.assembly import assemble
from utils.training.assignments import draw_assignments
from utils.training.options import parse_train_options
from utils.training.parts import Parts
from utils.training.pictures import draw_batches, draw_results
from utils.training.positives import warn_without_positives
from utils.training.progress import progress_bar, show_losses
from utils.training.recovery import go_back_or_give_up
from utils.training.run_state import Run, save_run
from utils.training.setup import prepare_run
from utils.training.stopping import StopRequest
from utils.validation import measured, validate, weighed_fitness

LOGGER = logging.getLogger("yolograph")
SHOWN_METRICS = 4

Row = dict[str, float]
"""One line of ``results.csv``."""


def train(
    options: argparse.Namespace, hyp: dict | None = None, on_epoch: Callable[[int, Row], None] | None = None
) -> Run:
    """Train and return the run.

    Args:
        options: what ``parse_train_options`` returned.
        hyp: a recipe that takes the place of the one that the options name.
        on_epoch: called after every epoch with its number and its results, by the first process; it may raise
            ``StopRun``, which ends the run as if this had been its last epoch.

    Raises:
        StoppedRun: a signal ended the run; its state is saved.
        DivergedError: losses were not finite again and again.
    """
    with start_world(options.device) as world, StopRequest() as stop:
        with stopping_at_once(stop, world):
            run = prepare_run(options, hyp, world)
            parts = assemble(run, world)
        try:
            while not run.progress.is_finished:
                epoch = run.progress.epochs_done + 1
                train_epoch(run, parts, epoch, stop)
                row = results_of_training(run, parts, epoch)
                if run.validates_after(epoch):
                    row |= validate_epoch(run, parts, epoch, stop)
                finish_epoch(run, parts, row)
                if on_epoch is not None and world.rank == 0:
                    on_epoch(epoch, row)
            say_how_it_went(run, parts)
        except StopRun:
            LOGGER.info("ended after epoch %d by its caller", run.progress.epochs_done)
        finally:
            parts.close()
    return run


def train_epoch(run: Run, parts: Parts, epoch: int, stop: StopRequest) -> None:
    """Make the steps that are left of an epoch.

    Raises:
        StoppedRun: a signal came; the run is saved after the step that was under way.
    """
    progress, rounds = run.progress, parts.turns.rounds
    parts.start_epoch(epoch, run.options.epochs)
    with progress_bar(progress.rounds_done, rounds, epoch, progress.epochs, parts.world.rank > 0) as bar:
        while progress.rounds_done < rounds:
            position = (epoch - 1) * rounds + progress.rounds_done
            count = min(parts.rates.accumulate(position), rounds - progress.rounds_done)
            parts.rates.apply(parts.optimizer, position)
            batches = parts.draw(progress.rounds_done, count)
            if position == 0 and parts.world.rank == 0:
                draw_first_batches(run, parts, batches)
            record, (stopping, saving) = parts.stepper.step(batches, (stop.wanted, run.is_save_due))
            parts.meter.add(record.parts)
            parts.health.add(record)
            progress.rounds_done += count
            run.take_time()
            if run.options.time is not None and tells_of_time(run, rounds, count):
                fit_into_time(run, parts)
            # Several processes have agreed on it before the step; one alone may look again.
            stopping = stopping or (parts.world.size == 1 and stop.wanted)
            if parts.health.is_due or saving or stopping:
                # What is saved says how many steps were left out, too.
                parts.health.read()
                if parts.health.is_beyond_hope:
                    go_back_or_give_up(run, parts)
                show_losses(bar, parts.meter, parts.device)
            bar.update(count)
            if saving or stopping:
                save_run(run, parts)
            if stopping:
                raise StoppedRun(stopped_sentence(run, epoch))
    parts.health.read()


def draw_first_batches(run: Run, parts: Parts, batches: dict[str, list[Batch]]) -> None:
    """Draw what the run begins with, as far as the options ask for it."""
    if not run.options.noplots:
        draw_batches(batches, parts.graph.names, parts.graph.keypoints, run.folder)
    if run.options.visualize_assign:
        draw_assignments(batches, parts, run.folder)


def results_of_training(run: Run, parts: Parts, epoch: int) -> Row:
    """Return what training an epoch gave: its time, the learning rate at its end, and mean losses."""
    row = {"epoch": epoch, "train_seconds": run.progress.train_seconds, "lr": parts.rates.last_rate(epoch)}
    means = parts.meter.means()
    warn_without_positives(parts.tasks, means, epoch)
    for name, losses in means.items():
        row |= {f"train/{name}_{part}": value for part, value in losses.items()}
    if parts.balance.state_dict():
        row |= {f"weight/{name}": float(factor) for name, factor in parts.balance.factors().items()}
    return row


def validate_epoch(run: Run, parts: Parts, epoch: int, stop: StopRequest) -> Row:
    """Measure the averaged weights on the validation split of every head, all processes together.

    Raises:
        StoppedRun: a signal came; the run is saved as it was before the validation.
    """
    try:
        with stopping_at_once(stop, parts.world):
            parts.share_statistics()
            if run.options.precise_bn:
                parts.make_statistics_precise(epoch, run.options.precise_bn)
            evaluators = validate(
                parts.ema.module, parts.tests, parts.device, parts.dtype, parts.world, lambda: stop.wanted
            )
    except StoppedRun:
        save_run(run, parts)
        raise StoppedRun(stopped_sentence(run, epoch)) from None
    # The first process has the results of all.
    scores, fitness, precisions = parts.world.from_first_rank(lambda: summarise(evaluators, parts.fitness_weights))
    if run.options.image_weights:
        for task in parts.tasks:
            if task.finds_objects:
                task.weigh_images(precisions[task.name])
    LOGGER.info("epoch %d val  %s", epoch, describe(scores))
    row = {f"val/{name}_{metric}": value for name, found in scores.items() for metric, value in found.items()}
    return row | {"val/fitness": fitness}


def finish_epoch(run: Run, parts: Parts, row: Row) -> None:
    """Note the results of an epoch, keep the best weights, and save the run."""
    progress, options, epoch = run.progress, run.options, int(row["epoch"])
    is_best = "val/fitness" in row and progress.take_fitness(epoch, row["val/fitness"])
    progress.epochs_done, progress.rounds_done, progress.train_seconds = epoch, 0, 0.0
    if "val/fitness" in row and epoch < progress.epochs:
        # Only a validated epoch can use up the patience: the ones between had no chance to be better.
        progress.stopped_early = 0 < options.patience <= epoch - progress.best_epoch
    parts.meter.reset()
    run.take_time()
    if options.time is not None:
        fit_into_time(run, parts)
    if parts.world.rank == 0:
        parts.table.add(row)
        parts.loggers.log(row, epoch)
    save_run(run, parts, is_best, options.save_period > 0 and epoch % options.save_period == 0)
    for message in parts.world.messages_of_all([text for task in parts.tasks for text in task.new_skips()]):
        LOGGER.warning("skipped: %s", message)
    if progress.stopped_early:
        LOGGER.info(
            "stopping early: no better result since epoch %d (patience %d)", progress.best_epoch, options.patience
        )


def fit_into_time(run: Run, parts: Parts) -> None:
    """Let the number of epochs, and with it the learning rate, follow from the time that is left."""
    before = run.progress.epochs
    # By the first process's clock, because all have to come to the same number.
    done = run.progress.epochs_done + run.progress.rounds_done / parts.turns.rounds
    length = parts.world.from_first_rank(lambda: run.length_within(run.options.time, done))
    run.progress.length, run.progress.epochs = length.state(), length.epochs
    parts.rates.length = length
    if length.epochs != before:
        LOGGER.info("%d epochs fit into %g hours", length.epochs, run.options.time)


def tells_of_time(run: Run, rounds: int, count: int) -> bool:
    """Return whether the step of ``count`` rounds that was just made is the run's first, or ends its first tenth."""
    done = run.progress.rounds_done
    return run.progress.epochs_done == 0 and (done == count or done - count < rounds / 10 <= done)


def say_how_it_went(run: Run, parts: Parts) -> None:
    """Draw the curves of a finished run and tell its result."""
    if parts.world.rank > 0:
        return
    if not run.options.noplots:
        draw_results(run.folder)
        parts.loggers.picture("results", run.folder / "results.png")
    if parts.health.bad_total:
        LOGGER.warning("%d steps were left out because their gradients were not finite", parts.health.bad_total)
    progress = run.progress
    parts.loggers.finish({"best_fitness": progress.best_fitness, "best_epoch": progress.best_epoch})
    LOGGER.info(
        "%d epochs in %.1f minutes, best fitness %.4f in epoch %d; weights in %s",
        progress.epochs_done,
        progress.seconds / 60,
        progress.best_fitness,
        progress.best_epoch,
        run.weights_folder,
    )


def stopping_at_once(stop: StopRequest, world: World) -> AbstractContextManager[None]:
    """Return a context in which a signal ends a process that is alone; several have to agree on when to stop."""
    return stop.at_once() if world.size == 1 else nullcontext()


def stopped_sentence(run: Run, epoch: int) -> str:
    """Return what a user is told whose run was stopped by a signal."""
    return (
        f"stopped in epoch {epoch} after step {run.progress.steps}, and saved; "
        f"go on with: python train.py --resume {run.folder}"
    )


def summarise(
    evaluators: dict[str, Any], weights: dict[str, float]
) -> tuple[dict[str, dict[str, float]], float, dict[str, np.ndarray]]:
    """Return the metrics of every head, the fitness of the model, and AP per class where a head finds objects."""
    scores = {name: measured(evaluator.compute()) for name, evaluator in evaluators.items()}
    precisions = {
        name: np.array([entry.get("AP", 0.0) for entry in evaluator.per_class()])
        for name, evaluator in evaluators.items()
    }
    return scores, weighed_fitness(evaluators, weights), precisions


def describe(scores: dict[str, dict[str, float]]) -> str:
    """Return the first metrics of every head in one line."""
    groups = {name: list(found.items())[:SHOWN_METRICS] for name, found in scores.items()}
    return "  ".join(f"{name} [{' '.join(f'{m} {v:.4f}' for m, v in group)}]" for name, group in groups.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    with spoken_once():
        options = parse_train_options(arguments)
    if options.evolve is not None:
        evolve(options, train)
    else:
        train(options)


if __name__ == "__main__":
    run_command(main)
