"""Tensor names of YOLO-MS, YOLOv6 and YOLOv8 in files of mmyolo, beside ours; those with MS-Blocks have own tables."""

from __future__ import annotations

from models.convert.mmengine_file import NOT_WEIGHTS
from models.convert.name_table import NameTable
from models.layers.csp import Bottleneck, C2f
from models.layers.pooling import SPPF

PROJECT = "mmyolo"
HEAD = "bbox_head.head_module"
PARTS = {
    SPPF: {"cv1": "conv1", "cv2": "conv2"},
    C2f: {"cv1": "main_conv", "cv2": "final_conv", "m": "blocks"},
    Bottleneck: {"cv1": "conv1", "cv2": "conv2"},
}
TOWERS = ("cls_convs", "reg_convs")


def _chain(row: int, prefix: str, most: int = 100) -> dict[str, str]:
    """Return the names of a row of RepVGG blocks: the first is called by a name of its own, the others by number."""
    first = {str(row): f"{prefix}.conv1", f"{row}.0": f"{prefix}.conv1"}
    return first | {f"{row}.{i}": f"{prefix}.block.{i - 1}" for i in range(1, most)}


STAGES = {
    "1": "backbone.stage1.0",
    "2": "backbone.stage1.1",
    "3": "backbone.stage2.0",
    "4": "backbone.stage2.1",
    "5": "backbone.stage3.0",
    "6": "backbone.stage3.1",
    "7": "backbone.stage4.0",
    "8": "backbone.stage4.1",
    "9": "backbone.stage4.2",
}
"""Rows of the stages: a convolution and a block in each, and the pooling behind the last block."""

YOLOMS = NameTable(
    project=PROJECT,
    family="YOLO-MS",
    rows={
        **{str(row): f"backbone.stem.{row}" for row in range(3)},
        **{str(int(row) + 2): name for row, name in STAGES.items()},
        "12": "neck.reduce_layers.2.0",
        "13": "neck.reduce_layers.2.1",
        "14": "neck.reduce_layers.1.0",
        "15": "neck.reduce_layers.0.0",
        "18": "neck.top_down_layers.0.0",
        "19": "neck.top_down_layers.0.1",
        "22": "neck.top_down_layers.1",
        "23": "neck.downsample_layers.0",
        "25": "neck.bottom_up_layers.0",
        "26": "neck.downsample_layers.1",
        "28": "neck.bottom_up_layers.1",
        **{str(29 + level): f"neck.out_layers.{level}" for level in range(3)},
    },
    head={
        **{f"{tower}.*.conv": f"{HEAD}.{tower}.{{level}}.{{0}}.conv" for tower in TOWERS},
        **{f"{tower}.*.bn.*": f"{HEAD}.{tower}.{{1}}.{{0}}.bn" for tower in TOWERS},
        "cls_preds": f"{HEAD}.rtm_cls",
        "reg_preds": f"{HEAD}.rtm_reg",
    },
    parts=PARTS,
    not_weights=NOT_WEIGHTS,
)

_V6_NECK = {
    "10": "neck.reduce_layers.2",
    "11": "neck.upsample_layers.0",
    "14": "neck.top_down_layers.0.1",
    "15": "neck.upsample_layers.1",
    "18": "neck.downsample_layers.0",
    "21": "neck.downsample_layers.1",
}
_V6_BLOCKS = {
    13: "neck.top_down_layers.0.0",
    17: "neck.top_down_layers.1",
    20: "neck.bottom_up_layers.0",
    23: "neck.bottom_up_layers.1",
}
_V6_HEAD = {part: f"{HEAD}.{part}" for part in ("stems", *TOWERS, "cls_preds", "reg_preds")}

YOLOV6 = NameTable(
    project=PROJECT,
    family="YOLOv6",
    rows={
        "0": "backbone.stem",
        **{str(2 * stage - 1): f"backbone.stage{stage}.0.0" for stage in range(1, 5)},
        **{row: name for stage in range(1, 5) for row, name in _chain(2 * stage, f"backbone.stage{stage}.0.1").items()},
        "9": "backbone.stage4.1",
        **_V6_NECK,
        **{row: name for index, prefix in _V6_BLOCKS.items() for row, name in _chain(index, prefix).items()},
    },
    head=_V6_HEAD,
    parts=PARTS,
    not_weights=NOT_WEIGHTS,
)

YOLOV6_MS = NameTable(
    project=PROJECT,
    family="YOLOv6-MS",
    rows={"0": "backbone.stem", **STAGES, **_V6_NECK, **{str(row): name for row, name in _V6_BLOCKS.items()}},
    head=_V6_HEAD,
    parts=PARTS,
    not_weights=NOT_WEIGHTS,
)

_V8_ROWS = {
    "0": "backbone.stem",
    **STAGES,
    "12": "neck.top_down_layers.0",
    "15": "neck.top_down_layers.1",
    "16": "neck.downsample_layers.0",
    "18": "neck.bottom_up_layers.0",
    "19": "neck.downsample_layers.1",
    "21": "neck.bottom_up_layers.1",
}
_V8_HEAD = {part: f"{HEAD}.{part}" for part in ("cls_preds", "reg_preds")}

YOLOV8 = NameTable(project=PROJECT, family="YOLOv8", rows=_V8_ROWS, head=_V8_HEAD, parts=PARTS, not_weights=NOT_WEIGHTS)
YOLOV8_MS = NameTable(
    project=PROJECT, family="YOLOv8-MS", rows=_V8_ROWS, head=_V8_HEAD, parts=PARTS, not_weights=NOT_WEIGHTS
)
