"""What heads share that answer with a set of objects: labels, probabilities of classes, and boxes in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from models.category_labels import count_labels
from models.heads.base import Head
from models.set_outputs import SetOutputs, extents
from utils.boxes import xywh_to_xyxy
from utils.precision import full_precision


class SetHead(Head):
    """Base of heads whose queries each answer for one object or for none, see ``SetOutputs``.

    Args:
        num_classes: number of classes.
        category_ids: for weights that know other labels than 0, 1, 2 ...: the label of every class, ascending.

    Attributes:
        category_ids: as given.
        labels: how many labels the class layers have.

    Raises:
        ValueError: see ``count_labels``.
    """

    task = "detect"
    targets = ("boxes", "classes")
    evaluator = "boxes"
    test_confidence = 0.0

    def __init__(self, num_classes: int, category_ids: list[int] | None) -> None:
        super().__init__()
        self.labels = count_labels(num_classes, category_ids)
        self.num_classes = num_classes
        self.category_ids = None if category_ids is None else list(category_ids)
        index = None if category_ids is None else torch.tensor(self.category_ids, dtype=torch.int64)
        self.register_buffer("label_of_class", index, persistent=False)

    def of_classes(self, values: Tensor) -> Tensor:
        """Return (B, Q, C), what is said of every class, for what is said of every label (B, Q, L or more)."""
        if self.label_of_class is None:
            return values[..., : self.num_classes]
        return values.index_select(-1, self.label_of_class)


def boxes_in_pixels(raw: SetOutputs, image_size: tuple[int, int]) -> Tensor:
    """Return (B, Q, 4) x1 y1 x2 y2 in pixels of the network input, unclipped.

    Args:
        raw: what a head said.
        image_size: height and width of the input.
    """
    height, width = extents(raw.sizes, image_size, raw.boxes.device)
    x1, y1, x2, y2 = xywh_to_xyxy(full_precision(raw.boxes)).unbind(-1)
    return torch.stack((x1 * width, y1 * height, x2 * width, y2 * height), -1)
