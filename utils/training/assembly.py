"""Putting a run together: model, data, optimizer and everything else that takes part, new or as it was saved."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from data.config import load_data_config
from data.dataset import TaskDataset
from models.graph import Graph
from models.layers.drop_path import set_drop_path
from models.layers.sync_norm import synchronise_norms
from utils.devices import autocast_dtype, training_format
from utils.distributed import World
from utils.distributed.restart import remember_run
from utils.ema import ModelEma
from utils.host_memory import keep_freed_memory
from utils.image_size import round_up_to_stride
from utils.loggers import open_loggers
from utils.optimizer import build_optimizer
from utils.training.balance import Balance, build_balance
from utils.training.batch_size import draws_sizes, input_sizes, largest_batch_size
from utils.training.compiling import compile_graph
from utils.training.health import Health
from utils.training.loss_scale import LossScale
from utils.training.memory_retry import MemoryRetry
from utils.training.multi_scale import MultiScale, build_multi_scale
from utils.training.parts import Parts
from utils.training.pictures import draw_labels
from utils.training.progress import LossMeter
from utils.training.rate_factors import describe_rates, rate_factors
from utils.training.rates import Rates
from utils.training.recovery import RATE_AFTER_RETURN
from utils.training.results import ResultsTable
from utils.training.run_state import Run, restore_run, save_run
from utils.training.setup import build_graph, freeze_rows, open_run_folder, require_format_of_run
from utils.training.step import Stepper
from utils.training.tasks import build_tasks, open_datasets, plan_turns, weights_of_fitness
from utils.training.update import Update
from utils.training.without_effect import finds_objects, options_without_effect
from utils.validation import HeadTest, build_tests

LOGGER = logging.getLogger("yolograph")
SMALL_BATCH = 4
"""Images of a process below which a run is warned of what that does to BatchNorm."""
LEAST_SHARE = 1e-3
"""Of a learning rate that falls in steps: below it nothing is learnt any more."""


def assemble(run: Run, world: World) -> Parts:
    """Build everything that a run needs, and put it back to where the run was, if it was interrupted.

    Raises:
        DataError: the data are at fault.
        ModelError: the model, the recipe or a checkpoint is at fault.
        UsageError: an option does not fit the model.
    """
    options, hyp, device = run.options, run.hyp, world.device
    dtype = choose_format(run, world)
    graph, datasets, validation = open_model_and_data(run, world)
    fitness_weights = weights_of_fitness(graph, hyp["fitness"])
    for sentence in options_without_effect(graph, hyp, options):
        LOGGER.warning("%s", sentence)
    scale = build_multi_scale(hyp, options, graph.stride) if finds_objects(graph) else None
    if options.batch_size == -1:
        options.batch_size = fitting_batch_size(graph, datasets, run, world, dtype, scale)
    turns = plan_turns(datasets, hyp, options.batch_size)
    tasks = build_tasks(graph, datasets, hyp, options, world, turns)
    # The weights of a new model are the same everywhere; what is drawn from here on is not.
    torch.manual_seed(options.seed + world.rank)
    rates = Rates(hyp, turns.rounds, run.length, options.batch_size, options.epochs)
    rates.factor_of_run = RATE_AFTER_RETURN**run.progress.returns
    optimizer, update, balance = make_update(graph, run, rates, world, dtype)
    retry = MemoryRetry()
    loggers = open_loggers(options.loggers if world.rank == 0 else ["none"])
    is_new = run.checkpoint is None
    open_run_folder(run, world)
    remember_run(run.folder, world)
    parts = Parts(
        world=world,
        device=device,
        dtype=dtype,
        graph=graph,
        tasks=tasks,
        tests=build_validation(graph, validation, options, world),
        fitness_weights=fitness_weights,
        turns=turns,
        rates=rates,
        optimizer=optimizer,
        ema=update.ema,
        update=update,
        balance=balance,
        retry=retry,
        stepper=Stepper(graph, tasks, update, balance, world, device, dtype, retry, scale),
        health=Health(graph, tasks, world, dtype, run.folder),
        meter=LossMeter(tasks, device),
        table=ResultsTable(run.folder / "results.csv", run.progress.epochs_done),
        loggers=loggers,
    )
    begin(run, parts, is_new)
    return parts


def choose_format(run: Run, world: World) -> torch.dtype | None:
    """Make this process ready to compute; return the format of forward passes, None for float32.

    Raises:
        UsageError: this device does not compute in the format.
    """
    options = run.options
    if world.device.type == "cpu":
        keep_freed_memory()
    if run.checkpoint is not None:
        require_format_of_run(run, world.device)
    # A run goes on in the format that it began with, whatever the next machine would be faster in.
    options.dtype = world.from_first_rank(lambda: training_format(world.device, options.dtype))
    torch.manual_seed(options.seed)
    return autocast_dtype(world.device, options.dtype)


def open_model_and_data(run: Run, world: World) -> tuple[Graph, dict[str, TaskDataset], dict[str, TaskDataset]]:
    """Return the model, ready to be trained, and the training and validation data of its heads."""
    options = run.options
    with world.first_rank_first():
        data = load_data_config(options.data)
        data = data.single_class() if options.single_cls else data
        graph, datasets = build_graph(run, data)
        validation = open_datasets(graph, data, "val", options.cache)
    prepare_graph(graph, run, world)
    return graph, datasets, validation


def begin(run: Run, parts: Parts, is_new: bool) -> None:
    """Put an interrupted run back to where it was, open its data and its logs, and save a new one."""
    restore_run(run, parts)
    progress, options = run.progress, run.options
    parts.open_streams(progress.epochs_done * parts.turns.rounds + progress.rounds_done)
    introduce(run, parts)
    parts.loggers.start(run.folder, options, run.hyp, None if is_new else progress.epochs_done)
    if is_new:
        # So that a run that is killed in its first epoch can be resumed, and one that diverges there go back.
        save_run(run, parts)
        if parts.world.rank == 0 and not options.noplots:
            draw_labels(parts.tasks, run.folder)


def make_update(
    graph: Graph, run: Run, rates: Rates, world: World, dtype: torch.dtype | None
) -> tuple[Optimizer, Update, Balance]:
    """Build what changes the weights: the optimizer, its use at the end of a step, and the balance of heads."""
    options, hyp = run.options, run.hyp
    decay = hyp["weight_decay"] * options.batch_size * rates.full_accumulation / hyp["nominal_batch"]
    optimizer = build_optimizer(graph, hyp, decay, rate_factors(graph, hyp))
    ema = ModelEma(graph, hyp["ema_decay"], hyp["ema_tau"], hyp["ema_copy_first"])
    if options.sync_bn:
        # Behind the copy for the average, which keeps plain norms.
        synchronise_norms(graph, world)
    if options.compile:
        # Behind that copy too; and before the run has a folder, because --recompute excludes it.
        compile_graph(graph)
    scale = LossScale(world.device) if dtype is torch.float16 else None
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    balance = build_balance(graph, hyp, parameters, options.seed).to(world.device)
    return optimizer, Update(optimizer, ema, hyp["clip_norm"], scale), balance


def prepare_graph(graph: Graph, run: Run, world: World) -> None:
    """Bring a new model to where and how it is trained."""
    options = run.options
    freeze_rows(graph, options.freeze)
    if run.hyp["bn"] == "frozen":
        graph.freeze_norms()
    if run.hyp["drop_path"] and not set_drop_path(graph, run.hyp["drop_path"]):
        LOGGER.warning("the recipe key drop_path has no effect: %s has no blocks to leave out", graph.spec.source)
    graph.to(world.device).to(memory_format=torch.channels_last)
    graph.recompute = options.recompute


def fitting_batch_size(
    graph: Graph,
    datasets: Mapping[str, TaskDataset],
    run: Run,
    world: World,
    dtype: torch.dtype | None,
    scale: MultiScale | None,
) -> int:
    """Return the batch size of all processes together that fills the wanted share of the memory."""
    options = run.options
    size = round_up_to_stride(options.img_size[0], graph.stride)
    sizes = input_sizes(graph, datasets, size, run.hyp)
    if scale is not None:
        largest = scale.largest
        sizes = {name: (largest, largest) if "boxes" in graph.heads[name].targets else s for name, s in sizes.items()}
    sharing = world.size if world.device.type == "cpu" else 1
    found = largest_batch_size(graph, sizes, run.hyp, options.memory_share, dtype, sharing)
    # Every process measures its own device; the smallest one decides.
    return min(world.gather_objects(found)) * world.size


def build_validation(
    graph: Graph, datasets: Mapping[str, TaskDataset], options: argparse.Namespace, world: World
) -> dict[str, HeadTest]:
    """Return the validation of every head, at the sizes and batch size that the options give."""
    size = options.img_size[-1]
    per_process = max(options.batch_size // world.size, 1)
    return build_tests(
        graph, datasets, size, options.base_size or size, per_process, options.workers, share=world.share
    )


def introduce(run: Run, parts: Parts) -> None:
    """Say in one line what is about to be trained."""
    several = f" in {parts.world.size} processes" if parts.world.size > 1 else ""
    LOGGER.info(
        "%s on %s%s in %s: %s; %d batches per epoch, results in %s",
        parts.graph.spec.source,
        parts.device,
        several,
        run.options.dtype,
        ", ".join(f"{task.name} {len(task.dataset)} images" for task in parts.tasks),
        parts.turns.rounds,
        run.folder,
    )
    if (scale := parts.stepper.multi_scale) is not None:
        often = "step" if scale.interval == 1 else f"{scale.interval} steps"
        LOGGER.info("multi-scale: %d to %d px, another size every %s", scale.smallest, scale.largest, often)
    rates, wanted = parts.rates, int(run.hyp["warmup_steps"])
    step_images, nominal = run.options.batch_size * rates.full_accumulation, int(run.hyp["nominal_batch"])
    if rates.full_accumulation > 1 or step_images != nominal:
        LOGGER.info(
            "a step adds up %d batch%s of %d images per head; the recipe is meant for steps of %d images",
            rates.full_accumulation,
            "es" if rates.full_accumulation > 1 else "",
            run.options.batch_size,
            nominal,
        )
    if others := describe_rates(parts.graph, run.hyp):
        LOGGER.info("learning rate %g in steps of %d images; %s", run.hyp["lr0"], step_images, others)
    describe_falls(rates)
    if wanted and rates.warmup < rates.wanted_warmup:
        LOGGER.info(
            "the recipe warms up for %d steps or more; in this run it is %g, a quarter of all; "
            "yoloms_small is a recipe for short runs",
            wanted,
            rates.warmup / rates.full_accumulation,
        )
    warn_of_unlike_sizes(parts.graph, run.hyp)
    images = max(run.options.batch_size // parts.world.size, 1)
    follows = not parts.graph.norms_frozen and any(isinstance(module, _BatchNorm) for module in parts.graph.modules())
    if images < SMALL_BATCH and follows and not parts.world.synchronises_norms:
        LOGGER.warning(
            "--batch-size %d: BatchNorm sees %d image%s at a time, which makes its statistics noisy; take %d or more, "
            "or bn: frozen in the recipe",
            run.options.batch_size,
            images,
            "s" if images > 1 else "",
            SMALL_BATCH * parts.world.size,
        )


def describe_falls(rates: Rates) -> None:
    """Say when a rate that falls in steps does, because published steps belong to a published number of epochs."""
    falls, epochs = rates.falls(), rates.planned_epochs
    if falls is None:
        return
    mend = f"give step_epochs for a run of {epochs:g} epochs in the recipe, or schedule: cosine"
    if not falls:
        LOGGER.warning("the learning rate never falls, because step_epochs is %g; %s", rates.hyp["step_epochs"], mend)
        return
    factor = rates.hyp["step_factor"]
    LOGGER.info("learning rate multiplied by %g after epoch %s", factor, ", ".join(f"{epoch:g}" for epoch in falls))
    if (left := factor ** len(falls)) < LEAST_SHARE:
        LOGGER.warning("the learning rate falls %d times, to %.0e of itself; %s", len(falls), left, mend)


def warn_of_unlike_sizes(graph: Graph, hyp: Mapping[str, Any]) -> None:
    """Say where pictures are trained with one side at ``--img-size`` and tested with the other one there."""
    by_short_side = graph.letterbox.by_short_side
    if draws_sizes(hyp) == by_short_side or not finds_objects(graph):
        return
    if by_short_side:
        LOGGER.warning(
            "objects look larger in use than in training: the recipe's augment: %s takes --img-size for the longer "
            "side of a picture, the model's input for the shorter one; choose augment: detr, or input: {fit: longest}",
            hyp["augment"],
        )
    else:
        LOGGER.warning(
            "objects look smaller in use than in training: the recipe's augment: detr takes --img-size for the shorter "
            "side of a picture, the model's input for the longer one; choose input: {fit: shortest}, or another augment"
        )
