"""State dicts of YOLO-MS, YOLOv6 and YOLOv8 as mmyolo writes them; the tensors say which of our models it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models.convert.by_names import Shapes
from models.convert.merged_blocks import MERGED_PARTS
from models.convert.mmyolo_names import HEAD, YOLOMS, YOLOV6, YOLOV6_MS, YOLOV8, YOLOV8_MS
from models.convert.name_table import NameTable
from models.convert.shipped_sizes import SizeMarks, find_shipped
from models.spec import ModelSpec
from utils.errors import ModelError

MS_BLOCK = ".mid_convs.1."
RTMDET_MARKS = (f"{HEAD}.rtm_cls.", "bbox_head.rtm_cls.")
YOLOV6_MARK = f"{HEAD}.stems.0.conv."
YOLOV8_MARK = f"{HEAD}.cls_preds.0.2."
MS_REPEATED = "backbone.stage1.1.mid_convs.1."
V6_STEMS = ("backbone.stem.rbr_dense.conv.weight", f"backbone.stem{MERGED_PARTS[0]}")
V8_STEMS = ("backbone.stem.conv.weight",)
SIZES: Mapping[str, SizeMarks] = {
    YOLOMS.family: SizeMarks(
        stems=("backbone.stem.2.conv.weight",),
        classes=f"{HEAD}.rtm_cls.0.weight",
        repeated=MS_REPEATED,
        configs={
            (32, 1, False): "yoloms_xs",
            (32, 1, True): "yoloms_xs_se",
            (43, 1, False): "yoloms_s",
            (43, 1, True): "yoloms_s_se",
            (64, 2, False): "yoloms",
            (64, 2, True): "yoloms_se",
        },
        attention=".attention.fc.",
    ),
    YOLOV6.family: SizeMarks(
        stems=V6_STEMS,
        classes=f"{HEAD}.cls_preds.0.weight",
        repeated="backbone.stage1.0.1.block.",
        configs={(16, 1, False): "yolov6_n", (24, 1, False): "yolov6_t", (32, 1, False): "yolov6_s"},
    ),
    YOLOV6_MS.family: SizeMarks(
        stems=V6_STEMS,
        classes=f"{HEAD}.cls_preds.0.weight",
        repeated=MS_REPEATED,
        configs={(28, 1, False): "yolov6_t_ms"},
    ),
    YOLOV8.family: SizeMarks(
        stems=V8_STEMS,
        classes=f"{HEAD}.cls_preds.0.2.weight",
        repeated="backbone.stage1.1.blocks.",
        configs={
            (16, 1, False): "yolov8_n",
            (32, 1, False): "yolov8_s",
            (48, 2, False): "yolov8_m",
            (64, 3, False): "yolov8_l",
            (80, 3, False): "yolov8_x",
        },
    ),
    YOLOV8_MS.family: SizeMarks(
        stems=V8_STEMS,
        classes=f"{HEAD}.cls_preds.0.2.weight",
        repeated=MS_REPEATED,
        configs={(16, 1, False): "yolov8_n_ms"},
    ),
}


def find_table(path: object, names: Iterable[str]) -> NameTable | None:
    """Return the table of the family whose tensors have these names; None where they are of none that is known here.

    Args:
        path: of the file, for messages.
        names: of its tensors.

    Raises:
        ModelError: they are those of a relative that is not read here.
    """
    names = list(names)
    has_ms = any(MS_BLOCK in name for name in names)

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if has_ms and has(RTMDET_MARKS[0]):
        return YOLOMS
    if any(has(mark) for mark in RTMDET_MARKS):
        raise ModelError(f"{path}: its tensors are those of an RTMDet, which is not read here; YOLO-MS is")
    if has(YOLOV6_MARK):
        return YOLOV6_MS if has_ms else YOLOV6
    if has(YOLOV8_MARK):
        return YOLOV8_MS if has_ms else YOLOV8
    return None


def find_spec(path: object, shapes: Shapes, table: NameTable) -> ModelSpec:
    """Return the one of ``models/configs`` that tensors of these shapes belong to, with the classes of the file.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their published names.
        table: of the family.

    Raises:
        ModelError: a tensor that tells the size is missing, or no YAML here has this size.
    """
    return find_shipped(path, shapes, table.family, SIZES[table.family])
