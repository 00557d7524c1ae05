"""YOLOv8 as the ultralytics package saves it: pickled networks, and state dicts with the names of their rows.

Its rows are those of our YAMLs, so only the head's towers have other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from models.convert.by_names import Shapes
from models.convert.mmyolo import SIZES
from models.convert.mmyolo_names import YOLOV8 as MMYOLO_YOLOV8
from models.convert.name_table import NameTable
from models.convert.records import MOST_NAME, Inert
from models.convert.shipped_sizes import SizeMarks, find_shipped
from models.spec import ModelSpec
from utils.errors import ModelError

PACKAGE = "ultralytics."
DETECTION = "ultralytics.nn.tasks.DetectionModel"
ROWS = 22
HEAD = f"model.{ROWS}"
MARK = f"{HEAD}.dfl.conv.weight"
"""The bins' numbers, as weights of a convolution; in a head of row 22, a network of this package with C2f blocks."""
YOLOV8 = NameTable(
    project="ultralytics",
    family="YOLOv8",
    rows={str(row): f"model.{row}" for row in range(ROWS)},
    head={"reg_preds": f"{HEAD}.cv2", "cls_preds": f"{HEAD}.cv3"},
    parts={},
    not_weights=re.compile(re.escape(MARK)),
)
MARKS = SizeMarks(
    stems=("model.0.conv.weight",),
    classes=f"{HEAD}.cv3.0.2.weight",
    repeated="model.2.m.",
    configs=SIZES[MMYOLO_YOLOV8.family].configs,
)


def find_model(path: object, root: Any) -> Inert | None:
    """Return the pickled network of a file, the averaged one where there is one; None when there is none.

    Raises:
        ModelError: it is one of this package, but not for boxes.
    """
    for found in (root.get("ema"), root.get("model")) if isinstance(root, dict) else (root,):
        if not isinstance(found, Inert) or not found.kind.startswith(PACKAGE):
            continue
        if found.kind != DETECTION:
            raise ModelError(
                f"{path}: holds a {found.class_name} of the ultralytics package; of its files only detection models of "
                "YOLOv8 are read here"
            )
        return found
    return None


def find_table(path: object, names: Iterable[str]) -> NameTable | None:
    """Return the table where tensors have these names; None where they are of another project.

    Args:
        path: of the file, for messages.
        names: of its tensors.
    """
    return YOLOV8 if MARK in names else None


def find_spec(path: object, shapes: Shapes, table: NameTable) -> ModelSpec:
    """Return the one of ``models/configs`` that tensors of these shapes belong to, with the classes of the file.

    Raises:
        ModelError: a tensor that tells the size is missing, or no YAML here has this size.
    """
    return find_shipped(path, shapes, table.family, MARKS)


def class_names(model: Inert | None) -> list[str]:
    """Return the class names of a pickled network, which it keeps by number; empty where some are missing."""
    names = model.state.get("names") if model is not None else None
    if not isinstance(names, dict):
        return []
    listed = [names.get(i) for i in range(len(names))]
    return listed if all(isinstance(name, str) and 0 < len(name) <= MOST_NAME for name in listed) else []
