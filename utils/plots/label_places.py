"""Where the labels of boxes go, so that as many as possible can be read."""

from __future__ import annotations

import numpy as np

_ROWS = 3
_ON_LABEL, _ON_OBJECT, _LATER = 12.0, 0.4, 0.04
"""What it costs to cover a label or an object wholly, and to stand one place further down the list."""
_TOO_MUCH = 0.8
"""A label whose best place near its box costs more than this is sent farther away."""
_FULL = 0.5
"""Share of the picture from which on more labels find no free place far away either."""
_FAR_ROWS = tuple(row for row in range(-12, 13) if row)
_FAR_COLUMNS = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""Places far from a box: so many heights of a label above or below it, so many widths to its sides."""


def place_labels(boxes: np.ndarray, sizes: np.ndarray, picture: tuple[int, int], line_width: int) -> np.ndarray:
    """Choose a place for every label: over its box where that is free, else in it, below it or beside it.

    Labels are placed in the order of the boxes, the most certain first, each where it hides least of those before. In
    a crowd that leaves no such place a label may stand apart from its box; see ``leaders``. Where no place is free at
    all, labels lie on one another; whoever draws them lets the first lie on top.

    Args:
        boxes: (k, 4) whole pixels x1 y1 x2 y2.
        sizes: (k, 2) width and height of every label in pixels.
        picture: its (height, width); a label that is larger begins at its upper left corner.
        line_width: of the boxes, pixels.

    Returns:
        (k, 2) whole pixels x y of the upper left corners.
    """
    choices = _choices(boxes, sizes, picture, line_width)
    order = _LATER * np.arange(choices.shape[1])
    crowd = _Crowd(boxes, sizes)
    has_room = sizes.prod(1).cumsum() <= _FULL * picture[0] * picture[1]
    result = np.zeros((len(boxes), 2), np.int64)
    for i in range(len(boxes)):
        costs = order + crowd.costs(i, choices[i])
        best = int(costs.argmin())
        result[i] = choices[i, best]
        if has_room[i] and costs[best] > _TOO_MUCH:
            far, distances = _far_choices(boxes[i], sizes[i], picture)
            far_costs = order[-1] + _LATER * distances + crowd.costs(i, far)
            if far_costs.min() < costs[best]:
                result[i] = far[int(far_costs.argmin())]
        crowd.place(i, result[i])
    return result


def leaders(boxes: np.ndarray, places: np.ndarray, sizes: np.ndarray, line_width: int) -> np.ndarray:
    """Return lines from the labels that stand apart from their boxes to these.

    Args:
        boxes: (k, 4) whole pixels x1 y1 x2 y2.
        places: (k, 2) from ``place_labels``.
        sizes: (k, 2) width and height of every label in pixels.
        line_width: of the boxes, pixels.

    Returns:
        (k, 2, 2) whole pixels x y of two ends; equal ends where the label is at its box or in it.
    """
    low, high = places, places + sizes
    # Of two intervals, the points that are nearest to one another; where they overlap, the middle of what they share.
    begins, ends = np.maximum(low, boxes[:, :2]), np.minimum(high, boxes[:, 2:])
    middle = (begins + ends) // 2
    apart = begins > ends
    at_label = np.where(apart, np.where(low > boxes[:, :2], low, high), middle)
    at_box = np.where(apart, np.where(low > boxes[:, :2], boxes[:, 2:], boxes[:, :2]), middle)
    is_near = (np.abs(at_label - at_box) <= line_width + 1).all(1)
    at_label[is_near] = at_box[is_near]
    return np.stack((at_label, at_box), 1)


class _Crowd:
    """The objects of a picture and the labels that have their places, which further labels should not hide.

    Args:
        boxes: (k, 4) of all objects.
        sizes: (k, 2) of all labels.
    """

    def __init__(self, boxes: np.ndarray, sizes: np.ndarray) -> None:
        self._objects, self._sizes = boxes.astype(np.float32), sizes
        self._object_areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1)
        self._labels = np.zeros((len(boxes), 4), np.float32)

    def costs(self, i: int, choices: np.ndarray) -> np.ndarray:
        """Return (c,) what the label of object ``i`` hides at (c, 2) places."""
        corners = np.concatenate((choices, choices + self._sizes[i]), 1).astype(np.float32)
        reach = np.concatenate((corners[:, :2].min(0), corners[:, 2:].max(0)))
        labels = self._labels[:i][_meets(reach, self._labels[:i])]
        near = _meets(reach, self._objects)
        on_labels = _overlaps(corners, labels).sum(1) / max(int(self._sizes[i].prod()), 1)
        on_objects = (_overlaps(corners, self._objects[near]) / self._object_areas[near]).sum(1)
        return _ON_LABEL * on_labels + _ON_OBJECT * on_objects

    def place(self, i: int, place: np.ndarray) -> None:
        """Give the label of object ``i``, the next one, its place."""
        self._labels[i] = (*place, *(place + self._sizes[i]))


def _far_choices(box: np.ndarray, size: np.ndarray, picture: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (c, 2) upper left corners away from a box, and (c,) how many heights of a label away from it they are."""
    rows, columns = (grid.ravel() for grid in np.meshgrid(_FAR_ROWS, _FAR_COLUMNS, indexing="ij"))
    width, height = size.tolist()
    x = (box[0] + box[2] - width) / 2 + columns * width
    y = np.where(rows < 0, box[1] + rows * height, box[3] + (rows - 1) * height)
    choices = np.stack((x, y), 1).round().astype(np.int64)
    choices = choices.clip(0, np.maximum(np.array(picture[::-1]) - size, 0))
    middles = choices + size / 2
    gaps = np.maximum(np.maximum(box[:2] - middles, middles - box[2:]), 0)
    return choices, np.hypot(*gaps.T) / max(height, 1)


def _choices(boxes: np.ndarray, sizes: np.ndarray, picture: tuple[int, int], line_width: int) -> np.ndarray:
    """Return (k, c, 2) upper left corners that a label may have, the best first; all are inside the picture."""
    edge = line_width // 2
    left, top, right, bottom = (boxes + np.array((-edge, -edge, edge + 1, edge + 1))).T
    width, height = sizes.T
    above, below = top - height, bottom
    low, far = bottom - height, right - width
    places = [
        (left, above),
        (left, top),
        (far, above),
        (far, top),
        (left, below),
        (left, low),
        (far, below),
        (far, low),
        (right, top),
        (left - width, top),
    ]
    for row in range(1, _ROWS):
        places += [(left, above - row * height), (left, below + row * height)]
    choices = np.stack([np.stack(place, 1) for place in places], 1)
    limit = np.maximum(np.array(picture[::-1]) - sizes, 0)[:, None]
    return choices.clip(0, limit)


def _meets(area: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of the (n, 4) rectangles share pixels with one (4,)."""
    x1, y1, x2, y2 = others.T
    return (x1 < area[2]) & (x2 > area[0]) & (y1 < area[3]) & (y2 > area[1])


def _overlaps(corners: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the (c, n) areas that rectangles (c, 4) and (n, 4) share."""
    x1, y1, x2, y2 = (side[:, None] for side in corners.T)
    other_x1, other_y1, other_x2, other_y2 = others.T
    width = np.minimum(x2, other_x2) - np.maximum(x1, other_x1)
    height = np.minimum(y2, other_y2) - np.maximum(y1, other_y1)
    return np.maximum(width, 0) * np.maximum(height, 0)
