"""``python -m utils.plots batches``: the pictures that training begins with."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from data.config import load_data_config
from data.dataset import TaskDataset
from data.loader import build_train_loader
from data.samples import Batch
from data.task_data import DataConfig, TaskData
from data.training_part import LeftOut
from models.graph import Graph, load_graph
from models.heads.base import Head
from utils.errors import UsageError
from utils.files import increment_run_folder
from utils.image_size import round_up_to_stride
from utils.plots.batches import picture_of_labels
from utils.plots.drawing import save_picture
from utils.training.chosen_recipe import chosen_recipe
from utils.training.options import parse_train_options
from utils.training.tasks import reserve_memory, train_transform

LOGGER = logging.getLogger("yolograph")
MODELS = {"detect": "yolov5n", "segment": "yolov5n_multitask", "pose": "yolox_pose_nano"}
"""What stands for a model where none is named, by task."""


class Learner(NamedTuple):
    """A head with what it would learn from."""

    name: str
    head: Head
    graph: Graph
    data: TaskData
    hyp: dict[str, Any]


def draw_batches_of(options: argparse.Namespace) -> None:
    """Draw the first training batches of every head and say where they are.

    Raises:
        UsageError: no head or block has the task that is asked for.
        DataError: the data are at fault.
        ModelError: the model or the recipe is at fault.
    """
    data = load_data_config(options.data, ("train",))
    data = data.single_class() if options.single_cls else data
    learners = list(_heads_of_model(options, data) if options.cfg else _heads_of_data(options, data))
    if not learners:
        where = options.cfg or options.data
        raise UsageError(f"{where}: there is nothing for --task {options.task}; leave the option out to see what is")
    # Before the folder of the pictures is made, because labels or recipe can be at fault.
    first = [(learner, _first_batches(learner, options)) for learner in learners]
    folder = increment_run_folder(options.project, options.name, options.exist_ok)
    for learner, batches in first:
        for number, batch in enumerate(batches):
            picture = picture_of_labels(batch, learner.data.names, learner.data.keypoint_spec)
            print(save_picture(folder / f"train_batch{number}_{learner.name}.jpg", picture))


def _heads_of_model(options: argparse.Namespace, data: DataConfig) -> Iterator[Learner]:
    graph, hyp = load_graph(options.cfg), _recipe(options, options.cfg)
    for name, head in graph.heads.items():
        if options.task in (None, head.task):
            yield Learner(name, head, graph, data.for_head(name, head.task), hyp)


def _heads_of_data(options: argparse.Namespace, data: DataConfig) -> Iterator[Learner]:
    for key, task in data.tasks.items():
        if options.task in (None, task.task):
            cfg = MODELS[task.task]
            graph = load_graph(cfg)
            head = next(head for head in graph.heads.values() if head.task == task.task)
            yield Learner(key, head, graph, task, _recipe(options, cfg))


def _recipe(options: argparse.Namespace, cfg: str) -> dict[str, Any]:
    """Return the recipe that ``train.py`` would take."""
    given = ["--cfg", cfg, "--data", options.data, *(["--hyp", options.hyp] if options.hyp else [])]
    return chosen_recipe(parse_train_options(given))


def _first_batches(learner: Learner, options: argparse.Namespace) -> list[Batch]:
    """Return the batches that a run begins with, made as ``utils.training.tasks.build_tasks`` makes them."""
    dataset = TaskDataset(learner.data, "train", None, True, LeftOut.of(learner.hyp))
    stride = learner.graph.stride
    size = round_up_to_stride(options.img_size, stride)
    transform = train_transform(learner.head, dataset, learner.hyp, size, options.base_size or size, learner.graph)
    reserve_memory(dataset, transform, size)
    loader = build_train_loader(
        dataset,
        transform,
        options.batch_size,
        min(options.workers, options.count),
        options.seed,
        closing_batch=0 if options.without_mosaic else None,
        rect=(size, stride) if options.rect and "boxes" in learner.head.targets else None,
    )
    try:
        batches = list(islice(loader.batches(0), options.count))
    finally:
        loader.close()
    for message in loader.skipped:
        LOGGER.warning("skipped: %s", message)
    return batches
