"""Pictures of an assignment: which places of training images answer for which objects."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from data.samples import Batch
from models.assigners.assigned_points import AssignedPoints
from utils.plots.batches import grid_of_images
from utils.plots.drawing import draw_boxes, label_texts, line_width_for
from utils.plots.palette import class_colour

UNMATCHED = "unmatched"
_UNMATCHED_COLOUR = 0
"""Index of red in the palette; objects have the others."""


def draw_assignment(batch: Batch, assigned: AssignedPoints, names: Sequence[str], most: int = 16) -> np.ndarray:
    """Draw the first images of a batch in a grid, every object in a colour of its own, and its positive locations.

    A dot in the colour of an object's box is a location that answers for it. Boxes of objects for which no location
    answers are red and say ``unmatched``.

    Args:
        batch: for training, on any device.
        assigned: which locations are positive, on any device.
        names: class names.
        most: images in the grid.

    Returns:
        (H, W, 3) uint8 RGB, at most 1920 pixels a side.
    """
    image_n, object_n = assigned.image.cpu().numpy(), assigned.object.cpu().numpy()
    places_n2 = assigned.places.float().cpu().numpy()

    def draw(i: int, image: np.ndarray, scale: float) -> np.ndarray:
        own = image_n == i
        rows = np.flatnonzero(batch.valid[i].cpu().numpy())
        boxes = batch.boxes[i].float().cpu().numpy()[rows] * scale
        matched = np.isin(rows, object_n[own])
        colours = np.where(matched, _colour_of(rows), _UNMATCHED_COLOUR)
        texts = label_texts(names, batch.classes[i].cpu().numpy()[rows])
        texts = [text if found else f"{text} {UNMATCHED}" for text, found in zip(texts, matched.tolist(), strict=True)]
        image = draw_boxes(image, boxes, colours, texts)
        return _draw_dots(image, places_n2[own] * scale, _colour_of(object_n[own]))

    return grid_of_images(batch, draw, most)


def _colour_of(objects: np.ndarray) -> np.ndarray:
    """Return palette indices of objects, never that of objects without a match."""
    return objects % 255 + 1


def _draw_dots(image: np.ndarray, places: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Draw filled dots with a white rim that keeps them apart from a picture of the same colour."""
    canvas = np.ascontiguousarray(image).copy()
    radius = line_width_for(image) + 1
    for (x, y), colour in zip(places.round().astype(np.int64).tolist(), colours.tolist(), strict=True):
        cv2.circle(canvas, (x, y), radius + 1, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), radius, class_colour(colour), cv2.FILLED, cv2.LINE_AA)
    return canvas
