"""YOLO label files: one text row per object, normalised to the image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.label_bytes import read_label_text
from utils.errors import DataError
from utils.files import atomic_write

_SHOWN = 40

MOST_BYTES = 10_000_000
"""Of the labels of one picture: a hundred thousand boxes."""

TOLERANCE = 1e-3
"""How far outside 0..1 a coordinate may lie (rounding of other tools); it is clipped."""


@dataclass(frozen=True)
class Labels:
    """The objects of one image.

    Attributes:
        classes: (n,) int64.
        boxes: (n, 4) float32, x1 y1 x2 y2 in 0..1 of the image.
        keypoints: (n, K, 3) float32, x y in 0..1 and visibility 0, 1 or 2.
        duplicates: rows left out because an equal one came before.
        degenerate: rows left out because their box has no area.
    """

    classes: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    duplicates: int = 0
    degenerate: int = 0

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Rows:
    """Every row of a label file, in its order.

    Attributes:
        classes: (n,) int64.
        boxes: (n, 4) float64, x1 y1 x2 y2 as shares of the image, which they may reach over by half their size.
        keypoints: (n, K, 3) float64, x y in 0..1 and visibility 0, 1 or 2.
        lines: (n,) int64, the line of each row, counted from 1.
        points: (p, 2) float64, x y in 0..1: the polygons of all rows, one after the other.
        counts: (n,) int64, how many of these points each row has; 0 where it has a box.
    """

    classes: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    lines: np.ndarray
    points: np.ndarray
    counts: np.ndarray


def label_path(image: str | Path, folder: str = "labels") -> Path:
    """Return where the labels of an image lie: the last folder ``images`` becomes ``folder``, the suffix ``.txt``.

    An image that is in no folder ``images`` has its labels beside it.

    Example:
        >>> label_path("set/images/train/a.jpg").as_posix()
        'set/labels/train/a.txt'
    """
    return sibling_path(image, folder).with_suffix(".txt")


def label_files(images: Iterable[str], folder: str = "labels") -> list[str]:
    """Return what ``label_path`` says of each image, as texts: of a million images they take a twentieth as long."""
    places: dict[str, str] = {}
    files = []
    for image in images:
        head, name = os.path.split(image)
        if head not in places:
            place = str(sibling_path(os.path.join(head, "x"), folder).parent)
            places[head] = "" if place == "." else os.path.join(place, "")
        files.append(f"{places[head]}{os.path.splitext(name)[0]}.txt")
    return files


def sibling_path(image: str | Path, folder: str) -> Path:
    """Return the image's path with its last folder ``images`` replaced by ``folder``, or unchanged without one."""
    path = Path(image)
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = folder
            return Path(*parts)
    return path


def read_labels(path: str | Path, num_classes: int, num_keypoints: int = 0) -> Labels:
    """Read and check a label file.

    A row is ``class x y w h``, or ``class`` and the x y of at least three polygon points (the box is their extent), or,
    with ``num_keypoints`` = K, ``class x y w h`` and K times ``x y v``. Lengths are fractions of the image's sides.

    Args:
        path: of the file.
        num_classes: valid classes are 0 .. num_classes - 1.
        num_keypoints: K, 0 for boxes and polygons.

    Returns:
        Labels without duplicates and without boxes that have no area, both counted; boxes are clipped to the image.

    Raises:
        DataError: the file cannot be read, is no text, or a row is malformed; the message names file and line.
    """
    return parse_labels(read_text(path), num_classes, num_keypoints, str(path))


def read_text(path: str | Path) -> str:
    """Return the text of a label file.

    Raises:
        DataError: the file cannot be read, is larger than 10 MB or no text.
    """
    return read_label_text(Path(path), MOST_BYTES, "write one row `class x y w h` per object")


def parse_labels(text: str, num_classes: int, num_keypoints: int = 0, where: str = "labels") -> Labels:
    """Check and convert the text of a label file; ``where`` names it in errors. See ``read_labels``."""
    rows = parse_rows(text, num_classes, num_keypoints, where)
    return usable_rows(rows.classes, rows.boxes, rows.keypoints)[0]


def parse_rows(text: str, num_classes: int, num_keypoints: int = 0, where: str = "labels") -> Rows:
    """Check the text of a label file and return all of its rows; the rest is as in ``read_labels``."""
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        none = np.zeros((0,), np.int64)
        return Rows(none, np.zeros((0, 4)), np.zeros((0, num_keypoints, 3)), none, np.zeros((0, 2)), none)
    lines = np.array([number for number, _ in rows])
    widths = np.array([len(tokens) for _, tokens in rows])
    _check_widths(lines, widths, num_keypoints, where)
    values = _to_numbers(rows, where)
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    classes = values[starts]
    coordinates = np.delete(values, starts)
    _check_classes(classes, lines, num_classes, where)
    if num_keypoints:
        table = coordinates.reshape(len(rows), -1)
        keypoints = table[:, 4:].reshape(len(rows), num_keypoints, 3)
        _check_visibility(keypoints[..., 2], lines, where)
        keypoints[..., :2] = _checked_fractions(keypoints[..., :2], np.repeat(lines, 2 * num_keypoints), where)
        boxes = _centre_to_corners(_checked_fractions(table[:, :4], np.repeat(lines, 4), where))
        counts, points = np.zeros(len(rows), np.int64), np.zeros((0, 2))
    else:
        keypoints = np.zeros((len(rows), 0, 3))
        coordinates = _checked_fractions(coordinates, np.repeat(lines, widths - 1), where)
        is_box = widths == 5
        boxes = _extents(coordinates, starts - np.arange(len(rows)), is_box)
        counts = np.where(is_box, 0, (widths - 1) // 2)
        points = coordinates[np.repeat(~is_box, widths - 1)].reshape(-1, 2)
    return Rows(classes.astype(np.int64), boxes, keypoints, lines, points, counts)


def write_labels(path: str | Path, classes: np.ndarray, boxes: np.ndarray) -> None:
    """Write a label file of boxes; no object gives an empty file, which stands for a background image.

    Args:
        path: of the file; its folder must exist.
        classes: (n,) integers.
        boxes: (n, 4), x1 y1 x2 y2 in 0..1 of the image.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centres = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
    rows = [f"{int(k)} {x:.8f} {y:.8f} {w:.8f} {h:.8f}\n" for k, (x, y, w, h) in zip(classes, centres, strict=True)]
    atomic_write(Path(path), "".join(rows).encode())


def _check_widths(lines: np.ndarray, widths: np.ndarray, num_keypoints: int, where: str) -> None:
    if num_keypoints:
        wrong = widths != 5 + 3 * num_keypoints
        wanted = f"{5 + 3 * num_keypoints} (`class x y w h` and {num_keypoints} times `x y v`)"
    else:
        wrong = (widths != 5) & ((widths < 7) | (widths % 2 == 0))
        wanted = "5 (`class x y w h`), or `class` and the x y of at least 3 polygon points"
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(f"{where}:{lines[i]}: the row has {widths[i]} columns; write {wanted}")


def _to_numbers(rows: list[tuple[int, list[str]]], where: str) -> np.ndarray:
    """Return all values of all rows, one after the other, float64."""
    try:
        # As texts in an array, all of them would take as much memory as the longest.
        values = np.fromiter((float(token) for _, tokens in rows for token in tokens), np.float64)
    except ValueError:
        number, token = next((n, token) for n, tokens in rows for token in tokens if not _is_number(token))
        raise DataError(
            f"{where}:{number}: {token[:_SHOWN]!r} is not a number; write numbers separated by spaces"
        ) from None
    if not np.isfinite(values).all():
        line_of_value = np.repeat([number for number, _ in rows], [len(tokens) for _, tokens in rows])
        i = int(np.argmin(np.isfinite(values)))
        raise DataError(f"{where}:{line_of_value[i]}: the row holds {values[i]}; write finite numbers or drop the row")
    return values


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _check_classes(classes: np.ndarray, lines: np.ndarray, num_classes: int, where: str) -> None:
    fractional = classes != np.floor(classes)
    if fractional.any():
        i = int(np.argmax(fractional))
        raise DataError(f"{where}:{lines[i]}: class {classes[i]:g} is not a whole number; begin the row with an index")
    outside = (classes < 0) | (classes >= num_classes)
    if outside.any():
        i = int(np.argmax(outside))
        raise DataError(
            f"{where}:{lines[i]}: class {classes[i]:.0f} is out of range, the data YAML names {num_classes} classes "
            f"(0..{num_classes - 1}); mend the row or add the missing names"
        )


def _check_visibility(visibility: np.ndarray, lines: np.ndarray, where: str) -> None:
    wrong = ~np.isin(visibility, (0, 1, 2)).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{where}:{lines[int(np.argmax(wrong))]}: a keypoint's visibility is not 0, 1 or 2; mend the row"
        )


def _checked_fractions(values: np.ndarray, lines: np.ndarray, where: str) -> np.ndarray:
    """Return the values clipped to 0..1; ``lines`` holds the line of each value in flat order."""
    outside = (values < -TOLERANCE) | (values > 1 + TOLERANCE)
    if outside.any():
        i = int(np.argmax(outside))
        raise DataError(
            f"{where}:{lines[i]}: coordinate {values.flat[i]:g} is outside 0..1; divide x and w by the image's width, "
            "y and h by its height"
        )
    return np.clip(values, 0.0, 1.0)


def _centre_to_corners(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) x y w h -> (n, 4) x1 y1 x2 y2."""
    half = boxes[:, 2:] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _extents(coordinates: np.ndarray, starts: np.ndarray, is_box: np.ndarray) -> np.ndarray:
    """Boxes x1 y1 x2 y2 of rows that lie one after the other, each an even number of values from ``starts`` on."""
    xs, ys, first = coordinates[0::2], coordinates[1::2], starts // 2
    corners = [np.minimum.reduceat(xs, first), np.minimum.reduceat(ys, first)]
    corners += [np.maximum.reduceat(xs, first), np.maximum.reduceat(ys, first)]
    boxes = np.stack(corners, axis=1)
    if is_box.any():
        boxes[is_box] = _centre_to_corners(coordinates[starts[is_box][:, None] + np.arange(4)])
    return boxes


def usable_rows(classes: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray) -> tuple[Labels, np.ndarray]:
    """Clip boxes to the image, leave out what has no area and what repeats, and count both.

    Args:
        classes: (n,) int64.
        boxes: (n, 4) float64, x1 y1 x2 y2 as shares of the image.
        keypoints: (n, K, 3) float64, x y in 0..1 and visibility.

    Returns:
        The labels, and (m,) int64, the rows that they are from.
    """
    boxes = np.clip(boxes, 0.0, 1.0)
    has_area = (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
    chosen = np.flatnonzero(has_area)
    table = np.hstack([classes[:, None], boxes, keypoints.reshape(len(boxes), keypoints.shape[1] * 3)])[chosen]
    keep = np.sort(np.unique(table, axis=0, return_index=True)[1]) if len(table) > 1 else np.arange(len(table))
    rows = chosen[keep]
    labels = Labels(
        classes=classes[rows],
        boxes=boxes[rows].astype(np.float32),
        keypoints=keypoints[rows].astype(np.float32),
        duplicates=len(chosen) - len(rows),
        degenerate=len(boxes) - len(chosen),
    )
    return labels, rows
