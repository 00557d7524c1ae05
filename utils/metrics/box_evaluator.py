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
from utils.metrics.average_precision import Curves, match_predictions, precision_recall_curves
from utils.metrics.coco_protocol import SIZES, BoxLabels, BoxPredictions, CocoSummary, coco_summary
from utils.metrics.coco_results import CocoIds, write_coco_results
from utils.metrics.confusion import BoxConfusion
from utils.metrics.crowds import image_classes, without_crowds
from utils.metrics.image_record import ImageRecord, image_records, merge_records, stack_records
from utils.text_table import MANY_CLASSES, UNKNOWN, format_table

_COLUMNS = {
    "name": "class",
    **{name: name for name in ("images", "labels", "P", "R", "AP50", "AP")},
    **{f"AP_{area}": f"AP_{area[0].upper()}" for area in SIZES},
}
"""Columns of the table: what they hold, and their titles."""


@dataclass
class _Report:
    """Everything that is computed from a fixed list of records, each part when first asked for."""

    records: Sequence[ImageRecord]
    num_classes: int
    labels: BoxLabels = field(init=False)
    predictions: BoxPredictions = field(init=False)

    def __post_init__(self) -> None:
        self.labels, self.predictions = stacked(self.records)

    @cached_property
    def coco(self) -> CocoSummary:
        return coco_summary(self.labels, self.predictions, self.num_classes)

    @cached_property
    def single(self) -> tuple[BoxLabels, BoxPredictions]:
        """Curves and confusion count single objects; the COCO protocol knows crowds itself."""
        return without_crowds(self.labels, self.predictions, self.num_classes)

    @cached_property
    def curves(self) -> Curves:
        labels, predictions = self.single
        groups, label_groups = (image_classes(values, self.num_classes) for values in (predictions, labels))
        correct = match_predictions(predictions.boxes, groups, labels.boxes, label_groups)
        return precision_recall_curves(correct, predictions.scores, predictions.classes, labels.classes)

    @cached_property
    def confusion(self) -> BoxConfusion:
        confusion = BoxConfusion(self.num_classes)
        labels, found = self.single
        confusion.update(
            found.boxes, found.scores, found.classes, labels.boxes, labels.classes, found.images, labels.images
        )
        return confusion


def stacked(records: Sequence[ImageRecord]) -> tuple[BoxLabels, BoxPredictions]:
    """Return the labels and predictions of all records, image after image."""
    no_boxes, no_classes, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    index = np.arange(len(records))
    labels = BoxLabels(
        images=np.repeat(index, [len(record.label_classes) for record in records]),
        boxes=stack_records(records, "label_boxes", no_boxes),
        classes=stack_records(records, "label_classes", no_classes),
        areas=stack_records(records, "areas", none),
        crowd=stack_records(records, "crowd", np.zeros(0, bool)),
    )
    predictions = BoxPredictions(
        images=np.repeat(index, [len(record.classes) for record in records]),
        boxes=stack_records(records, "boxes", no_boxes),
        classes=stack_records(records, "classes", no_classes),
        scores=stack_records(records, "scores", none),
    )
    return labels, predictions


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
        """Return P, R, AP50, AP, AP75 in 0..1 (0 without labels or predictions), then AP and AR by area and limit.

        AP_small, AP_medium, AP_large, AR1, AR10, AR100 (the greatest recall of so many predictions of an image and
        class), AR_small, AR_medium and AR_large are -1 where there is no such label, as COCO reports it.
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
            **coco.recall,
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return what is known of every class; of a class without labels all numbers are 0.

        Name, images and labels (counts), P, R, AP50, AP in 0..1, then AP_small, AP_medium, AP_large, which are -1 where
        no label of the class has that size.
        """
        report = self._report
        count = len(self.names)
        single = report.single[0]
        labels = np.bincount(single.classes, minlength=count)
        images = np.bincount(np.unique(image_classes(single, count)) % count, minlength=count)
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
                **{f"AP_{area}": float(values[c]) for area, values in report.coco.class_by_area.items()},
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
        """Return an aligned text table: all classes first, then one row per class when verbose or when they are few.

        AP_S, AP_M and AP_L are by area; a dash says that no label has that size.
        """
        everything = {"name": "all", "images": len(self._records), "labels": len(self._report.single[0].classes)}
        rows = [everything | self.compute()]
        if verbose or len(self.names) <= MANY_CLASSES:
            rows += self.per_class()
        cells = [[row[key] if row[key] != -1 else UNKNOWN for key in _COLUMNS] for row in rows]
        return format_table(list(_COLUMNS.values()), cells)

    def plot(self, folder: Path) -> list[Path]:
        """Draw the curves and the confusion matrix as PNG files.

        Args:
            folder: where to; must exist.

        Returns:
            PR_curve.png, F1_curve.png, P_curve.png, R_curve.png, confusion_matrix.png.
        """
        from utils.plots.confusion import plot_confusion
        from utils.plots.curves import plot_confidence_curve, plot_precision_recall

        folder, curves, coco = Path(folder), self._report.curves, self._report.coco
        names = [self.names[c] for c in curves.classes]
        paths = [folder / f"{name}_curve.png" for name in ("PR", "F1", "P", "R")]
        # The protocol's own curves, so that their areas are the AP50 of the table.
        labelled = coco.class_ap50 >= 0
        named = [name for name, is_labelled in zip(self.names, labelled, strict=True) if is_labelled]
        plot_precision_recall(coco.precision_50[labelled], coco.class_ap50[labelled], named, paths[0])
        plot_confidence_curve(curves.f1, names, "F1", paths[1])
        plot_confidence_curve(curves.precision, names, "precision", paths[2])
        plot_confidence_curve(curves.recall, names, "recall", paths[3])
        paths.append(folder / "confusion_matrix.png")
        plot_confusion(self.confusion_matrix(), [*self.names, "background"], paths[-1])
        return paths

    def coco_json(self, path: str | Path, ids: CocoIds) -> None:
        """Write all predictions as a COCO results file.

        Args:
            path: the JSON file, written atomically.
            ids: of the images and classes.
        """

        def corners_and_sizes(record: ImageRecord) -> list[list[float]]:
            corners = record.boxes.astype(np.float64)
            return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).round(3).tolist()

        write_coco_results(path, self._records, ids, "bbox", corners_and_sizes)
