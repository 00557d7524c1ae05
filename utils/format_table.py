"""The table of formats: what a model's files weigh, what they find, and how long they take, side by side."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.samples import Placement
from models.exported.model import device_for
from models.exported.paths import exported_file, is_exported
from models.inference import RGB_CHANNELS, forward_format, load_inference
from models.predictions import PostprocessOptions
from utils.command_lines.exported_files import say_what_stays_empty
from utils.command_lines.exporting import parse_options as parse_export_options
from utils.errors import RunError, is_out_of_memory
from utils.export.file_formats import SUFFIXES
from utils.export.quality import metric_of
from utils.image_size import round_up_to_stride
from utils.testing.datasets import open_test_data
from utils.timed_passes import HIGH, LOW, Latency, timed
from utils.validation import build_tests, run_head_test

LOGGER = logging.getLogger("yolograph")
SEED = 0
FORMATS = {ending: name for name, ending in SUFFIXES.items()}
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class FormatRow:
    """One line of the table.

    Attributes:
        weights: path of the file.
        format: ``checkpoint``, or that of an exported file.
        precision: number format of its weights.
        input: (batch, height, width) of a timed pass.
        megabytes: size of the file, or of the files that belong together, in 1e6 bytes.
        metrics: by ``HEAD METRIC``, such as ``detect AP``; empty without data.
        network: time of a pass up to the candidates, or the objects, of all heads.
        whole: time of a pass with its postprocessing.
    """

    weights: str
    format: str
    precision: str
    input: tuple[int, int, int]
    megabytes: float
    metrics: dict[str, float]
    network: Latency
    whole: Latency

    def to_plain(self) -> dict[str, Any]:
        """Return the line as plain values; times are milliseconds per image."""
        batch = self.input[0]
        return {
            "weights": self.weights,
            "format": self.format,
            "precision": self.precision,
            "input": list(self.input),
            "megabytes": round(self.megabytes, 4),
            "metrics": {name: round(value, 6) for name, value in self.metrics.items()},
            "network_ms": round(self.network.median_ms / batch, 4),
            "ms": round(self.whole.median_ms / batch, 4),
            "ms_p5": round(self.whole.p5_ms / batch, 4),
            "ms_p95": round(self.whole.p95_ms / batch, 4),
        }


class Candidate:
    """A model of the table, ready to run.

    Args:
        weights: path of the file.
        options: command-line values.
        device: where to run.

    Raises:
        ModelError: it cannot be loaded.
        UsageError: it does not run as the options ask for.
        RunError: it does not fit into the memory.
    """

    def __init__(self, weights: str, options: argparse.Namespace, device: torch.device) -> None:
        self.weights, self.options, self.device = weights, options, device
        with _short_of_memory(weights, options):
            self.model = load_inference([weights], device, deploy=options.deploy and not is_exported(weights))
        say_what_stays_empty(self.model, options.batch_size)
        self.dtype = forward_format(self.model, "float32" if self.model.files else options.dtype)
        asked = options.imgsz[0], options.imgsz[-1]
        height, width = (round_up_to_stride(side, self.model.stride) for side in asked)
        # Pictures lie alike in the inputs of all models, also of those that would take other sizes.
        if self.model.letterbox.shape is None:
            self.model.letterbox = self.model.letterbox.exactly((height, width))
        self.shape: tuple[int, int] = self.model.letterbox.shape
        self._images = self._noise()

    def accuracy(self) -> dict[str, float]:
        """Return AP or mIoU of every head that has data.

        Raises:
            DataError: data are missing or do not fit the model.
        """
        options = self.options
        if options.data is None:
            return {}
        asked = argparse.Namespace(
            data=options.data, segdata=options.segdata, heads=None, split="val", single_cls=False
        )
        datasets = open_test_data(self.model, asked)
        side = max(self.shape)
        tests = build_tests(self.model, datasets, side, side, options.batch_size, options.workers)
        found = {}
        for name, test in tests.items():
            with _short_of_memory(self.weights, options):
                evaluator = run_head_test(self.model, name, test, self.device, self.dtype)
            test.report(test.loader.skipped)
            metric = metric_of(self.model.heads[name])
            found[f"{name} {metric}"] = float(evaluator.compute()[metric])
        return found

    @torch.inference_mode()
    def seconds(self) -> tuple[list[float], list[float]]:
        """Return the seconds of every timed pass of one repeat: up to the predictions, and whole."""
        options, heads = self.options, tuple(self.model.heads)
        thresholds = PostprocessOptions(options.conf_thres, options.iou_thres, options.max_det)
        placements = [Placement(*self.shape) for _ in self._images]

        def network() -> dict[str, Any]:
            return self.model(self._images, heads, self.dtype)

        def whole() -> None:
            predictions = network()
            for name in heads:
                self.model.heads[name].postprocess(predictions[name], thresholds, placements)

        with _short_of_memory(self.weights, options):
            works = network, whole
            return tuple(timed(work, self.device, options.warmup, options.iterations) for work in works)

    def row(self, metrics: dict[str, float], repeats: Sequence[tuple[list[float], list[float]]]) -> FormatRow:
        """Return the line of the table.

        Args:
            metrics: as ``accuracy`` gives them.
            repeats: as ``seconds`` gives them.
        """
        files, batch = self.model.files, len(self._images)
        network, whole = (Latency.of(each, batch) for each in zip(*repeats, strict=True))
        return FormatRow(
            weights=self.weights,
            format=FORMATS[files[0].path.suffix.lower()] if files else CHECKPOINT,
            precision=files[0].description.precision if files else str(self.dtype or torch.float32)[len("torch.") :],
            input=(batch, *self.shape),
            megabytes=megabytes(self.weights),
            metrics=metrics,
            network=network,
            whole=whole,
        )

    def _noise(self) -> Tensor:
        draw = torch.Generator().manual_seed(SEED)
        shape = (self.options.batch_size, RGB_CHANNELS, *self.shape)
        images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
        return images.to(self.device).contiguous(memory_format=torch.channels_last)


@contextmanager
def _short_of_memory(weights: str, options: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"{weights}: {options.batch_size} images of {'x'.join(map(str, options.imgsz))} px do not fit into the "
            "memory; take a smaller --batch-size or --imgsz"
        ) from None


def compare(options: argparse.Namespace) -> list[FormatRow]:
    """Export what is to be exported, and measure every model.

    The models take turns at being timed, so that what else the machine does slows all of them down.

    Raises:
        YolographError: a model cannot be exported, loaded or measured.
    """
    with tempfile.TemporaryDirectory(prefix="formats.") as folder:
        weights = [*options.weights, *_exported(options, Path(folder))]
        device = device_for(weights, options.device)
        models = [Candidate(path, options, device) for path in weights]
        metrics = []
        for model in models:
            metrics.append(model.accuracy())
            if metrics[-1]:
                found = ", ".join(f"{name} {value:.4f}" for name, value in metrics[-1].items())
                LOGGER.info("%s: %s", Path(model.weights).name, found)
        rounds = [[model.seconds() for model in models] for _ in range(options.repeat)]
        repeats = zip(*rounds, strict=True)
        return [model.row(*found) for model, *found in zip(models, metrics, repeats, strict=True)]


def _exported(options: argparse.Namespace, folder: Path) -> list[str]:
    """Write the files of ``--formats`` and return their paths."""
    if not options.formats:
        return []
    # The command imports this package, and only this wish needs it.
    from export import export

    [checkpoint] = [path for path in options.weights if not is_exported(path)]
    common = ["--weights", checkpoint, "--batch-size", str(options.batch_size), "--device", options.device or "cpu"]
    common += ["--img-size", *map(str, options.imgsz), *["--deploy"] * options.deploy]
    # AP and times are measured here; what the outputs are is checked there.
    common += ["--check-images", "1", "--passes", "1"]
    written = []
    for name in dict.fromkeys(options.formats):
        output = str(folder / f"{Path(checkpoint).stem}{SUFFIXES[name]}")
        written += export(parse_export_options([*common, "--include", name, "--output", output]))
    return [str(path) for path in written]


def megabytes(weights: str) -> float:
    """Return the size of a file in 1e6 bytes; of a folder, and of an OpenVINO model, that of all that belongs to it."""
    path = Path(weights)
    if is_exported(path):
        path = exported_file(path)
        files = [path, path.with_suffix(".bin")] if path.suffix.lower() == SUFFIXES["openvino"] else [path]
    else:
        files = list(path.rglob("*")) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def table_of(rows: Sequence[FormatRow]) -> str:
    """Return the lines as an aligned text table; what a model has no data for is a dash.

    Args:
        rows: one or more.
    """
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    table = [["file", "format", "precision", "input", "MB", *metrics, "ms", f"{LOW} to {HIGH} %"]]
    for row in rows:
        batch = row.input[0]
        worth = [f"{row.metrics[name]:.4f}" if name in row.metrics else "-" for name in metrics]
        spread = f"{row.whole.p5_ms / batch:.1f}-{row.whole.p95_ms / batch:.1f}"
        told = [Path(row.weights).name, row.format, row.precision, "x".join(map(str, row.input))]
        table.append([*told, f"{row.megabytes:.1f}", *worth, f"{row.whole.median_ms / batch:.1f}", spread])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    left = 4
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
