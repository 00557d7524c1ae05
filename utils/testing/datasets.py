"""What a model is tested on: the asked split of every head that has data."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from data.config import TaskData, load_data_config, segmentation_root
from data.dataset import TaskDataset
from models.inference import Inference
from utils.errors import DataError, UsageError

LOGGER = logging.getLogger("yolograph")


def open_test_data(model: Inference, options: argparse.Namespace) -> dict[str, TaskDataset]:
    """Open the asked split for every head that has data.

    Raises:
        DataError: no head has data, an asked head has none, or data and head do not fit.
        UsageError: an option is about a head that the model does not have, or that is not tested.
    """
    if options.segdata and all(head.task != "segment" for head in model.heads.values()):
        raise UsageError(f"--segdata {options.segdata}: the model has no segmentation head; leave the option out")
    unknown = [name for name in options.heads or () if name not in model.heads]
    if unknown:
        raise UsageError(f"--heads {unknown[0]}: the model has no such head, only {', '.join(model.heads)}")
    config = load_data_config(options.data, splits=(options.split,))
    config = config.single_class() if options.single_cls else config
    datasets: dict[str, TaskDataset] = {}
    missing: dict[str, DataError] = {}
    for name, head in model.heads.items():
        if options.heads and name not in options.heads:
            continue
        from_segdata = options.segdata and head.task == "segment"
        try:
            data = _segmentation_data(options, name, model.names[name]) if from_segdata else None
            data = data or config.for_head(name, head.task)
        except DataError as error:
            if from_segdata:
                raise
            missing[name] = error
            continue
        _require_fitting(data, model, name, one_class=options.single_cls)
        datasets[name] = TaskDataset(data, options.split)
    if missing and (options.heads or not datasets):
        raise next(iter(missing.values()))
    for name in missing:
        LOGGER.info("head %s is not tested: %s names no data for it", name, options.data)
    return datasets


def _segmentation_data(options: argparse.Namespace, head: str, names: list[str]) -> TaskData:
    """Return the data that ``--segdata`` names: a folder in one of the known layouts, or a data YAML."""
    path = Path(options.segdata)
    if path.is_dir():
        return segmentation_root(path, names, options.split)
    return load_data_config(path, splits=(options.split,)).for_head(head, "segment")


def _require_fitting(data: TaskData, model: Inference, name: str, one_class: bool) -> None:
    """Hold classes and keypoints of the data against those of a head.

    Raises:
        DataError: their numbers differ; where all objects are one class, only keypoints and classes of masks matter.
    """
    head = model.heads[name]
    if len(data.names) != head.num_classes and not (one_class and head.task != "segment"):
        raise DataError(
            f"{data.source}: '{data.key}' has {len(data.names)} class names, but the model's head '{name}' tells "
            f"{head.num_classes} classes apart; test with the data it was trained for"
        )
    if head.keypoints is not None and data.keypoints != len(head.keypoints):
        raise DataError(
            f"{data.source}: the objects of '{data.key}' have {data.keypoints} keypoints, but the model's head "
            f"'{name}' gives {len(head.keypoints)}; test with the data it was trained for"
        )
