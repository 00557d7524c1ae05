"""Results in the forms that other programs read: data frames, supervision's detections, plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from models.predictions import DetectionResult, MaskResult
from utils.optional_packages import import_optional
from utils.plots.drawing import label_texts

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

CORNERS = ("xmin", "ymin", "xmax", "ymax")
CENTRES = ("xcenter", "ycenter", "width", "height")


@dataclass(frozen=True)
class PandasTables:
    """A data frame per picture in each of YOLOv5's four forms of boxes, see ``models.results.Results``."""

    xyxy: list[DataFrame]
    xywh: list[DataFrame]
    xyxyn: list[DataFrame]
    xywhn: list[DataFrame]


def to_frame(rows: Tensor, names: Sequence[str], columns: Sequence[str] = CORNERS) -> DataFrame:
    """Return objects as a data frame with the columns of the box, ``confidence``, ``class`` and ``name``.

    Args:
        rows: (k, 6) box, confidence, class.
        names: of the classes.
        columns: names of the four numbers of a box.

    Raises:
        UsageError: pandas is not installed.
    """
    pandas = import_optional("pandas", "to_pandas()")
    values = rows.numpy()
    classes = values[:, 5].astype(np.int64)
    frame = pandas.DataFrame(values[:, :5], columns=[*columns, "confidence"])
    # A list of no texts would become a column of floats.
    return frame.assign(**{"class": classes, "name": np.array(label_texts(names, classes), dtype=object)})


def to_detections(result: DetectionResult, names: Sequence[str]) -> Detections:
    """Return objects as ``supervision.Detections`` with the class names in ``data["class_name"]``.

    Raises:
        UsageError: supervision is not installed.
    """
    supervision = import_optional("supervision", "to_supervision()")
    classes = result.classes.numpy()
    return supervision.Detections(
        xyxy=result.boxes.numpy(),
        confidence=result.scores.numpy(),
        class_id=classes,
        data={"class_name": np.array(label_texts(names, classes), dtype=str)},
    )


def to_plain(results: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of all heads of one picture as plain values.

    Returns:
        ``objects``: head, class, name, confidence and box (x1 y1 x2 y2 in pixels) of each, and ``areas``: head, class,
        name and the share of the picture, 0..1, of every class that covers a part of it.
    """
    found: dict[str, list[dict[str, Any]]] = {"objects": [], "areas": []}
    for head, result in results.items():
        if isinstance(result, DetectionResult):
            found["objects"] += _objects(head, result, names[head])
        elif isinstance(result, MaskResult):
            found["areas"] += _areas(head, result, names[head])
    return found


def _objects(head: str, result: DetectionResult, names: Sequence[str]) -> list[dict[str, Any]]:
    classes = result.classes.numpy()
    columns = zip(
        classes.tolist(), label_texts(names, classes), result.scores.tolist(), result.boxes.tolist(), strict=True
    )
    return [
        {"head": head, "class": index, "name": name, "confidence": score, "box": box}
        for index, name, score, box in columns
    ]


def _areas(head: str, result: MaskResult, names: Sequence[str]) -> list[dict[str, Any]]:
    counts = np.bincount(result.class_map.numpy().ravel())
    present = counts.nonzero()[0]
    shares = (counts[present] / counts.sum()).tolist()
    return [
        {"head": head, "class": index, "name": name, "share": share}
        for index, name, share in zip(present.tolist(), label_texts(names, present), shares, strict=True)
    ]
