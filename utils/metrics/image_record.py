"""What an evaluator keeps of one image: predictions and labels in native pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from data.samples import Batch, Placement
from models.predictions import DetectionResult

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
    columns = {
        "boxes": torch.cat([result.boxes for result in results]).float().cpu().numpy(),
        "scores": torch.cat([result.scores for result in results]).float().cpu().numpy(),
        "classes": torch.cat([result.classes for result in results]).long().cpu().numpy(),
    }
    images = np.repeat(np.arange(len(results)), [len(result.scores) for result in results])
    order = np.lexsort((-columns["scores"], images))
    columns = {name: column[order] for name, column in columns.items()}
    valid = batch.valid.cpu().numpy()
    label_images = valid.nonzero()[0]
    labels = {
        "label_boxes": _native_boxes(batch.boxes.float().cpu().numpy()[valid], label_images, batch.placements),
        "label_classes": batch.classes.cpu().numpy()[valid],
    }
    if batch.areas is not None:
        labels["label_areas"] = batch.areas.float().cpu().numpy()[valid]
    if batch.crowd is not None:
        labels["label_crowd"] = batch.crowd.cpu().numpy()[valid]
    parts = zip(_by_image(columns, images, len(results)), _by_image(labels, label_images, len(results)), strict=True)
    return [
        ImageRecord(id=str(image), **found, **wanted) for image, (found, wanted) in zip(batch.ids, parts, strict=True)
    ]


def _native_boxes(boxes: np.ndarray, images: np.ndarray, placements: Sequence[Placement]) -> np.ndarray:
    """Do what ``scale_to_native`` does to (m, 4) boxes of several pictures; ``images`` (m,) says of which each is."""
    places = [(p.left, p.top, p.scale_x, p.scale_y, p.width, p.height) for p in placements]
    left_top, scale, high = np.split(np.array(places, np.float32).reshape(-1, 6)[images], 3, 1)
    return np.clip((boxes - np.tile(left_top, 2)) / np.tile(scale, 2), 0, np.tile(high, 2))


def _by_image(columns: Mapping[str, np.ndarray], images: np.ndarray, count: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows of each image; ``images`` (k,) is ascending."""
    edges = np.searchsorted(images, np.arange(count + 1)).tolist()
    for low, high in pairwise(edges):
        yield {name: column[low:high] for name, column in columns.items()}


def stack_records(records: Sequence[Record], name: str, empty: np.ndarray) -> np.ndarray:
    """Return an attribute of all records, one after the other; ``empty`` gives shape and type where there are none."""
    return np.concatenate([empty] + [getattr(record, name) for record in records])


def merge_records(records: list[Record], others: list[Record]) -> list[Record]:
    """Return both lists, but of the second nothing whose image is in the first (padded samplers repeat some)."""
    known = {record.id for record in records}
    return records + [record for record in others if record.id not in known]
