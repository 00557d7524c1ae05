"""Evaluator of class maps: intersection over union and pixel accuracy from one confusion matrix.

Shape suffixes: C classes; matrices are indexed [true class, predicted class].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.samples import Batch
from models.heads.base import Head
from models.predictions import MaskResult
from utils.errors import DataError
from utils.metrics.table import MANY_CLASSES, format_table

IGNORED = 255
"""Label value of pixels that do not count."""


class MaskEvaluator:
    """Measures class maps against label masks over a whole split, all pixels of all images counted together.

    The reported mIoU is the mean over classes that occur in labels or predictions; ``miou_all`` is the mean over all
    classes, where an absent class counts as 0.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start without images.

        Args:
            names: one name per class index, at most 255.
        """
        self.names = list(names)
        self._images = 0
        self._counts: Tensor | None = None

    @classmethod
    def for_head(cls, head: Head, names: Sequence[str]) -> MaskEvaluator:
        """Return the evaluator of a head whose classes have these names."""
        return cls(names)

    def update(self, results: list[MaskResult], batch: Batch) -> None:
        """Take the results of one test batch; the counts stay on the device of the results.

        Args:
            results: one class map per image at native size.
            batch: the batch they answer, with native masks.

        Raises:
            DataError: a mask holds a class without a name, or its size is not the image's.
        """
        if batch.native_masks is None or not len(results) == len(batch.native_masks):
            raise ValueError("an evaluator of masks needs one result per image of a test batch with native masks")
        for i, (result, mask) in enumerate(zip(results, batch.native_masks, strict=True)):
            image = batch.ids[i] if i < len(batch.ids) else f"image {i} of the batch"
            if result.class_map.shape != mask.shape:
                (height, width), (own_height, own_width) = mask.shape, result.class_map.shape
                raise DataError(
                    f"the mask of {image} is {width}x{height} pixels but its image {own_width}x{own_height}; "
                    "make the mask as large as the image"
                )
            self._add(result.class_map, mask.to(result.class_map.device, non_blocking=True), image)

    def _add(self, class_map: Tensor, mask: Tensor, image: str) -> None:
        count = len(self.names)
        # Ignored pixels get a row of their own, so that nothing has to be selected by a mask before counting.
        flat = mask.flatten().int() * count + class_map.flatten().int()
        counts = torch.bincount(flat, minlength=(IGNORED + 1) * count).view(IGNORED + 1, count)
        nameless = counts[count:IGNORED].sum(1)
        if nameless.any():
            value = count + int(nameless.nonzero()[0])
            raise DataError(
                f"the mask of {image} holds class {value} but there are only {count} names; "
                f"add names, or paint those pixels {IGNORED} to ignore them"
            )
        matrix = counts[:count]
        self._counts = matrix if self._counts is None else self._counts + matrix.to(self._counts.device)
        self._images += 1

    def state(self) -> tuple[int, np.ndarray]:
        """Return the number of images and the (C, C) counts so far, for ``merge`` in another process."""
        return self._images, self.matrix()

    def merge(self, state: tuple[int, np.ndarray]) -> None:
        """Add the counts of another process, which must have looked at other images."""
        images, matrix = state
        self._images += images
        self._counts = torch.from_numpy(self.matrix() + matrix)

    def matrix(self) -> np.ndarray:
        """Return the (C, C) int64 pixel counts [true class, predicted class], ignored pixels left out."""
        if self._counts is None:
            return np.zeros((len(self.names), len(self.names)), np.int64)
        return self._counts.cpu().numpy()

    def intersections_unions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (C,) pixels that label and prediction agree on, and (C,) pixels where either says the class."""
        matrix = self.matrix()
        intersection = matrix.diagonal().copy()
        return intersection, matrix.sum(0) + matrix.sum(1) - intersection

    def _iou(self) -> np.ndarray:
        intersection, union = self.intersections_unions()
        return intersection / np.maximum(union, 1)

    def compute(self) -> dict[str, float]:
        """Return mIoU over present classes, pixel accuracy, and miou_all over all classes, each 0..1."""
        matrix = self.matrix()
        iou, present = self._iou(), self.intersections_unions()[1] > 0
        return {
            "mIoU": float(iou[present].mean()) if present.any() else 0.0,
            "accuracy": float(matrix.trace() / max(matrix.sum(), 1)),
            "miou_all": float(iou.mean()) if len(iou) else 0.0,
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return name, pixels (labelled with the class), IoU and accuracy (share of them found) of every class."""
        matrix = self.matrix()
        pixels, iou = matrix.sum(1), self._iou()
        accuracy = matrix.diagonal() / np.maximum(pixels, 1)
        return [
            {"name": name, "pixels": int(pixels[c]), "IoU": float(iou[c]), "accuracy": float(accuracy[c])}
            for c, name in enumerate(self.names)
        ]

    def fitness(self) -> float:
        """Return mIoU, 0..1, by which the best weights are chosen."""
        return self.compute()["mIoU"]

    def table(self, verbose: bool = False) -> str:
        """Return an aligned text table: all classes first, then one row per class when verbose or when they are few."""
        metrics = self.compute()
        rows: list[list[Any]] = [["all", int(self.matrix().sum()), metrics["mIoU"], metrics["accuracy"]]]
        if verbose or len(self.names) <= MANY_CLASSES:
            rows += [list(row.values()) for row in self.per_class()]
        return format_table((f"class ({self._images} images)", "pixels", "IoU", "accuracy"), rows)

    def plot(self, folder: Path) -> list[Path]:
        """Draw the IoU of each class and the confusion between classes as PNG files.

        Args:
            folder: where to; must exist.

        Returns:
            iou_per_class.png, mask_confusion_matrix.png.
        """
        from utils.plots.confusion import plot_confusion
        from utils.plots.curves import plot_class_bars

        folder = Path(folder)
        paths = [folder / "iou_per_class.png", folder / "mask_confusion_matrix.png"]
        present = self.intersections_unions()[1] > 0
        plot_class_bars(self._iou(), present, self.names, f"IoU (mean {self.fitness():.3f})", paths[0])
        # The picture has predictions as rows, like that of boxes.
        plot_confusion(self.matrix().T, self.names, paths[1])
        return paths
