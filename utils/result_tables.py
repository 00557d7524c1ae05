"""Results in the forms that other programs read: data frames, supervision's detections, plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.optional_packages import import_optional
from utils.plots.drawing import label_texts

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

CORNERS = ("xmin", "ymin", "xmax", "ymax")
CENTRES = ("xcenter", "ycenter", "width", "height")


@dataclass(frozen=True)
class PandasTables:
    """A data frame per picture in each of YOLOv5's four forms of boxes, see ``models.results.Results``.

    Attributes:
        xyxy: corners in pixels.
        xywh: centres and sizes in pixels.
        xyxyn: corners as shares of the picture.
        xywhn: centres and sizes as shares of the picture.
        keypoints: in pixels, see ``keypoint_frame``; an empty list if the model has no head for poses.
    """

    xyxy: list[DataFrame]
    xywh: list[DataFrame]
    xyxyn: list[DataFrame]
    xywhn: list[DataFrame]
    keypoints: list[DataFrame] = field(default_factory=list)


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


def keypoint_frame(result: PoseResult, names: Sequence[str]) -> DataFrame:
    """Return the keypoints of all objects as a data frame, a row for each.

    Its columns are ``object`` (row of the object in the tables of boxes), ``class``, ``name``, ``keypoint`` (its name),
    ``x`` and ``y`` in pixels, and ``score``.

    Args:
        result: of one picture.
        names: of the classes.

    Raises:
        UsageError: pandas is not installed.
    """
    pandas = import_optional("pandas", "pandas()")
    count, points = len(result.scores), len(result.spec)
    classes = result.classes.numpy()
    values = result.keypoints.reshape(count * points, 3).numpy()
    return pandas.DataFrame(
        {
            "object": np.repeat(np.arange(count), points),
            "class": np.repeat(classes, points),
            "name": np.repeat(np.array(label_texts(names, classes), dtype=object), points),
            "keypoint": np.tile(np.array(result.spec.names, dtype=object), count),
            "x": values[:, 0],
            "y": values[:, 1],
            "score": values[:, 2],
        }
    )


def to_detections(result: DetectionResult, names: Sequence[str]) -> Detections:
    """Return objects as ``supervision.Detections`` with the class names in ``data["class_name"]``.

    Those of a head for poses have their keypoints in ``data["keypoints"]``, (k, K, 3) x, y in pixels and score.

    Raises:
        UsageError: supervision is not installed.
    """
    supervision = import_optional("supervision", "to_supervision()")
    classes = result.classes.numpy()
    data = {"class_name": np.array(label_texts(names, classes), dtype=str)}
    if isinstance(result, PoseResult):
        data["keypoints"] = result.keypoints.numpy()
    return supervision.Detections(
        xyxy=result.boxes.numpy(),
        confidence=result.scores.numpy(),
        class_id=classes,
        data=data,
    )


def to_plain(results: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of all heads of one picture as plain values.

    Returns:
        ``objects``: head, class, name, confidence and box (x1 y1 x2 y2 in pixels) of each, of a pose also
        ``keypoints``: name, x, y in pixels and score of each; and ``areas``: head, class, name and the share of the
        picture, 0..1, of every class that covers a part of it.
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
    objects = [
        {"head": head, "class": index, "name": name, "confidence": score, "box": box}
        for index, name, score, box in columns
    ]
    if isinstance(result, PoseResult):
        for found, points in zip(objects, result.keypoints.tolist(), strict=True):
            found["keypoints"] = [
                {"name": name, "x": x, "y": y, "score": score}
                for name, (x, y, score) in zip(result.spec.names, points, strict=True)
            ]
    return objects


def _areas(head: str, result: MaskResult, names: Sequence[str]) -> list[dict[str, Any]]:
    counts = np.bincount(result.class_map.numpy().ravel())
    present = counts.nonzero()[0]
    shares = (counts[present] / counts.sum()).tolist()
    return [
        {"head": head, "class": index, "name": name, "share": share}
        for index, name, share in zip(present.tolist(), label_texts(names, present), shares, strict=True)
    ]
