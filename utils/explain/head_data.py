"""Labelled pictures of the head that is explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.config import load_data_config
from data.dataset import TaskDataset
from models.graph import Graph
from utils.errors import DataError


def open_head_data(graph: Graph, head: str, path: str, split: str) -> TaskDataset:
    """Open one split of the data of a head.

    Raises:
        DataError: the file or the split is missing or wrong, has no data for the head, or other classes than it.
    """
    data = load_data_config(path, splits=(split,)).for_head(head, graph.heads[head].task)
    if len(data.names) != graph.heads[head].num_classes:
        raise DataError(
            f"{data.source}: '{data.key}' has {len(data.names)} class names, but the model's head '{head}' tells "
            f"{graph.heads[head].num_classes} classes apart; give the data it was trained for"
        )
    return TaskDataset(data, split)


@dataclass(frozen=True)
class Labels:
    """Labelled objects of one picture.

    Attributes:
        boxes: (n, 4) float32 x1 y1 x2 y2 in native pixels.
        classes: (n,) int64.
    """

    boxes: np.ndarray
    classes: np.ndarray


class LabelledPictures:
    """Finds the labels of a picture by its path.

    Args:
        dataset: the split that holds it.
    """

    def __init__(self, dataset: TaskDataset) -> None:
        self._dataset = dataset
        self._index = {Path(path).resolve(): i for i, path in enumerate(dataset.ids)}

    def find(self, path: Path) -> Labels | None:
        """Return the labels of a picture, or None if the split does not have it."""
        index = self._index.get(path.resolve())
        if index is None:
            return None
        own = slice(int(self._dataset.offsets[index]), int(self._dataset.offsets[index + 1]))
        height, width = self._dataset.sizes[index].tolist()
        boxes = self._dataset.boxes[own] * np.array([width, height, width, height], np.float32)
        return Labels(boxes, self._dataset.classes[own])
