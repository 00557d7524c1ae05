"""Train every head of a model YAML in one loop: ``python train.py --cfg MODEL.yaml --data DATA.yaml``.

The loop below is the whole story: batches of all tasks take turns, their gradients add up to one optimizer step, the
averaged weights are validated after each epoch, and after each epoch the run is saved so that it can go on from there.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from data.config import DataConfig, load_data_config
from models.graph import Graph
from utils.devices import autocast_dtype, select_device
from utils.ema import ModelEma
from utils.errors import run_command
from utils.host_memory import keep_freed_memory
from utils.logging import start_logging
from utils.optimizer import build_optimizer
from utils.training.options import parse_train_options
from utils.training.pictures import draw_batches, draw_labels, draw_results
from utils.training.progress import LossMeter, progress_bar, show_losses
from utils.training.rates import Rates
from utils.training.results import ResultsTable
from utils.training.run_state import restore_run, save_run
from utils.training.setup import build_graph, freeze_rows, open_run_folder, prepare_run
from utils.training.step import Stepper
from utils.training.tasks import build_tasks, head_values, open_datasets, rounds_per_epoch
from utils.validation import HeadTest, build_tests, measured, validate, weighed_fitness

LOGGER = logging.getLogger("yolograph")
SHOWN_METRICS = 4


def train(options: argparse.Namespace) -> Path:
    """Train and return the run folder."""
    run = prepare_run(options)
    options, hyp, progress = run.options, run.hyp, run.progress
    device = select_device(options.device)
    dtype = autocast_dtype(device, options.dtype)
    torch.manual_seed(options.seed)
    if device.type == "cpu":
        keep_freed_memory()

    data = load_data_config(options.data)
    graph, datasets = build_graph(run, data)
    freeze_rows(graph, options.freeze)
    graph = graph.to(device).to(memory_format=torch.channels_last)
    tasks = build_tasks(graph, datasets, hyp, options)
    for task in tasks:
        task.criterion.to(device)
    tests = build_validation(graph, data, options)
    fitness_weights = head_values(graph, hyp["fitness"], "fitness")

    rounds = rounds_per_epoch(tasks, hyp["epoch"])
    rates = Rates(hyp, rounds, options.epochs, options.batch_size)
    decay = hyp["weight_decay"] * options.batch_size * rates.full_accumulation / hyp["nominal_batch"]
    optimizer = build_optimizer(graph, hyp, decay)
    ema = ModelEma(graph, hyp["ema_decay"], hyp["ema_tau"])
    open_run_folder(run)
    restore_run(run, graph, ema, optimizer, tasks)
    stepper = Stepper(graph, tasks, optimizer, ema, device, dtype, hyp["clip_norm"])
    table = ResultsTable(run.folder / "results.csv", progress.epochs_done)
    LOGGER.info(
        "%s on %s in %s: %s; %d batches per epoch, results in %s",
        graph.spec.source,
        device,
        dtype or torch.float32,
        ", ".join(f"{t.name} {len(t.dataset)} images" for t in tasks),
        rounds,
        run.folder,
    )
    if not options.noplots:
        draw_labels(tasks, run.folder)

    streams = {task.name: task.batches(progress.epochs_done * rounds) for task in tasks}
    for epoch in range(progress.epochs_done + 1, options.epochs + 1):
        started = time.perf_counter()
        graph.train()
        meter = LossMeter(tasks)
        with progress_bar(rounds, epoch, options.epochs) as bar:
            done = 0
            while done < rounds:
                position = (epoch - 1) * rounds + done
                count = min(rates.accumulate(position), rounds - done)
                rate = rates.apply(optimizer, position)
                batches = {name: [next(stream) for _ in range(count)] for name, stream in streams.items()}
                if epoch == 1 and done == 0 and not options.noplots:
                    draw_batches(batches, graph.names, run.folder)
                meter.add(stepper.step(batches))
                done += count
                show_losses(bar, meter, device)
                bar.update(count)
        trained = time.perf_counter() - started

        row = {"epoch": epoch, "train_seconds": trained, "lr": rate}
        row |= {f"train/{name}_{part}": value for name, parts in meter.means().items() for part, value in parts.items()}
        last_epoch = epoch == options.epochs
        is_best = False
        if last_epoch or (not options.noval and epoch % options.val_interval == 0):
            evaluators = validate(ema.module, tests, device, dtype)
            scores = {name: measured(evaluator.compute()) for name, evaluator in evaluators.items()}
            row |= {f"val/{name}_{metric}": value for name, found in scores.items() for metric, value in found.items()}
            row["val/fitness"] = weighed_fitness(evaluators, fitness_weights)
            is_best = progress.take_fitness(epoch, row["val/fitness"])
            # Only a validated epoch can use up the patience: the ones between had no chance to be better.
            progress.stopped_early = not last_epoch and 0 < options.patience <= epoch - progress.best_epoch
            LOGGER.info("%s  %s", f"epoch {epoch} val", describe(scores))
        progress.epochs_done = epoch
        progress.seconds += time.perf_counter() - started
        table.add(row)
        save_run(run, graph, ema, optimizer, tasks, is_best)
        for task in tasks:
            for message in task.new_skips():
                LOGGER.warning("skipped: %s", message)
        if progress.stopped_early:
            LOGGER.info(
                "stopping early: no better result since epoch %d (patience %d)", progress.best_epoch, options.patience
            )
            break

    if not options.noplots:
        draw_results(run.folder)
    if stepper.skipped_steps:
        LOGGER.warning("%d steps were left out because their gradients were not finite", stepper.skipped_steps)
    LOGGER.info(
        "%d epochs in %.1f minutes, best fitness %.4f in epoch %d; weights in %s",
        progress.epochs_done,
        progress.seconds / 60,
        progress.best_fitness,
        progress.best_epoch,
        run.weights_folder,
    )
    return run.folder


def build_validation(graph: Graph, data: DataConfig, options: argparse.Namespace) -> dict[str, HeadTest]:
    """Return the validation of every head, at the sizes and batch size that the options give."""
    size = options.img_size[-1]
    datasets = open_datasets(graph, data, "val", options.cache)
    return build_tests(graph, datasets, size, options.base_size or size, options.batch_size, options.workers)


def describe(scores: dict[str, dict[str, float]]) -> str:
    """Return the first metrics of every head in one line."""
    groups = {name: list(found.items())[:SHOWN_METRICS] for name, found in scores.items()}
    return "  ".join(f"{name} [{' '.join(f'{m} {v:.4f}' for m, v in group)}]" for name, group in groups.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    train(parse_train_options(arguments))


if __name__ == "__main__":
    run_command(main)
