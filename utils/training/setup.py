"""From options to a model that fits its data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data.config import DataConfig
from data.dataset import TaskDataset
from models.checkpoint import build_model, graph_for_data, load_checkpoint, transfer_weights
from models.graph import Graph, load_graph
from utils.errors import UsageError, did_you_mean
from utils.files import atomic_write, increment_run_folder
from utils.image_size import round_up_to_stride
from utils.recipe import load_recipe
from utils.training.run_state import Run, resume_run
from utils.training.tasks import fit_heads_to_objects, open_datasets

LOGGER = logging.getLogger("yolograph")


def prepare_run(options: argparse.Namespace) -> Run:
    """Make a new run folder, or take up the one that ``--resume`` names."""
    if options.resume is not None:
        run = resume_run(options.resume, options.project)
        LOGGER.info("resuming %s after epoch %d of %d", run.folder, run.progress.epochs_done, run.options.epochs)
        return run
    hyp = load_recipe(options.hyp)
    if options.label_smoothing >= 0:
        hyp["label_smoothing"] = options.label_smoothing
    if options.linear_lr:
        hyp["schedule"] = "linear"
    if options.optimizer:
        hyp["optimizer"] = options.optimizer
    return Run(Path(), options, hyp)


def open_run_folder(run: Run) -> None:
    """Make the folder of a new run and write down its options and recipe; a resumed run has one already."""
    if run.checkpoint is None:
        run.folder = increment_run_folder(run.options.project, run.options.name, run.options.exist_ok)
        run.weights_folder.mkdir(exist_ok=True)
        for name, values in (("opt.yaml", vars(run.options)), ("hyp.yaml", run.hyp)):
            atomic_write(run.folder / name, yaml.safe_dump(values, sort_keys=False).encode())


def build_graph(run: Run, data: DataConfig) -> tuple[Graph, dict[str, TaskDataset]]:
    """Build the model for the classes of the data, with its training data.

    Returns:
        The model on the CPU, and the training set of every head.
    """
    options = run.options
    if run.checkpoint is not None:
        graph = build_model(run.checkpoint, run.folder)
        return graph, open_datasets(graph, data, "train", options.cache)
    start = load_checkpoint(options.weights) if options.weights else None
    graph = load_graph(options.cfg) if options.cfg else graph_for_data(start, {})
    datasets = open_datasets(graph, data, "train", options.cache)
    counts = {name: len(dataset.names) for name, dataset in datasets.items()}
    own = {name: head.num_classes for name, head in graph.heads.items()}
    if counts != own:
        changed = [f"{name} {own[name]} -> {counts[name]}" for name in counts if counts[name] != own[name]]
        LOGGER.info("classes of the data take the place of the model's: %s", ", ".join(changed))
        graph = load_graph(options.cfg, counts) if options.cfg else graph_for_data(start, counts)
    if not options.noautoanchor and start is None:
        graph = _with_fitted_heads(graph, datasets, run.hyp, options)
    if start is not None:
        copied, fresh = transfer_weights(graph, start.weights)
        LOGGER.info("%s: %d tensors taken over, %d start fresh", options.weights, len(copied), len(fresh))
        if fresh:
            LOGGER.info("fresh: %s", ", ".join(fresh[:6]) + (" ..." if len(fresh) > 6 else ""))
    graph.names = {name: list(dataset.names) for name, dataset in datasets.items()}
    return graph, datasets


def _with_fitted_heads(
    graph: Graph, datasets: Mapping[str, TaskDataset], hyp: Mapping[str, Any], options: argparse.Namespace
) -> Graph:
    """Return the model with the row arguments that its heads prefer for these objects."""
    size = round_up_to_stride(options.img_size[0], graph.stride)
    changes = fit_heads_to_objects(graph, datasets, hyp, size, options.seed)
    spec = graph.spec
    for row, arguments in changes.items():
        for position, value in arguments.items():
            spec = spec.with_argument(row, position, value)
    return Graph(spec) if changes else graph


def freeze_rows(graph: Graph, wanted: list[str]) -> None:
    """Stop rows from learning: one number freezes that many first rows, otherwise row numbers and names.

    Raises:
        UsageError: there is no such row.
    """
    names = {row.name: row.index for row in graph.spec.rows if row.name} | graph.head_rows
    if len(wanted) == 1 and wanted[0].isdigit():
        rows = list(range(int(wanted[0])))
    else:
        for entry in wanted:
            if not entry.isdigit() and entry not in names:
                raise UsageError(f"--freeze {entry}: no row has that name.{did_you_mean(entry, names)}")
        rows = [int(entry) if entry.isdigit() else names[entry] for entry in wanted]
    if rows and max(rows) >= len(graph.model):
        raise UsageError(f"--freeze {max(rows)}: the model has rows 0 to {len(graph.model) - 1}")
    for row in rows:
        graph.model[row].requires_grad_(False)
    if rows:
        LOGGER.info("frozen rows: %s", ", ".join(str(row) for row in rows))
