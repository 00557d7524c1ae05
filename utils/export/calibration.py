"""The pictures that tell a quantised file the ranges of its values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.images import read_image
from data.sources import find_sources
from data.transforms.letterbox import LetterboxRule, apply_plan
from utils.errors import DataError, UsageError
from utils.export.check_pictures import ChosenHeads, labelled_pictures
from utils.export.exported_graph import NCHW, NHWC

YAML_ENDINGS = (".yaml", ".yml")
FAULT = "names no pictures; give a folder, a list or a data YAML of some"


class CalibrationBatches:
    """Inputs of a file, made of pictures whenever they are asked for.

    Args:
        paths: of the pictures.
        shape: batch size, height and width of the input.
        letterbox: how a picture lies within it.
        layout: of the input's axes, ``NCHW`` or ``NHWC``.
        count: most pictures; they are evenly spaced among the paths.

    Attributes:
        skipped: one message for every picture that cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        shape: tuple[int, int, int],
        letterbox: LetterboxRule,
        count: int,
        layout: str = NCHW,
    ) -> None:
        self.batch, self.letterbox, self.layout = shape[0], letterbox.exactly(shape[1:]), layout
        chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
        self.skipped: list[str] = []
        self.paths = [paths[i] for i in chosen if self._can_be_read(paths[i])]
        if not self.paths:
            raise DataError(f"--int8: not one picture for the calibration can be read; {self.skipped[0]}")

    def _can_be_read(self, path: Path) -> bool:
        try:
            read_image(path)
        except DataError as error:
            self.skipped.append(str(error))
            return False
        return True

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB inputs in the layout; the last batch is filled up with the first pictures."""
        for first in range(0, len(self.paths), self.batch):
            paths = [self.paths[i % len(self.paths)] for i in range(first, first + self.batch)]
            images = (read_image(path) for path in paths)
            placed = [apply_plan(image, self.letterbox.plan(image.shape[:2], self.letterbox.exact)) for image in images]
            pixels = np.stack(placed)
            yield pixels if self.layout == NHWC else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def calibration_paths(heads: ChosenHeads, options: argparse.Namespace) -> list[Path]:
    """Return the pictures that ``--calibration`` names, or else those of the train split of the data.

    Args:
        heads: of the file.
        options: with ``calibration``, ``data`` and ``segdata``.

    Raises:
        DataError: there are none.
    """
    source = options.calibration
    if source is not None and Path(source).suffix.lower() not in YAML_ENDINGS:
        try:
            images = find_sources(source).images
        except (DataError, UsageError):
            # They speak of --source, and of films and cameras.
            raise DataError(f"--calibration {source}: {FAULT}") from None
        if not images:
            raise DataError(f"--calibration {source}: {FAULT}")
        return [Path(image) for image in images]
    asked = options
    if source is not None:
        asked = argparse.Namespace(data=source, segdata=None)
    found = labelled_pictures(heads, asked, "train").values()
    # Heads may look at the same pictures.
    return [Path(path) for path in dict.fromkeys(path for dataset in found for path in dataset.ids)]
