"""Which class was taken for which: the confusion matrix of boxes."""

from __future__ import annotations

import numpy as np

from utils.metrics.pairs import box_similarity, similar_pairs


class BoxConfusion:
    """Counts predicted against true classes of boxes.

    Attributes:
        matrix: (C + 1, C + 1) int64; row = predicted class, column = true class. The last row counts labels that no
            prediction found, the last column predictions that belong to no label.
    """

    def __init__(self, num_classes: int, confidence: float = 0.25, iou: float = 0.45) -> None:
        """Start with an empty matrix.

        Args:
            num_classes: C.
            confidence: predictions at or below it (0..1) do not count.
            iou: overlap (0..1) that a prediction and its label must exceed.
        """
        self.num_classes, self.confidence, self.iou = num_classes, confidence, iou
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        label_boxes: np.ndarray,
        label_classes: np.ndarray,
        images: np.ndarray | None = None,
        label_images: np.ndarray | None = None,
    ) -> None:
        """Count one image, or several at once; they may have no predictions, no labels, or neither.

        Args:
            boxes: (n, 4) predictions x1 y1 x2 y2.
            scores: (n,) confidence 0..1.
            classes: (n,) class indices.
            label_boxes: (m, 4) labels, same unit.
            label_classes: (m,) class indices.
            images: (n,) int64 number of each prediction's image; None where there is one image.
            label_images: (m,) likewise.
        """
        images = np.zeros(len(boxes), np.int64) if images is None else images
        label_images = np.zeros(len(label_boxes), np.int64) if label_images is None else label_images
        confident = scores > self.confidence
        boxes, classes = boxes[confident], classes[confident]
        label, prediction = self._pairs(boxes, images[confident], label_boxes, label_images)
        np.add.at(self.matrix, (classes[prediction], label_classes[label]), 1)
        missed = np.delete(label_classes, label)
        spurious = np.delete(classes, prediction)
        np.add.at(self.matrix, (np.full(len(missed), self.num_classes), missed), 1)
        np.add.at(self.matrix, (spurious, np.full(len(spurious), self.num_classes)), 1)

    def _pairs(
        self, boxes: np.ndarray, images: np.ndarray, label_boxes: np.ndarray, label_images: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of labels and predictions that belong together whatever their class, closest pairs first."""
        prediction, label, overlap = similar_pairs(images, label_images, box_similarity(boxes, label_boxes), self.iou)
        order = np.lexsort((prediction, label, -overlap))
        order = order[overlap[order] > self.iou]
        label, prediction = label[order], prediction[order]
        # First every prediction keeps its closest label, then every label its closest prediction.
        first = np.sort(np.unique(prediction, return_index=True)[1])
        label, prediction = label[first], prediction[first]
        first = np.unique(label, return_index=True)[1]
        return label[first], prediction[first]
