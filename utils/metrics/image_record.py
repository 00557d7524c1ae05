"""What an evaluator keeps of one image: predictions and labels in native pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from data.samples import Batch
from models.predictions import DetectionResult
from utils.boxes import box_iou_matrix, scale_to_native

Record = TypeVar("Record", bound="ImageRecord")


@dataclass(frozen=True)
class ImageRecord:
    """Predictions and labels of one image, in native pixels.

    Attributes:
        id: path or name of the image.
        boxes: (n, 4) float32 predictions x1 y1 x2 y2, in order of descending confidence.
        scores: (n,) float32.
        classes: (n,) int64.
        label_boxes: (m, 4) float32.
        label_classes: (m,) int64.
        label_areas: (m,) float32, annotated areas of the objects in square pixels; None where there are only boxes.
        label_crowd: (m,) bool, regions of many objects, which are neither missed nor wrongly found; None for none.
    """

    id: str
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    label_boxes: np.ndarray
    label_classes: np.ndarray
    label_areas: np.ndarray | None = None
    label_crowd: np.ndarray | None = None

    @property
    def box_areas(self) -> np.ndarray:
        """(m,) float64 areas of the label boxes."""
        corners = self.label_boxes.astype(np.float64)
        return (corners[:, 2:] - corners[:, :2]).prod(1)

    @property
    def areas(self) -> np.ndarray:
        """(m,) annotated areas; of labels that have none, those of their boxes."""
        return self.box_areas if self.label_areas is None else self.label_areas

    @property
    def crowd(self) -> np.ndarray:
        """(m,) bool."""
        return np.zeros(len(self.label_classes), bool) if self.label_crowd is None else self.label_crowd


def without_crowds(record: ImageRecord, overlap: float = 0.5) -> ImageRecord:
    """Return a record without its crowds and without the predictions that stand for one of their members.

    Args:
        record: of one image; one without crowds is returned as it is.
        overlap: a prediction stands for a member of a crowd of its class if it lies in the crowd by this share of its
            own area and reaches no object by this overlap.
    """
    if not record.crowd.any():
        return record
    crowd = record.crowd
    same = record.classes[:, None] == record.label_classes
    boxes, labels = torch.from_numpy(record.boxes), torch.from_numpy(record.label_boxes)
    found = ((box_iou_matrix(boxes, labels).numpy() >= overlap) & same)[:, ~crowd].any(1)
    low = np.maximum(record.boxes[:, None, :2], record.label_boxes[crowd, :2])
    high = np.minimum(record.boxes[:, None, 2:], record.label_boxes[crowd, 2:])
    own = (record.boxes[:, 2:] - record.boxes[:, :2]).prod(1)
    share = (high - low).clip(min=0).prod(2) / np.maximum(own, 1e-9)[:, None]
    member = ((share >= overlap) & same[:, crowd]).any(1)
    kept = found | ~member
    return replace(
        record,
        boxes=record.boxes[kept],
        scores=record.scores[kept],
        classes=record.classes[kept],
        label_boxes=record.label_boxes[~crowd],
        label_classes=record.label_classes[~crowd],
        label_areas=None if record.label_areas is None else record.label_areas[~crowd],
        label_crowd=None,
    )


def require_test_batch(results: Sequence[object], batch: Batch) -> None:
    """Make sure that results belong to a batch that knows where its images lie.

    Raises:
        ValueError: counts differ, or it is no test batch.
    """
    if batch.placements is None or not len(results) == len(batch) == len(batch.ids):
        raise ValueError("an evaluator needs one result per image of a test batch with placements and ids")


def image_records(results: Sequence[DetectionResult], batch: Batch) -> list[ImageRecord]:
    """Return the records of one test batch.

    Args:
        results: one per image, in native pixels, on any device.
        batch: the batch they answer, with placements.
    """
    require_test_batch(results, batch)
    # One move per field and batch; a move per image would wait for the device each time.
    counts = np.cumsum([len(result.scores) for result in results])[:-1]
    boxes = torch.cat([result.boxes for result in results]).float().cpu().numpy()
    scores = torch.cat([result.scores for result in results]).float().cpu().numpy()
    classes = torch.cat([result.classes for result in results]).long().cpu().numpy()
    label_boxes, label_classes = batch.boxes.float().cpu(), batch.classes.cpu()
    valid = batch.valid.cpu()
    areas = None if batch.areas is None else batch.areas.float().cpu()
    crowd = None if batch.crowd is None else batch.crowd.cpu()
    records = []
    per_image = zip(np.split(boxes, counts), np.split(scores, counts), np.split(classes, counts), strict=True)
    for i, (own_boxes, own_scores, own_classes) in enumerate(per_image):
        order = np.argsort(-own_scores, kind="stable")
        native = scale_to_native(label_boxes[i, valid[i]], batch.placements[i])
        records.append(
            ImageRecord(
                id=str(batch.ids[i]),
                boxes=own_boxes[order],
                scores=own_scores[order],
                classes=own_classes[order],
                label_boxes=native.numpy(),
                label_classes=label_classes[i, valid[i]].numpy(),
                label_areas=None if areas is None else areas[i, valid[i]].numpy(),
                label_crowd=None if crowd is None else crowd[i, valid[i]].numpy(),
            )
        )
    return records


def stack_records(records: Sequence[Record], name: str, empty: np.ndarray) -> np.ndarray:
    """Return an attribute of all records, one after the other; ``empty`` gives shape and type where there are none."""
    return np.concatenate([empty] + [getattr(record, name) for record in records])


def merge_records(records: list[Record], others: list[Record]) -> list[Record]:
    """Return both lists, but of the second nothing whose image is in the first (padded samplers repeat some)."""
    known = {record.id for record in records}
    return records + [record for record in others if record.id not in known]
