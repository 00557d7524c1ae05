"""Test a trained model: ``python test.py --weights best.safetensors --data DATA.yaml``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.coco_categories import category_ids
from data.config import TaskData, load_data_config, segmentation_root
from data.dataset import TaskDataset
from data.samples import Batch
from models.inference import Inference, load_inference
from models.predictions import DetectionResult, PostprocessOptions
from utils.command_lines.testing import parse_options
from utils.devices import autocast_dtype, select_device
from utils.errors import DataError, RunError, UsageError, is_out_of_memory, run_command
from utils.files import UniqueNames, increment_run_folder
from utils.label_text import write_label_text
from utils.logging import start_logging
from utils.plots.batches import picture_of_labels, picture_of_results
from utils.plots.drawing import save_picture
from utils.size_study import SizeRow, progress_of, row_of, table_of, write_sizes
from utils.validation import HeadTest, ResultSink, build_tests, measured, run_head_test, warm_up

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


class Session:
    """What is tested, on what, and how.

    Args:
        options: command-line values.

    Attributes:
        model: what answers.
        datasets: of every head that has data.
        folder: of the run.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = select_device(options.device)
        self.dtype = autocast_dtype(self.device, options.dtype)
        self.model = load_inference(options.weights, self.device, options.passes, deploy=options.deploy)
        self.datasets = open_test_data(self.model, options)
        self.folder = increment_run_folder(options.project, options.name, options.exist_ok)

    def thresholds(self, head: str) -> PostprocessOptions:
        """Return the thresholds of a head: the command line's, and where that says nothing its own."""
        asked = self.options.conf_thres
        return PostprocessOptions(
            conf=self.model.heads[head].test_confidence if asked is None else asked,
            iou=self.options.iou_thres,
            max_det=self.options.max_det,
            multi_label=True,
            oks=self.options.oks_thres,
        )

    def measure(
        self, img_size: int, base_size: int, sink: ResultSink | None = None
    ) -> Iterator[tuple[str, HeadTest, Any]]:
        """Test head by head.

        Args:
            img_size: of inputs for heads that find objects, pixels.
            base_size: of inputs for heads that label pixels, pixels.
            sink: gets every batch with its results.

        Yields:
            A head's name, its test and its evaluator.

        Raises:
            RunError: there is no memory for a batch.
        """
        options = self.options
        tests = build_tests(
            self.model, self.datasets, img_size, base_size, options.batch_size, options.workers, options.pad
        )
        for name, test in tests.items():
            size = base_size if "masks" in self.model.heads[name].targets else img_size
            thresholds = self.thresholds(name)
            try:
                warm_up(self.model, name, size, self.device, self.dtype)
                evaluator = run_head_test(self.model, name, test, self.device, self.dtype, thresholds, sink)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise RunError(
                    f"no memory for head '{name}' in batches of {options.batch_size} at {size} pixels; take a smaller "
                    "--batch-size, or smaller pictures"
                ) from error
            yield name, test, evaluator


def test(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Test, print the tables, and return the metrics of every head."""
    session = Session(options)
    folder = session.folder
    writer = ResultWriter(session.model, folder, options)
    metrics: dict[str, dict[str, float]] = {}
    for name, head_test, evaluator in session.measure(options.img_size, options.base_size or options.img_size, writer):
        metrics[name] = measured(evaluator.compute())
        summary = "  ".join(f"{metric} {value:.4f}" for metric, value in metrics[name].items())
        LOGGER.info("\n%s (%s): %s", name, options.task, summary)
        LOGGER.info("%s", evaluator.table(options.verbose))
        LOGGER.info("speed of %s: %s", name, head_test.speed)
        head_test.report(head_test.loader.skipped)
        if not options.noplots:
            pictures = folder / name
            pictures.mkdir(exist_ok=True)
            evaluator.plot(pictures)
        if options.save_json and hasattr(evaluator, "coco_json"):
            ids = category_ids(session.datasets[name].data, options.task)
            evaluator.coco_json(folder / f"{name}_predictions.json", ids)
    LOGGER.info("\nresults in %s", folder)
    return metrics


def test_sizes(options: argparse.Namespace) -> list[SizeRow]:
    """Test at every one of ``--sizes``, print a table per head, and return its lines.

    The files are written anew after every size, so that a run that ends early leaves what it has measured.
    """
    session = Session(options)
    conditions = {
        "weights": [str(path) for path in options.weights],
        "data": str(options.data),
        "split": options.task,
        "batch_size": options.batch_size,
        "passes": len(session.model.passes),
        "device": str(session.device),
        "dtype": str(session.dtype or torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    rows: list[SizeRow] = []
    for size in options.sizes:
        for name, head_test, evaluator in session.measure(size, size):
            rows.append(row_of(session.model, name, size, head_test, evaluator))
            # The same images at every size.
            head_test.report(head_test.loader.skipped if size == options.sizes[0] else ())
            LOGGER.info("%s", progress_of(rows[-1]))
            if options.verbose:
                LOGGER.info("%s", evaluator.table(verbose=True))
        write_sizes(rows, session.folder, conditions, picture=not options.noplots)
    for name in session.datasets:
        LOGGER.info("\n%s (%s):\n%s", name, options.task, table_of([row for row in rows if row.head == name]))
    LOGGER.info("\nresults in %s", session.folder)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    test_sizes(options) if options.sizes else test(options)


if __name__ == "__main__":
    run_command(main)
