"""State dicts of YOLOX and YOLOX-Pose, official and mmyolo's; which network it is follows from names and shapes."""

from __future__ import annotations

from collections.abc import Iterable

from models.convert.by_names import Shapes, outputs_of, told_of
from models.convert.name_table import NameTable
from models.convert.yolox_names import MMYOLO, OFFICIAL, OFFICIAL_DARKNET53
from models.spec import ModelSpec, load_spec, parse_spec
from utils.errors import ModelError

OFFICIAL_START = "backbone.backbone."
DARKNET_START = "backbone.backbone.stem.0."
MMYOLO_MARKS = ("bbox_head.head_module.multi_level_cls_convs.", "backbone.stem.conv.conv.")
MMDETECTION_MARK = "bbox_head.multi_level_cls_convs."
MMPOSE_MARKS = ("head.head_module.out_kpt.", "head.head_module.conv_pose.")

BASE_WIDTH = 64
"""Channels of the stem at width 1."""
BASE_REPEATS = 3
"""Blocks of the first stage at depth 1."""
MOST_BLOCKS = 100
"""Of the first stage; YOLOX-x has four."""
SHIPPED = {
    (0.25, 1, True, False): "yolox_nano",
    (0.375, 1, False, False): "yolox_tiny",
    (0.5, 1, False, False): "yolox_s",
    (0.75, 2, False, False): "yolox_m",
    (1.0, 3, False, False): "yolox_l",
    (1.25, 4, False, False): "yolox_x",
    (0.25, 1, True, True): "yolox_pose_nano",
    (0.375, 1, False, True): "yolox_pose_tiny",
    (0.5, 1, False, True): "yolox_pose_s",
    (0.75, 2, False, True): "yolox_pose_m",
    (1.0, 3, False, True): "yolox_pose_l",
}
"""Our YAML by width, blocks of the first stage, depth-wise convolutions, keypoints."""


def find_table(path: object, names: Iterable[str]) -> NameTable | None:
    """Return the table of the project that named these tensors; None where they are not YOLOX's.

    Args:
        path: of the file, for messages.
        names: of its tensors.

    Raises:
        ModelError: they are YOLOX's in a spelling that is not read here.
    """
    names = list(names)

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if has(DARKNET_START):
        return OFFICIAL_DARKNET53
    if has(OFFICIAL_START):
        return OFFICIAL
    for marks, project in ((MMPOSE_MARKS, "mmpose"), ((MMDETECTION_MARK,), "mmdetection")):
        if any(has(mark) for mark in marks):
            raise ModelError(
                f"{path}: its tensors are named as by {project}, whose YOLOX files are not read here; "
                "take the file of mmyolo or, for boxes, that of the official YOLOX"
            )
    return MMYOLO if any(has(mark) for mark in MMYOLO_MARKS) else None


def find_spec(path: object, shapes: Shapes, table: NameTable) -> ModelSpec:
    """Return the model that tensors of these shapes belong to: one of ``models/configs/yolox`` or of another size.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their published names.
        table: of the project that named them.

    Raises:
        ModelError: a tensor that tells the size is missing, or the size is none that a YAML here can have.
    """
    counts = {"nc": outputs_of(path, shapes, f"{table.head['cls_preds']}.0.weight", table.family)}
    if table is OFFICIAL_DARKNET53:
        with told_of(path):
            return load_spec("yolox_darknet53").with_values(**counts)
    first, stage = table.rows["1"], table.rows["2"]
    words = {ours: theirs for parts in table.parts.values() for ours, theirs in parts.items()}
    inner, pair = words.get("m", "m"), words.get("pconv", "pconv")
    stem = outputs_of(path, shapes, f"{table.rows['0']}.conv.conv.weight", table.family)
    inside = [name for name in shapes if name.startswith(f"{stage}.{inner}.")]
    blocks = {name.removeprefix(f"{stage}.{inner}.").split(".")[0] for name in inside}
    if not 1 <= len(blocks) <= MOST_BLOCKS:
        raise ModelError(
            f"{path}: has names of YOLOX, but {len(blocks):,} blocks in its first stage, where 1 to {MOST_BLOCKS} are "
            "known; copy or download the file again"
        )
    depthwise = any(name.startswith(f"{first}.{pair}.") for name in shapes)
    vis = f"{table.head.get('vis_preds')}.0.weight"
    if vis in shapes:
        counts["nkpt"] = outputs_of(path, shapes, vis, table.family)
    dense = depthwise and not any(f".{pair}." in name for name in inside)
    with told_of(path):
        spec = _of_size(stem, len(blocks), depthwise, vis in shapes).with_values(**counts)
        return _with_dense_blocks(spec) if dense else spec


def _of_size(stem: int, blocks: int, depthwise: bool, pose: bool) -> ModelSpec:
    """Return the YAML of a size, shipped or made from one that is."""
    width = stem / BASE_WIDTH
    name = SHIPPED.get((width, blocks, depthwise, pose))
    if name is not None:
        return load_spec(name)
    base = load_spec(f"{'yolox_pose' if pose else 'yolox'}_{'nano' if depthwise else 's'}")
    values = {**base.values, "width_multiple": width, "depth_multiple": blocks / BASE_REPEATS}
    if stem % base.scale.divisor:
        values["channel_multiple"] = 1
    return parse_spec(values, f"{'yolox_pose' if pose else 'yolox'}_w{width:g}_n{blocks}.yaml")


def _with_dense_blocks(spec: ModelSpec) -> ModelSpec:
    """Return mmyolo's own nano: its CSP blocks have plain 3x3 convolutions, only the others are depth-wise."""
    values = dict(spec.values)
    for section in ("backbone", "head"):
        values[section] = [
            [source, number, "C3" if module == "C3DW" else module, *rest]
            for source, number, module, *rest in values[section]
        ]
    return parse_spec(values, f"{spec.source.removesuffix('.yaml')}_mmyolo.yaml")
