"""Evaluator of poses: COCO average precision of keypoints, and of their boxes beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.keypoints import KeypointSpec
from data.samples import Batch
from models.heads.base import Head
from models.losses.oks import PERSON_SHARE
from models.predictions import PoseResult
from utils.boxes import points_to_native
from utils.metrics.box_evaluator import BoxEvaluator
from utils.metrics.coco_results import CocoIds, write_coco_results
from utils.metrics.image_record import (
    ImageRecord,
    image_records,
    merge_records,
    stack_records,
)
from utils.metrics.keypoint_protocol import KeypointSummary, PoseLabels, PosePredictions, keypoint_summary
from utils.text_table import MANY_CLASSES, UNKNOWN, format_table

_COLUMNS = ("AP50", "AP", "AP75", "AR")
_BY_AREA = {"AP_medium": "AP_M", "AP_large": "AP_L"}


@dataclass(frozen=True)
class PoseRecord(ImageRecord):
    """Predictions and labels of one image, in native pixels.

    Attributes:
        keypoints: (n, K, 3) float32 x y and score of every prediction.
        label_keypoints: (m, K, 3) float32 x y and visibility, 0 where not labelled.
    """

    keypoints: np.ndarray = field(kw_only=True)
    label_keypoints: np.ndarray = field(kw_only=True)

    @property
    def sizes(self) -> np.ndarray:
        """(m,) square pixels that distances are held against: annotated areas, or a share of the box."""
        stand_in = PERSON_SHARE * self.box_areas
        return stand_in if self.label_areas is None else np.where(self.label_areas > 0, self.label_areas, stand_in)

    @property
    def counts(self) -> np.ndarray:
        """(m,) bool, labels that are to be found: no crowd, and at least one keypoint is labelled."""
        return ~self.crowd & (self.label_keypoints[..., 2] > 0).any(1)


@dataclass
class _Report:
    """Everything that is computed from a fixed list of records, each part when first asked for."""

    records: Sequence[PoseRecord]
    names: Sequence[str]
    spec: KeypointSpec

    @cached_property
    def summary(self) -> KeypointSummary:
        records, index = self.records, np.arange(len(self.records))
        none, no_boxes, no_points = np.zeros(0), np.zeros((0, 4)), np.zeros((0, len(self.spec), 3))
        return keypoint_summary(
            PoseLabels(
                images=np.repeat(index, [len(record.label_classes) for record in records]),
                boxes=self._stack("label_boxes", no_boxes),
                classes=self._stack("label_classes", none).astype(np.int64),
                keypoints=self._stack("label_keypoints", no_points),
                areas=self._stack("sizes", none),
                crowd=self._stack("crowd", none).astype(bool),
            ),
            PosePredictions(
                images=np.repeat(index, [len(record.classes) for record in records]),
                boxes=self._stack("boxes", no_boxes),
                classes=self._stack("classes", none).astype(np.int64),
                scores=self._stack("scores", none),
                keypoints=self._stack("keypoints", no_points),
            ),
            num_classes=len(self.names),
            sigmas=self.spec.sigmas,
        )

    @cached_property
    def boxes(self) -> BoxEvaluator:
        evaluator = BoxEvaluator(self.names)
        evaluator.merge(list(self.records))
        return evaluator

    @cached_property
    def stand_ins(self) -> int:
        """Labels to be found that have no annotated area."""
        missing = (
            record.counts if record.label_areas is None else record.counts & (record.label_areas <= 0)
            for record in self.records
        )
        return sum(int(mask.sum()) for mask in missing)

    def _stack(self, name: str, empty: np.ndarray) -> np.ndarray:
        return stack_records(self.records, name, empty)


class KeypointEvaluator:
    """Measures poses against labelled keypoints over a whole split, by the COCO protocol.

    The object keypoint similarity (OKS) takes the place of the overlap of boxes; an object's score is that of its box.
    Crowds and objects without a labelled keypoint count neither way. Where no area is annotated, 0.53 of the box is
    taken for it. The boxes are measured too, against all labelled objects.
    """

    def __init__(self, names: Sequence[str], spec: KeypointSpec) -> None:
        """Start without images.

        Args:
            names: one name per class index.
            spec: what the keypoints are; their sigmas are the tolerances of the similarity.
        """
        self.names, self.spec = list(names), spec
        self._records: list[PoseRecord] = []
        self._cached: _Report | None = None

    @classmethod
    def for_head(cls, head: Head, names: Sequence[str]) -> KeypointEvaluator:
        """Return the evaluator of a head for poses whose classes have these names."""
        return cls(names, head.keypoints)

    @property
    def _report(self) -> _Report:
        if self._cached is None:
            self._cached = _Report(self._records, self.names, self.spec)
        return self._cached

    def update(self, results: list[PoseResult], batch: Batch) -> None:
        """Take the results of one test batch.

        Args:
            results: one per image, in native pixels, on any device.
            batch: the batch they answer, with placements and keypoints.
        """
        records = image_records(results, batch)
        if batch.keypoints is None:
            raise ValueError("an evaluator of poses needs a batch with keypoints")
        counts = np.cumsum([len(result.scores) for result in results])[:-1]
        found = np.split(torch.cat([result.keypoints for result in results]).float().cpu().numpy(), counts)
        labelled, valid = batch.keypoints.float().cpu().numpy(), batch.valid.cpu().numpy()
        for i, (record, keypoints) in enumerate(zip(records, found, strict=True)):
            # Records are in the order of descending confidence.
            order = np.argsort(-results[i].scores.float().cpu().numpy(), kind="stable")
            values = {entry.name: getattr(record, entry.name) for entry in fields(record)}
            native = points_to_native(labelled[i, valid[i]], batch.placements[i])
            self._records.append(PoseRecord(**values, keypoints=keypoints[order], label_keypoints=native))
        self._cached = None

    def state(self) -> list[PoseRecord]:
        """Return what was taken so far, for ``merge`` in another process."""
        return self._records

    def merge(self, state: list[PoseRecord]) -> None:
        """Add the images of another process, except those that are here already."""
        self._cached = None
        self._records = merge_records(self._records, state)

    def compute(self) -> dict[str, float]:
        """Return AP50, AP, AP75 and AR of keypoints in 0..1 (0 without labels or predictions), and more.

        These are AR50 and AR75, AP and AR of medium and large objects (-1 where no label has that size, as COCO reports
        it), and box_AP50 and box_AP of the same objects' boxes.
        """
        metrics, boxes = self._report.summary.metrics, self._report.boxes.compute()
        first = {name: max(metrics[name], 0.0) for name in (*_COLUMNS, "AR50", "AR75")}
        by_area = {name: metrics[name] for name in ("AP_medium", "AP_large", "AR_medium", "AR_large")}
        return {**first, "box_AP50": boxes["AP50"], "box_AP": boxes["AP"], **by_area}

    def per_class(self) -> list[dict[str, Any]]:
        """Return name, images and labels (counts), AP50, AP, AP75, AR of every class; all 0 for one without labels.

        Then AP_medium and AP_large, -1 where no label of the class has that size.
        """
        images, labels = self._label_counts()
        return [
            {
                "name": name,
                "images": int(images[c]),
                "labels": int(labels[c]),
                **{column: max(self._report.summary.by_class[c][column], 0.0) for column in _COLUMNS},
                **{column: self._report.summary.by_class[c][column] for column in _BY_AREA},
            }
            for c, name in enumerate(self.names)
        ]

    def _label_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (C,) images that hold a class, and (C,) labels of it that are to be found."""
        count = len(self.names)
        of_image = [record.label_classes[record.counts] for record in self._records]
        none = np.zeros(0, np.int64)
        images = np.bincount(np.concatenate([none, *(np.unique(classes) for classes in of_image)]), minlength=count)
        return images, np.bincount(np.concatenate([none, *of_image]), minlength=count)

    def fitness(self) -> float:
        """Return AP of the keypoints, 0..1, by which the best weights are chosen."""
        return self.compute()["AP"]

    def table(self, verbose: bool = False) -> str:
        """Return an aligned text table: keypoints, then boxes, then a row per class when verbose or when they are few.

        AP_M and AP_L are by area, of which COCO knows no small poses; a dash says that there is nothing to measure. A
        note below says where areas had to be guessed.
        """
        metrics, boxes = self.compute(), self._report.boxes.compute()
        labels = int(self._label_counts()[1].sum())
        box_labels = sum(int((~record.crowd).sum()) for record in self._records)
        images = len(self._records)
        columns = (*_COLUMNS, *_BY_AREA)
        rows: list[list[Any]] = [
            ["keypoints", images, labels, *(metrics[name] for name in columns)],
            ["boxes", images, box_labels, *({**boxes, "AR": boxes["AR100"]}[name] for name in columns)],
        ]
        if len(self.names) > 1 and (verbose or len(self.names) <= MANY_CLASSES):
            rows += [list(row.values()) for row in self.per_class()]
        cells = [[UNKNOWN if value == -1 else value for value in row] for row in rows]
        header = ("class" if len(self.names) > 1 else self.names[0], "images", "labels", *_COLUMNS, *_BY_AREA.values())
        text = format_table(header, cells)
        if not self._report.stand_ins:
            return text
        return (
            f"{text}\n{self._report.stand_ins} of {labels} labels have no annotated area; "
            f"{PERSON_SHARE} of the box was taken for it"
        )

    def plot(self, folder: Path) -> list[Path]:
        """Draw the precision-recall curve of the keypoints, and what there is for boxes, as PNG files.

        Args:
            folder: where to; must exist.

        Returns:
            keypoint_PR_curve.png and the pictures of ``BoxEvaluator.plot``.
        """
        from utils.plots.curves import plot_precision_recall

        known = self._report.summary.precision_50.max(1) >= 0
        names = [name for name, is_known in zip(self.names, known, strict=True) if is_known]
        areas = np.array([row["AP50"] for row in self.per_class()])[known]
        path = Path(folder) / "keypoint_PR_curve.png"
        plot_precision_recall(self._report.summary.precision_50[known], areas, names, path, measure="OKS")
        return [path, *self._report.boxes.plot(folder)]

    def coco_json(self, path: str | Path, ids: CocoIds) -> None:
        """Write all predictions as a COCO results file of keypoints.

        Args:
            path: the JSON file, written atomically.
            ids: of the images and classes.
        """

        def points(record: PoseRecord) -> list[list[float]]:
            return record.keypoints.astype(np.float64).round(3).reshape(-1, 3 * len(self.spec)).tolist()

        write_coco_results(path, self._records, ids, "keypoints", points)
