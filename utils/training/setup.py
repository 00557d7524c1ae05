"""From options to a run: its recipe, its folder, and a model that fits its data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from data.config import DataConfig
from data.dataset import TaskDataset
from data.keypoints import KeypointSpec
from models.checkpoint import Checkpoint
from models.graph import Graph, load_graph, with_classes, with_keypoints
from models.spec import PER_TASK
from models.transfer import transfer_weights
from models.weights import build_model, graph_for_data, load_weights, require_trained_form
from utils.distributed import World, find_restarted_run
from utils.errors import DataError, ModelError, UsageError, did_you_mean
from utils.files import atomic_write, increment_run_folder, remove_leftovers
from utils.image_size import round_up_to_stride
from utils.training.chosen_recipe import chosen_recipe
from utils.training.health import REPORT
from utils.training.named_rows import require_rows, row_names, rows_named
from utils.training.options import MACHINE_OPTIONS, given_options
from utils.training.run_state import BEST, LAST, PREVIOUS, Progress, Run, resume_run
from utils.training.tasks import fit_heads_to_objects, open_datasets

LOGGER = logging.getLogger("yolograph")


def prepare_run(options: argparse.Namespace, hyp: dict[str, Any] | None, world: World) -> Run:
    """Read the recipe of a new run, or take up the run that ``--resume`` names or that torchrun started again.

    Args:
        options: of the command line.
        hyp: a recipe that takes the place of the file's; None reads the file.
        world: the processes that share the work.

    Raises:
        UsageError: there is no such run.
        ModelError: the recipe or the run's checkpoint is at fault.
    """
    resume = options.resume
    if resume is None and world.is_restarted and (restarted := find_restarted_run(options, world)) is not None:
        resume = str(restarted)
    if resume is not None:
        # Read by the first process, because other machines need not see its disk.
        # A copy begins to count its time anew: the first process's clock says nothing on another machine.
        run = replace(world.from_first_rank(lambda: resume_run(resume, options.project)))
        _take_machine_options(run, options)
        done = run.progress
        LOGGER.info(
            "resuming %s after epoch %d of %d%s",
            run.folder,
            done.epochs_done,
            done.epochs,
            f" and {done.rounds_done} rounds" if done.rounds_done else "",
        )
        return run
    hyp = chosen_recipe(options) if hyp is None else hyp
    return Run(Path(), options, hyp, Progress(epochs=options.epochs))


def _take_machine_options(run: Run, given: argparse.Namespace) -> None:
    """Let a resumed run follow the options that are about this machine, and say which other ones are left aside."""
    left_aside = []
    for name, value in given_options(given).items():
        if name in MACHINE_OPTIONS:
            setattr(run.options, name, value)
        elif name not in ("resume", "project") and value != getattr(run.options, name, None):
            left_aside.append(f"--{name.replace('_', '-')}")
    if left_aside:
        LOGGER.warning("--resume keeps the options of the first start; left aside: %s", ", ".join(left_aside))


def require_format_of_run(run: Run, device: torch.device) -> None:
    """Refuse to go on where the format of a resumed run cannot be computed in.

    Raises:
        UsageError: it is float16, and the device is a CPU.
    """
    if run.options.dtype == "float16" and device.type == "cpu":
        raise UsageError(
            f"{run.folder}: the run began in float16, in which a CPU does not compute; go on with it on a GPU "
            f"(--device 0), or train on from its weights in a new run: --weights {run.weights_folder / LAST}"
        )


def open_run_folder(run: Run, world: World) -> None:
    """Make the folder of a new run and write down its options and recipe; a resumed run has one already.

    The first process does it and tells the others. Under ``--exist-ok`` the folder may hold an earlier run. What
    ``--resume`` would take for this one's is removed.
    """
    if run.checkpoint is not None:
        if world.rank == 0:
            for folder in (run.folder, run.weights_folder):
                remove_leftovers(folder)
        return
    if world.rank == 0:
        _make_run_folder(run)
    run.folder = Path(world.broadcast_object(str(run.folder)))


def _make_run_folder(run: Run) -> None:
    run.folder = increment_run_folder(run.options.project, run.options.name, run.options.exist_ok)
    run.weights_folder.mkdir(exist_ok=True)
    stale = [run.weights_folder / name for name in (LAST, PREVIOUS, BEST)]
    stale += run.weights_folder.glob("epoch*.safetensors")
    stale += [run.folder / name for name in ("results.csv", "transfer.txt", REPORT)]
    if any(path.is_file() for path in stale):
        LOGGER.info("%s: the checkpoints and results of the run before are replaced", run.folder)
    for path in stale:
        path.unlink(missing_ok=True)
    for name, values in (("opt.yaml", vars(run.options)), ("hyp.yaml", run.hyp)):
        atomic_write(run.folder / name, yaml.safe_dump(values, sort_keys=False).encode())
    if run.transfer:
        atomic_write(run.folder / "transfer.txt", run.transfer.encode())


def build_graph(run: Run, data: DataConfig) -> tuple[Graph, dict[str, TaskDataset]]:
    """Build the model for the classes and keypoints of the data, with its training data.

    Returns:
        The model on the CPU, and the training set of every head.

    Raises:
        DataError: a head has no data, or classes or keypoints are not those a resumed run began with.
        ModelError: the YAML or the checkpoint is at fault, or no weight of ``--weights`` fits the model.
    """
    options = run.options
    if run.checkpoint is not None:
        graph = build_model(run.checkpoint, run.folder)
        datasets = open_datasets(graph, data, "train", options.cache, run.hyp)
        _require_same_labels(graph, datasets, options.data)
        return graph, datasets
    start = load_weights(options.weights, options.pretrained_grid) if options.weights else None
    if start is not None:
        require_trained_form(start, options.weights)
    graph = load_graph(options.cfg) if options.cfg else graph_for_data(start, {})
    datasets = open_datasets(graph, data, "train", options.cache, run.hyp)
    graph = _with_counts_of_data(graph, datasets)
    if not options.noautoanchor:
        graph = _with_fitted_heads(graph, datasets, run.hyp, options)
    if run.hyp["bn"] == PER_TASK:
        graph = Graph(graph.spec.with_values(bn=PER_TASK))
    if start is not None:
        run.transfer = _take_over(graph, start, options.weights)
    graph.names = {name: list(dataset.names) for name, dataset in datasets.items()}
    for name, keypoints in _keypoints_of(graph, datasets).items():
        graph.set_keypoints(name, keypoints)
    return graph, datasets


def _with_counts_of_data(graph: Graph, datasets: Mapping[str, TaskDataset]) -> Graph:
    """Return the model with as many classes and keypoints as the data have, and say where it had others."""
    classes = {name: len(dataset.names) for name, dataset in datasets.items()}
    keypoints = {name: len(found) for name, found in _keypoints_of(graph, datasets).items()}
    own_classes = {name: head.num_classes for name, head in graph.heads.items()}
    own_keypoints = {name: len(found) for name, found in graph.keypoints.items()}
    if (classes, keypoints) == (own_classes, own_keypoints):
        return graph
    for what, wanted, own in (("classes", classes, own_classes), ("keypoints", keypoints, own_keypoints)):
        changed = [f"{name} {own[name]} -> {count}" for name, count in wanted.items() if count != own[name]]
        if changed:
            LOGGER.info("%s of the data take the place of the model's: %s", what, ", ".join(changed))
    return Graph(with_keypoints(with_classes(graph.spec, classes), keypoints))


def _keypoints_of(graph: Graph, datasets: Mapping[str, TaskDataset]) -> dict[str, KeypointSpec]:
    """Return what the keypoints of the data are, for every head that has keypoints."""
    return {name: datasets[name].data.keypoint_spec for name in graph.keypoints}


def _take_over(graph: Graph, start: Checkpoint, source: str) -> str:
    """Copy the weights that a run starts from, say what was taken over, and return the whole account.

    Raises:
        ModelError: nothing fits.
    """
    transfer = transfer_weights(graph, start)
    if not transfer.copied:
        raise ModelError(
            f"{source}: no tensor has name and shape of one of {graph.spec.source}; "
            "name the model that the weights belong to, or leave --weights out"
        )
    LOGGER.info("%s: %s", source, transfer.summary())
    converted = start.progress.get("converted")
    family = converted.get("family") if isinstance(converted, dict) else None
    return f"{source}{f' ({family}, {start.source})' if family else ''}\n{transfer}\n"


def _require_same_labels(graph: Graph, datasets: Mapping[str, TaskDataset], source: str) -> None:
    """Refuse to resume a run on data whose classes or keypoints have changed since.

    Raises:
        DataError: they have.
    """
    for name, dataset in datasets.items():
        if list(dataset.names) != graph.names[name]:
            raise DataError(
                f"{source}: the classes of '{name}' are not those that the run began with "
                f"({', '.join(graph.names[name])}); undo the change or start a new run"
            )
    for name, keypoints in _keypoints_of(graph, datasets).items():
        if keypoints != graph.keypoints[name]:
            raise DataError(
                f"{source}: the keypoints of '{name}' (names, flip, sigmas or skeleton) are not those that the run "
                f"began with ({', '.join(graph.keypoints[name].names)}); undo the change or start a new run"
            )


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


def _rows_of(graph: Graph, entry: str) -> list[int]:
    """Return the rows that one entry of ``--freeze`` means, see ``rows_named``.

    Raises:
        ValueError: no row has that name, or the range is none; one sentence.
    """
    if (rows := rows_named(graph, entry)) is None:
        raise ValueError(f"no row has that name.{did_you_mean(entry, row_names(graph))}")
    return rows


def freeze_rows(graph: Graph, wanted: list[str]) -> None:
    """Stop rows from learning: one number freezes that many first rows, otherwise what ``rows_named`` knows.

    As in YOLOv5 only gradients stop. The statistics of a frozen BatchNorm go on following the data.

    Raises:
        UsageError: there is no such row, or nothing is left to learn for a head.
    """
    rows, entry = [], " ".join(wanted)
    try:
        if len(wanted) == 1 and wanted[0].isdigit():
            count = int(wanted[0])
            require_rows(graph, (count - 1,))
            rows = list(range(count))
        else:
            for entry in wanted:
                rows += _rows_of(graph, entry)
    except ValueError as error:
        raise UsageError(f"--freeze {entry}: {error}") from None
    for row in rows:
        graph.model[row].requires_grad_(False)
    for name in graph.heads:
        used = [graph.model[step.row] for step in graph.plan((name,))]
        if not any(parameter.requires_grad for module in used for parameter in module.parameters()):
            raise UsageError(
                f"--freeze {' '.join(wanted)}: leaves nothing to learn for the head '{name}'; freeze fewer rows"
            )
    if rows:
        LOGGER.info("frozen rows: %s", ", ".join(str(row) for row in rows))
