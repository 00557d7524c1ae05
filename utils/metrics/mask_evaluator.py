"""Evaluator of class maps: intersection over union and pixel accuracy from one confusion matrix.

Shape suffixes: C classes; matrices are indexed [true class, predicted class]; S kinds of pixels: those away from
borders between classes, then, where a border is set, those near them.
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
from utils.metrics.class_borders import IGNORED, near_borders
from utils.text_table import MANY_CLASSES, UNKNOWN, format_table


class MaskEvaluator:
    """Measures class maps against label masks over a whole split, all pixels of all images counted together.

    The reported mIoU is the mean over classes that occur in labels or predictions; ``miou_all`` is the mean over all
    classes, where an absent class counts as 0. With a border, ``mIoU_inner`` is the first of the two over the pixels
    that lie away from borders between labelled classes, see ``near_borders``.
    """

    def __init__(self, names: Sequence[str], border: int = 0) -> None:
        """Start without images.

        Args:
            names: one name per class index, at most 255.
            border: width of the band along borders that the second measure leaves out, native pixels; 0 for no such
                measure.
        """
        self.names, self.border = list(names), border
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
            label = mask.int()
            if self.border:
                label += (IGNORED + 1) * torch.from_numpy(near_borders(mask.numpy(), self.border))
            self._add(result.class_map, label.to(result.class_map.device, non_blocking=True), image)

    def _add(self, class_map: Tensor, label: Tensor, image: str) -> None:
        count, kinds = len(self.names), 2 if self.border else 1
        # Ignored pixels get a row of their own, so that nothing has to be selected by a mask before counting.
        flat = label.flatten() * count + class_map.flatten().int()
        counts = torch.bincount(flat, minlength=kinds * (IGNORED + 1) * count).view(kinds, IGNORED + 1, count)
        nameless = counts[:, count:IGNORED].sum((0, 2))
        if nameless.any():
            value = count + int(nameless.nonzero()[0])
            raise DataError(
                f"the mask of {image} holds class {value} but there are only {count} names; "
                f"add names, or paint those pixels {IGNORED} to ignore them"
            )
        own = counts[:, :count]
        self._counts = own if self._counts is None else self._counts + own.to(self._counts.device)
        self._images += 1

    def state(self) -> tuple[int, np.ndarray]:
        """Return the number of images and the (S, C, C) counts so far, for ``merge`` in another process."""
        return self._images, self._by_kind()

    def merge(self, state: tuple[int, np.ndarray]) -> None:
        """Add the counts of another process, which has the same border and must have looked at other images."""
        images, counts = state
        self._images += images
        self._counts = torch.from_numpy(self._by_kind() + counts)

    def _by_kind(self) -> np.ndarray:
        """Return the (S, C, C) int64 pixel counts."""
        if self._counts is None:
            return np.zeros((2 if self.border else 1, len(self.names), len(self.names)), np.int64)
        return self._counts.cpu().numpy()

    def matrix(self) -> np.ndarray:
        """Return the (C, C) int64 pixel counts [true class, predicted class], ignored pixels left out."""
        return self._by_kind().sum(0)

    def inner_matrix(self) -> np.ndarray:
        """Return the (C, C) counts of the pixels away from borders; without a border those of all pixels."""
        return self._by_kind()[0]

    def intersections_unions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (C,) pixels that label and prediction agree on, and (C,) pixels where either says the class."""
        return _intersections_unions(self.matrix())

    def compute(self) -> dict[str, float]:
        """Return mIoU over present classes, pixel accuracy, and miou_all over all classes, each 0..1.

        With a border also mIoU_inner: mIoU away from borders, -1 where no labelled pixel lies there.
        """
        matrix = self.matrix()
        iou, present = _iou(matrix)
        metrics = {
            "mIoU": float(iou[present].mean()) if present.any() else 0.0,
            "accuracy": float(matrix.trace() / max(matrix.sum(), 1)),
            "miou_all": float(iou.mean()) if len(iou) else 0.0,
        }
        if self.border:
            iou, present = _iou(self.inner_matrix())
            metrics["mIoU_inner"] = float(iou[present].mean()) if present.any() else -1.0
        return metrics

    def per_class(self) -> list[dict[str, Any]]:
        """Return name, pixels (labelled with the class), IoU and accuracy (share of them found) of every class.

        With a border also IoU_inner: IoU away from borders, -1 where the class does not occur there.
        """
        matrix = self.matrix()
        pixels, iou = matrix.sum(1), _iou(matrix)[0]
        accuracy = matrix.diagonal() / np.maximum(pixels, 1)
        rows = [
            {"name": name, "pixels": int(pixels[c]), "IoU": float(iou[c]), "accuracy": float(accuracy[c])}
            for c, name in enumerate(self.names)
        ]
        if self.border:
            inner = np.where(*_iou(self.inner_matrix())[::-1], -1.0)
            rows = [row | {"IoU_inner": float(value)} for row, value in zip(rows, inner, strict=True)]
        return rows

    def fitness(self) -> float:
        """Return mIoU, 0..1, by which the best weights are chosen."""
        return self.compute()["mIoU"]

    def table(self, verbose: bool = False) -> str:
        """Return an aligned text table: all classes first, then one row per class when verbose or when they are few."""
        metrics = self.compute()
        columns = ["pixels", "IoU", "accuracy", *["IoU_inner"] * bool(self.border)]
        means = ["mIoU", "accuracy", *["mIoU_inner"] * bool(self.border)]
        rows: list[list[Any]] = [["all", int(self.matrix().sum()), *(metrics[name] for name in means)]]
        if verbose or len(self.names) <= MANY_CLASSES:
            rows += [list(row.values()) for row in self.per_class()]
        cells = [[UNKNOWN if value == -1 else value for value in row] for row in rows]
        text = format_table((f"class ({self._images} images)", *columns), cells)
        if not self.border:
            return text
        return f"{text}\nIoU_inner leaves out pixels with another class at most {self.border} rows and columns away"

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
        iou, present = _iou(self.matrix())
        inner = np.array([row["IoU_inner"] for row in self.per_class()]) if self.border else None
        label = f"IoU of pixels more than {self.border} from a border"
        plot_class_bars(iou, present, self.names, f"IoU (mean {self.fitness():.3f})", paths[0], inner, label)
        # The picture has predictions as rows, like that of boxes.
        plot_confusion(self.matrix().T, self.names, paths[1])
        return paths


def _intersections_unions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    intersection = matrix.diagonal().copy()
    return intersection, matrix.sum(0) + matrix.sum(1) - intersection


def _iou(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (C,) IoU, and (C,) bool, whether a class occurs in labels or predictions; the IoU of others is 0."""
    intersection, union = _intersections_unions(matrix)
    return intersection / np.maximum(union, 1), union > 0
