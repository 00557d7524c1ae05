"""Test a trained model: ``python test.py --weights best.safetensors --data DATA.yaml``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.coco_categories import category_ids
from data.config import TaskData, load_data_config, segmentation_root
from data.dataset import TaskDataset
from data.samples import Batch
from models.inference import Inference, load_inference
from models.predictions import DetectionResult, PostprocessOptions
from utils.command_lines.testing import parse_options
from utils.devices import autocast_dtype, select_device
from utils.errors import DataError, UsageError, run_command
from utils.files import UniqueNames, increment_run_folder
from utils.label_text import write_label_text
from utils.logging import start_logging
from utils.plots.batches import picture_of_labels, picture_of_results
from utils.plots.drawing import save_picture
from utils.validation import build_tests, measured, run_head_test

LOGGER = logging.getLogger("yolograph")
MOST_PICTURES = 3


def open_test_data(model: Inference, options: argparse.Namespace) -> dict[str, TaskDataset]:
    """Open the asked split for every head that has data.

    Raises:
        DataError: no head has data, or an asked head has none.
        UsageError: an option is about a head that the model does not have.
    """
    if options.segdata and all(head.task != "segment" for head in model.heads.values()):
        raise UsageError(f"--segdata {options.segdata}: the model has no segmentation head; leave the option out")
    config = load_data_config(options.data, splits=(options.task,))
    datasets: dict[str, TaskDataset] = {}
    missing: dict[str, DataError] = {}
    for name, head in model.heads.items():
        if options.heads and name not in options.heads:
            continue
        try:
            if options.segdata and head.task == "segment":
                data = segmentation_data(options, name, model.names[name])
            else:
                data = config.for_head(name, head.task)
        except DataError as error:
            if options.segdata and head.task == "segment":
                raise
            missing[name] = error
            continue
        if len(data.names) != head.num_classes:
            raise DataError(
                f"{data.source}: '{data.key}' has {len(data.names)} class names, but the model's head '{name}' tells "
                f"{head.num_classes} classes apart; test with the data it was trained for"
            )
        if head.keypoints is not None:
            require_same_keypoints(data, name, len(head.keypoints))
        datasets[name] = TaskDataset(data, options.task)
    unknown = [name for name in options.heads or () if name not in model.heads]
    if unknown:
        raise UsageError(f"--heads {unknown[0]}: the model has no such head, only {', '.join(model.heads)}")
    if missing and (options.heads or not datasets):
        raise next(iter(missing.values()))
    for name in missing:
        LOGGER.info("head %s is not tested: %s names no data for it", name, options.data)
    return datasets


def require_same_keypoints(data: TaskData, head: str, count: int) -> None:
    """Hold the number of keypoints of the data against that of a head.

    Raises:
        DataError: they differ.
    """
    if data.keypoints != count:
        raise DataError(
            f"{data.source}: the objects of '{data.key}' have {data.keypoints} keypoints, but the model's head "
            f"'{head}' gives {count}; test with the data it was trained for"
        )


def segmentation_data(options: argparse.Namespace, head: str, names: list[str]) -> TaskData:
    """Return the data that ``--segdata`` names: a folder in one of the known layouts, or a data YAML."""
    path = Path(options.segdata)
    if path.is_dir():
        return segmentation_root(path, names, options.task)
    return load_data_config(path, splits=(options.task,)).for_head(head, "segment")


class ResultWriter:
    """Takes results batch by batch and leaves pictures and label files in the run folder.

    Args:
        model: knows the classes and the keypoints of every head.
        folder: the run folder.
        options: command-line values.
    """

    def __init__(self, model: Inference, folder: Path, options: argparse.Namespace) -> None:
        self.names, self.folder, self.options = model.names, folder, options
        self.keypoints = {name: head.keypoints for name, head in model.heads.items()}
        self._drawn: dict[str, int] = {}
        self._label_names = {head: UniqueNames() for head in model.names}

    def __call__(self, name: str, batch: Batch, results: list[Any]) -> None:
        names = self.names[name]
        drawn = self._drawn.get(name, 0)
        if not self.options.noplots and drawn < MOST_PICTURES:
            self._drawn[name] = drawn + 1
            labels = picture_of_labels(batch, names, self.keypoints[name])
            save_picture(self.folder / f"test_batch{drawn}_{name}_labels.jpg", labels)
            save_picture(
                self.folder / f"test_batch{drawn}_{name}_results.jpg", picture_of_results(batch, results, names)
            )
        if self.options.save_txt and isinstance(results[0], DetectionResult):
            folder = self.folder / f"labels_{name}"
            folder.mkdir(exist_ok=True)
            for result, image, placement in zip(results, batch.ids, batch.placements, strict=True):
                size = np.array([placement.width, placement.height])
                target = folder / self._label_names[name].take(f"{Path(image).stem}.txt")
                write_label_text(target, result, size, self.options.save_conf)


def test(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Test, print the tables, and return the metrics of every head."""
    device = select_device(options.device)
    dtype = autocast_dtype(device, options.dtype)
    model = load_inference(options.weights, device, options.passes, deploy=options.deploy)
    datasets = open_test_data(model, options)
    folder = increment_run_folder(options.project, options.name, options.exist_ok)
    base_size = options.base_size or options.img_size
    tests = build_tests(model, datasets, options.img_size, base_size, options.batch_size, options.workers, options.pad)
    thresholds = PostprocessOptions(
        conf=options.conf_thres,
        iou=options.iou_thres,
        max_det=options.max_det,
        multi_label=True,
        oks=options.oks_thres,
    )
    writer = ResultWriter(model, folder, options)
    metrics: dict[str, dict[str, float]] = {}
    for name, head_test in tests.items():
        evaluator = run_head_test(model, name, head_test, device, dtype, thresholds, writer)
        metrics[name] = measured(evaluator.compute())
        summary = "  ".join(f"{metric} {value:.4f}" for metric, value in metrics[name].items())
        LOGGER.info("\n%s (%s): %s", name, options.task, summary)
        LOGGER.info("%s", evaluator.table(options.verbose))
        LOGGER.info("speed of %s: %s", name, head_test.speed)
        for message in head_test.loader.skipped:
            LOGGER.warning("skipped: %s", message)
        if not options.noplots:
            pictures = folder / name
            pictures.mkdir(exist_ok=True)
            evaluator.plot(pictures)
        if options.save_json and hasattr(evaluator, "coco_json"):
            ids = category_ids(datasets[name].data, options.task)
            evaluator.coco_json(folder / f"{name}_predictions.json", ids)
    LOGGER.info("\nresults in %s", folder)
    return metrics


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    test(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
