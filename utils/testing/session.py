"""What is tested, on what, and how: the part that every task of ``test.py`` shares."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from data.samples import Batch
from models.exported.model import device_for
from models.inference import Inference, forward_format, load_inference
from models.predictions import PostprocessOptions
from utils.command_lines.exported_files import say_what_is_chosen, say_what_stays_empty, take_fixed_input
from utils.errors import RunError, UsageError, is_out_of_memory
from utils.files import increment_run_folder
from utils.metrics import Evaluator, MaskEvaluator, build_evaluator
from utils.testing.behind import AtOnce, Behind
from utils.testing.datasets import open_test_data
from utils.testing.tiled import NativePictures, run_tiled_test, tiled_predictor
from utils.validation import HeadTest, ResultSink, build_tests, run_head_test, warm_up

SPEED_CONFIDENCE = 0.25
"""Least confidence in --task speed: so many objects are left as in use."""


class Session:
    """A model, its data and its folder.

    Args:
        options: command-line values.
        weights: files of the model, in place of the options' own.
        folder: of the run; None makes a new one.

    Attributes:
        options: as given, but for sizes that an exported file has made up.
        model: what answers.
        datasets: of every head that has data.
        names: class names per head; one name where all objects are one class.
        folder: of the run.
    """

    def __init__(
        self, options: argparse.Namespace, weights: Sequence[str] | None = None, folder: Path | None = None
    ) -> None:
        # Sizes may become those of a file of this model, and options serve several sessions.
        options = self.options = copy.copy(options)
        self.weights = list(weights or options.weights)
        self.device = device_for(self.weights, options.device)
        self.model = load_inference(self.weights, self.device, options.passes, deploy=options.deploy)
        self.dtype = forward_format(self.model, options.dtype)
        take_fixed_input(options, self.model)
        say_what_stays_empty(self.model, options.batch_size)
        say_what_is_chosen(self.model)
        self.datasets = open_test_data(self.model, options)
        _require_objects_to_write(options, self.model, self.datasets)
        self.names = self.model.names | (
            {name: dataset.names for name, dataset in self.datasets.items()} if options.single_cls else {}
        )
        self.folder = folder or increment_run_folder(options.project, options.name, options.exist_ok)

    def thresholds(self, head: str) -> PostprocessOptions:
        """Return the thresholds of a head: the command line's, and where that says nothing its own."""
        options = self.options
        own = SPEED_CONFIDENCE if options.task == "speed" else self.model.heads[head].test_confidence
        return PostprocessOptions(
            conf=own if options.conf_thres is None else options.conf_thres,
            iou=options.iou_thres,
            max_det=options.max_det,
            multi_label=True,
            oks=options.oks_thres,
            one_class=options.single_cls,
        )

    def conditions(self) -> dict[str, Any]:
        """Return what is measured and how, as plain values."""
        options = self.options
        return {
            "weights": [str(path) for path in self.weights],
            "data": str(options.data),
            "segdata": None if options.segdata is None else str(options.segdata),
            "task": options.task,
            "split": options.split,
            "single_cls": options.single_cls,
            "batch_size": options.batch_size,
            "passes": len(self.model.passes),
            "iou_thres": options.iou_thres,
            "max_det": options.max_det,
            "tile": None if options.tiling is None else [options.tiling.size, options.tiling.overlap],
            "border": options.border,
            "device": str(self.device),
            "dtype": str(self.dtype or torch.float32).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }

    def measure(
        self, img_size: int, base_size: int, sink: ResultSink | None = None, alone: bool = False
    ) -> Iterator[tuple[str, HeadTest, Evaluator]]:
        """Test head by head.

        Args:
            img_size: of inputs for heads that find objects, pixels.
            base_size: of inputs for heads that label pixels, pixels.
            sink: gets every batch with its results.
            alone: do nothing beside the network while it runs, so that its time is its own.

        Yields:
            A head's name, its test and its evaluator.

        Raises:
            RunError: there is no memory for a batch.
        """
        options = self.options
        if options.tiling is None:
            tests = build_tests(
                self.model, self.datasets, img_size, base_size, options.batch_size, options.workers, options.pad
            )
        else:
            tests = {name: HeadTest(NativePictures(data), data.names) for name, data in self.datasets.items()}
        for name, test in tests.items():
            size = base_size if "masks" in self.model.heads[name].targets else img_size
            try:
                warm_up(self.model, name, size, self.device, self.dtype)
                evaluator = self._run(name, test, size, sink, alone)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise RunError(
                    f"no memory for head '{name}' in batches of {options.batch_size} at {size} pixels; take a smaller "
                    "--batch-size, or smaller pictures"
                ) from error
            yield name, test, evaluator

    def _run(self, name: str, test: HeadTest, size: int, sink: ResultSink | None, alone: bool) -> Evaluator:
        """Run a head over its pictures once, and return what has measured it."""
        options, evaluator = self.options, self._evaluator(name, test)

        def take(results: list[Any], batch: Batch) -> None:
            evaluator.update(results, batch)
            if sink is not None:
                sink(name, batch, results)

        machine = self.device, self.dtype, self.thresholds(name)
        with nullcontext(AtOnce(take)) if alone else Behind(take) as taker:
            if options.tiling is None:
                run_head_test(self.model, name, test, *machine, evaluator=taker)
            else:
                predictor = tiled_predictor(self.model, name, size, *machine, options.tiling, options.batch_size)
                run_tiled_test(predictor, name, test, taker)
        return evaluator

    def _evaluator(self, name: str, test: HeadTest) -> Evaluator:
        head = self.model.heads[name]
        if head.evaluator == "masks":
            return MaskEvaluator(test.names, border=self.options.border)
        return build_evaluator(head, test.names)


def _require_objects_to_write(options: argparse.Namespace, model: Inference, tested: Iterable[str]) -> None:
    """Make sure that nothing is asked for which heads for areas do not have.

    Raises:
        UsageError: an option writes objects.
    """
    if any(model.heads[name].task != "segment" for name in tested):
        return
    for name in ("save_json", "save_hybrid", "save_txt"):
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')} writes objects, and what is tested finds none ({', '.join(tested)}); "
                "leave it out"
            )
