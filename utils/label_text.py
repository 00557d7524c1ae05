"""Found objects as YOLO label text, one per line, relative to the image.

A line is ``class x y w h [x y v ...] [confidence] [track]``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.predictions import DetectionResult, PoseResult
from utils.boxes import xyxy_to_xywh
from utils.files import atomic_write
from utils.plots.skeletons import LEAST_SCORE

_VISIBLE = 2


def write_label_text(
    path: Path, result: DetectionResult, size: np.ndarray, with_confidence: bool, least_score: float = LEAST_SCORE
) -> None:
    """Write the objects of one image; poses have ``x y v`` for every keypoint behind the box.

    Where objects are followed, the last column is the number of each, -1 for one that is not.

    Without confidences a file can serve as labels: v is 2 for keypoints that were found inside the image, and the
    others are ``0 0 0``. With confidences v is the keypoint's score, and x y are there for all, also beyond the image.

    Args:
        path: of the text file; without objects it is written empty.
        result: boxes in native pixels.
        size: native width and height in pixels.
        with_confidence: add the confidence behind them.
        least_score: of a keypoint that counts as found, 0..1.
    """
    boxes = xyxy_to_xywh(result.boxes.double().numpy()) / np.tile(size, 2)
    columns = [result.classes.numpy()[:, None].astype(np.float64), boxes]
    if isinstance(result, PoseResult):
        keypoints = result.keypoints.double().numpy() / np.append(size, 1)
        if not with_confidence:
            keypoints = _as_labels(keypoints, least_score)
        columns.append(keypoints.reshape(len(boxes), 3 * len(result.spec)))
    if with_confidence:
        columns.append(result.scores.double().numpy()[:, None])
    rows = np.concatenate(columns, 1)
    ends = [""] * len(rows) if result.tracks is None else [f" {track}" for track in result.tracks.tolist()]
    lines = [
        f"{int(row[0])} {' '.join(f'{value:.6g}' for value in row[1:])}{end}\n"
        for row, end in zip(rows, ends, strict=True)
    ]
    atomic_write(path, "".join(lines).encode())


def _as_labels(keypoints: np.ndarray, least_score: float) -> np.ndarray:
    """Return (k, K, 3) relative keypoints with a visibility of 2 or 0 in place of the score."""
    inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] <= 1)).all(-1)
    found = inside & (keypoints[..., 2] >= least_score)
    labels = np.where(found[..., None], keypoints, 0.0)
    labels[..., 2] = np.where(found, _VISIBLE, 0)
    return labels
