"""What a test leaves of single images: pictures of some batches, and label files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.keypoints import KeypointSpec
from data.samples import Batch
from models.predictions import DetectionResult
from utils.files import UniqueNames
from utils.label_text import write_label_text
from utils.plots.batches import picture_of_labels, picture_of_results
from utils.plots.drawing import save_picture
from utils.testing.hybrid import with_labels

MOST_PICTURES = 3
"""Batches of a head that are drawn."""

MOST_IMAGES = 16
"""Images of a batch that are drawn."""


class ResultWriter:
    """Takes results batch by batch and leaves pictures and label files in the run folder.

    Args:
        names: class names of every head.
        keypoints: what those of every head are, None for heads without.
        folder: the run folder.
        options: command-line values.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        keypoints: Mapping[str, KeypointSpec | None],
        folder: Path,
        options: argparse.Namespace,
    ) -> None:
        self.names, self.keypoints, self.folder, self.options = names, keypoints, folder, options
        self._drawn: dict[str, list[int]] = {head: [] for head in names}
        self._label_names = {head: UniqueNames() for head in names}

    def __call__(self, name: str, batch: Batch, results: list[Any]) -> None:
        """Take the results of a head for a batch."""
        if not self.options.noplots:
            number = self._number_of(name, min(len(batch), MOST_IMAGES))
            if number is not None:
                self._draw(name, batch, results, number)
        if self.options.save_txt and isinstance(results[0], DetectionResult):
            folder = self.folder / f"labels_{name}"
            folder.mkdir(exist_ok=True)
            for i, result in enumerate(results):
                self._write(folder, name, batch, i, result)

    def _number_of(self, name: str, images: int) -> int | None:
        """Return the number of the picture that a batch becomes, or None.

        Batches of one shape can be of any size, also of one image. So when all numbers are taken, a fuller batch takes
        the place of the one with the fewest images.
        """
        drawn = self._drawn[name]
        if len(drawn) < MOST_PICTURES:
            drawn.append(images)
            return len(drawn) - 1
        fewest = drawn.index(min(drawn))
        if drawn[fewest] >= images:
            return None
        drawn[fewest] = images
        return fewest

    def _draw(self, name: str, batch: Batch, results: list[Any], number: int) -> None:
        names = self.names[name]
        pictures = {
            "labels": picture_of_labels(batch, names, self.keypoints[name], MOST_IMAGES),
            "results": picture_of_results(batch, results, names, MOST_IMAGES),
        }
        for what, picture in pictures.items():
            save_picture(self.folder / f"test_batch{number}_{name}_{what}.jpg", picture)

    def _write(self, folder: Path, name: str, batch: Batch, i: int, result: DetectionResult) -> None:
        options, placement = self.options, batch.placements[i]
        if options.save_hybrid:
            result = with_labels(result, batch, i, options.iou_thres)
        target = folder / self._label_names[name].take(f"{Path(batch.ids[i]).stem}.txt")
        write_label_text(target, result, np.array([placement.width, placement.height]), options.save_conf)
