"""Found objects as YOLO label text: ``class x y w h [confidence]`` per line, relative to the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.predictions import DetectionResult
from utils.boxes import xyxy_to_xywh
from utils.files import atomic_write


def write_label_text(path: Path, result: DetectionResult, size: np.ndarray, with_confidence: bool) -> None:
    """Write the objects of one image.

    Args:
        path: of the text file; without objects it is written empty.
        result: boxes in native pixels.
        size: native width and height in pixels.
        with_confidence: add the confidence as the last column.
    """
    boxes = xyxy_to_xywh(result.boxes.double().numpy()) / np.tile(size, 2)
    columns = [result.classes.numpy()[:, None].astype(np.float64), boxes]
    if with_confidence:
        columns.append(result.scores.double().numpy()[:, None])
    rows = np.concatenate(columns, 1)
    text = "".join(f"{int(row[0])} {' '.join(f'{value:.6g}' for value in row[1:])}\n" for row in rows)
    atomic_write(path, text.encode())
