"""Evaluator of boxes: COCO average precision, precision and recall at the best F1, confusion between classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.samples import Batch
from models.heads.base import Head
from models.predictions import DetectionResult
from utils.metrics.average_precision import IOU_THRESHOLDS, Curves, match_predictions, precision_recall_curves
from utils.metrics.coco_protocol import BoxLabels, BoxPredictions, CocoSummary, coco_summary
from utils.metrics.coco_results import write_coco_results
from utils.metrics.confusion import BoxConfusion
from utils.metrics.image_record import (
    ImageRecord,
    image_records,
    merge_records,
    stack_records,
    without_crowds,
)
from utils.metrics.table import MANY_CLASSES, format_table


@dataclass
class _Report:
    """Everything that is computed from a fixed list of records, each part when first asked for."""

    records: Sequence[ImageRecord]
    num_classes: int
    single: list[ImageRecord] = field(init=False)
    label_classes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        # Curves and confusion count single objects; the COCO protocol knows crowds itself.
        self.single = [without_crowds(record) for record in self.records]
        self.label_classes = stack_records(self.single, "label_classes", np.zeros(0, np.int64))

    @cached_property
    def coco(self) -> CocoSummary:
        no_boxes, no_classes, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        records, index = self.records, np.arange(len(self.records))
        return coco_summary(
            labels=BoxLabels(
                images=np.repeat(index, [len(record.label_classes) for record in records]),
                boxes=stack_records(records, "label_boxes", no_boxes),
                classes=stack_records(records, "label_classes", no_classes),
                areas=stack_records(records, "areas", none),
                crowd=stack_records(records, "crowd", np.zeros(0, bool)),
            ),
            predictions=BoxPredictions(
                images=np.repeat(index, [len(record.classes) for record in records]),
                boxes=stack_records(records, "boxes", no_boxes),
                classes=stack_records(records, "classes", no_classes),
                scores=stack_records(records, "scores", none),
            ),
            num_images=len(records),
            num_classes=self.num_classes,
        )

    @cached_property
    def curves(self) -> Curves:
        correct = [
            match_predictions(record.boxes, record.classes, record.label_boxes, record.label_classes)
            for record in self.single
        ]
        return precision_recall_curves(
            np.concatenate([np.zeros((0, len(IOU_THRESHOLDS)), bool), *correct]),
            stack_records(self.single, "scores", np.zeros(0, np.float32)),
            stack_records(self.single, "classes", np.zeros(0, np.int64)),
            self.label_classes,
        )

    @cached_property
    def confusion(self) -> BoxConfusion:
        confusion = BoxConfusion(self.num_classes)
        for record in self.single:
            confusion.update(record.boxes, record.scores, record.classes, record.label_boxes, record.label_classes)
        return confusion


class BoxEvaluator:
    """Measures detections against labelled boxes over a whole split.

    AP follows the COCO protocol (the mean over classes that have labels, overlaps 0.50 ... 0.95, 101 recalls). P and R
    are read at the confidence where the mean F1 over classes is best, at overlap 0.50. Crowds, where the labels mark
    them, are neither missed nor wrongly found.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start without images.

        Args:
            names: one name per class index.
        """
        self.names = list(names)
        self._records: list[ImageRecord] = []
        self._cached: _Report | None = None

    @classmethod
    def for_head(cls, head: Head, names: Sequence[str]) -> BoxEvaluator:
        """Return the evaluator of a head whose classes have these names."""
        return cls(names)

    @property
    def _report(self) -> _Report:
        if self._cached is None:
            self._cached = _Report(self._records, len(self.names))
        return self._cached

    def update(self, results: list[DetectionResult], batch: Batch) -> None:
        """Take the results of one test batch.

        Args:
            results: one per image, in native pixels, on any device.
            batch: the batch they answer, with placements.
        """
        self._records += image_records(results, batch)
        self._cached = None

    def state(self) -> list[ImageRecord]:
        """Return what was taken so far, for ``merge`` in another process."""
        return self._records

    def merge(self, state: list[ImageRecord]) -> None:
        """Add the images of another process, except those that are here already."""
        self._cached = None
        self._records = merge_records(self._records, state)

    def compute(self) -> dict[str, float]:
        """Return P, R, AP50, AP, AP75 in 0..1 (0 without labels or predictions), then AP_small, AP_medium, AP_large.

        The three by area are -1 where no label has that size, as COCO reports it.
        """
        coco, curves = self._report.coco, self._report.curves
        known = len(curves.classes) > 0
        return {
            "P": float(curves.precision[:, curves.best].mean()) if known else 0.0,
            "R": float(curves.recall[:, curves.best].mean()) if known else 0.0,
            "AP50": max(coco.ap50, 0.0),
            "AP": max(coco.ap, 0.0),
            "AP75": max(coco.ap75, 0.0),
            **{f"AP_{area}": value for area, value in coco.by_area.items()},
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return name, images and labels (counts), P, R, AP50, AP of every class; all 0 for a class without labels."""
        report = self._report
        count = len(self.names)
        labels = np.bincount(report.label_classes, minlength=count)
        holds = [np.unique(record.label_classes) for record in report.single]
        images = np.bincount(np.concatenate([np.zeros(0, np.int64), *holds]), minlength=count)
        precision, recall = np.zeros(count), np.zeros(count)
        precision[report.curves.classes] = report.curves.precision[:, report.curves.best]
        recall[report.curves.classes] = report.curves.recall[:, report.curves.best]
        return [
            {
                "name": name,
                "images": int(images[c]),
                "labels": int(labels[c]),
                "P": float(precision[c]),
                "R": float(recall[c]),
                "AP50": max(float(report.coco.class_ap50[c]), 0.0),
                "AP": max(float(report.coco.class_ap[c]), 0.0),
            }
            for c, name in enumerate(self.names)
        ]

    def fitness(self) -> float:
        """Return 0.1 AP50 + 0.9 AP, 0..1, by which the best weights are chosen."""
        metrics = self.compute()
        return 0.1 * metrics["AP50"] + 0.9 * metrics["AP"]

    def confusion_matrix(self) -> np.ndarray:
        """Return the (C + 1, C + 1) counts of BoxConfusion at confidence 0.25 and overlap 0.45."""
        return self._report.confusion.matrix

    def table(self, verbose: bool = False) -> str:
        """Return an aligned text table: all classes first, then one row per class when verbose or when they are few."""
        metrics = self.compute()
        columns = ("P", "R", "AP50", "AP")
        rows = [["all", len(self._records), len(self._report.label_classes), *(metrics[name] for name in columns)]]
        if verbose or len(self.names) <= MANY_CLASSES:
            rows += [list(row.values()) for row in self.per_class()]
        return format_table(("class", "images", "labels", *columns), rows)

    def plot(self, folder: Path) -> list[Path]:
        """Draw the curves and the confusion matrix as PNG files.

        Args:
            folder: where to; must exist.

        Returns:
            PR_curve.png, F1_curve.png, P_curve.png, R_curve.png, confusion_matrix.png.
        """
        from utils.plots.confusion import plot_confusion
        from utils.plots.curves import plot_confidence_curve, plot_precision_recall

        folder, curves = Path(folder), self._report.curves
        names = [self.names[c] for c in curves.classes]
        paths = [folder / f"{name}_curve.png" for name in ("PR", "F1", "P", "R")]
        plot_precision_recall(curves.precision_at_recall, curves.ap[:, 0], names, paths[0])
        plot_confidence_curve(curves.f1, names, "F1", paths[1])
        plot_confidence_curve(curves.precision, names, "precision", paths[2])
        plot_confidence_curve(curves.recall, names, "recall", paths[3])
        paths.append(folder / "confusion_matrix.png")
        plot_confusion(self.confusion_matrix(), [*self.names, "background"], paths[-1])
        return paths

    def coco_json(self, path: str | Path, category_ids: Sequence[int] | None = None) -> None:
        """Write all predictions as a COCO results file.

        Args:
            path: the JSON file, written atomically.
            category_ids: the category id of each class index; None takes the class index itself.

        Raises:
            DataError: two images would get one id, because only the file name without its suffix becomes the id.
        """
        ids = category_ids if category_ids is not None else range(len(self.names))

        def corners_and_sizes(record: ImageRecord) -> list[list[float]]:
            corners = record.boxes.astype(np.float64)
            return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).round(3).tolist()

        write_coco_results(path, self._records, ids, "bbox", corners_and_sizes)
