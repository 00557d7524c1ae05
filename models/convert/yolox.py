"""State dicts of YOLOX and YOLOX-Pose, official and mmyolo's; which network it is follows from names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.convert.matching import load_matching
from models.convert.records import MOST_NAME, StoredTensor
from models.convert.torch_file import TorchFile
from models.convert.yolox_names import MMYOLO, OFFICIAL, OFFICIAL_DARKNET53, NameTable
from models.graph import Graph
from models.spec import ModelSpec, load_spec, parse_spec
from utils.errors import ModelError
from utils.yaml_text import read_yaml

Shapes = Mapping[str, tuple[int, ...]]

OFFICIAL_START = "backbone.backbone."
DARKNET_START = "backbone.backbone.stem.0."
MMYOLO_MARKS = ("bbox_head.head_module.multi_level_cls_convs.", "backbone.stem.conv.conv.")
MMDETECTION_MARK = "bbox_head.multi_level_cls_convs."
MMPOSE_MARKS = ("head.head_module.out_kpt.", "head.head_module.conv_pose.")

COCO_DATA = Path(__file__).resolve().parents[2] / "data" / "configs" / "coco128.yaml"
"""Where COCO's class names are."""
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


def convert_state(
    file: TorchFile, stored: Mapping[str, StoredTensor], table: NameTable, spec: ModelSpec | None = None
) -> Checkpoint:
    """Return the checkpoint of a stored YOLOX.

    Args:
        file: where the tensors lie.
        stored: they by their published names.
        table: of the project that named them.
        spec: the model they belong to; None finds it from the tensors.

    Raises:
        ModelError: a tensor is missing, too many, or of another shape; the sentence names it.
    """
    left_out = [name for name in stored if name in table.not_weights]
    stored = {name: tensor for name, tensor in stored.items() if name not in table.not_weights}
    if spec is None:
        spec = find_spec(file.path, {name: tensor.shape for name, tensor in stored.items()}, table)
    with _told_of(file.path), torch.device("meta"):
        # Without memory of its own: a shape in a file can ask for more of it than the file has tensors for.
        graph = Graph(spec)
    try:
        names = table.published_names(graph)
    except KeyError as error:
        raise ModelError(
            f"{file.path}: {spec.source} is not laid out as a YOLOX of {table.project}: nothing there is its row "
            f"{error.args[0]}; leave --cfg out, or name one of models/configs/yolox"
        ) from None
    state = load_matching(file, graph, spec.source, stored, names)
    graph.load_state_dict(state, assign=True)
    about: dict[str, Any] = {"from": file.path.name, "family": f"{_family(graph)} ({table.project})"}
    about |= {"sha256": file.sha256(), **({"left out": ", ".join(left_out)} if left_out else {})}
    classes = {name: _class_names(head, file.root) for name, head in graph.heads.items()}
    return Checkpoint(spec.source, spec.text, classes, {"model": state}, {"converted": about})


def find_spec(path: object, shapes: Shapes, table: NameTable) -> ModelSpec:
    """Return the model that tensors of these shapes belong to: one of ``models/configs/yolox`` or of another size.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their published names.
        table: of the project that named them.

    Raises:
        ModelError: a tensor that tells the size is missing, or the size is none that a YAML here can have.
    """
    counts = {"nc": _outputs(path, shapes, f"{table.head['cls_preds']}.0.weight")}
    if table is OFFICIAL_DARKNET53:
        with _told_of(path):
            return load_spec("yolox_darknet53").with_values(**counts)
    first, stage = table.rows["1"], table.rows["2"]
    words = {ours: theirs for parts in table.parts.values() for ours, theirs in parts.items()}
    inner, pair = words.get("m", "m"), words.get("pconv", "pconv")
    stem = _outputs(path, shapes, f"{table.rows['0']}.conv.conv.weight")
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
        counts["nkpt"] = _outputs(path, shapes, vis)
    dense = depthwise and not any(f".{pair}." in name for name in inside)
    with _told_of(path):
        spec = _of_size(stem, len(blocks), depthwise, vis in shapes).with_values(**counts)
        return _with_dense_blocks(spec) if dense else spec


@contextmanager
def _told_of(path: object) -> Iterator[None]:
    """Let a fault of a YAML that was made for a file name the file, too."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


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


def _outputs(path: object, shapes: Shapes, name: str) -> int:
    """Return the output channels of a convolution.

    Raises:
        ModelError: it is missing, or no convolution.
    """
    shape = shapes.get(name)
    if shape is None or len(shape) != 4 or shape[0] < 1:
        what = "is missing" if shape is None else "is no convolution's"
        raise ModelError(
            f"{path}: has names of YOLOX, but {name}, which tells its size, {what}; copy or download the file again"
        )
    return shape[0]


def _family(graph: Graph) -> str:
    return "YOLOX-Pose" if any(head.task == "pose" for head in graph.heads.values()) else "YOLOX"


def _class_names(head: Any, root: Any) -> list[str]:
    """Return the class names of a head: those in the file, else COCO's where their number is COCO's, else numbers."""
    count = head.num_classes
    meta = root.get("meta") if isinstance(root, dict) else None
    data = meta.get("dataset_meta") if isinstance(meta, dict) else None
    for key in ("classes", "CLASSES"):
        written = data.get(key) if isinstance(data, dict) else None
        found = [written] if isinstance(written, str) else written if isinstance(written, list | tuple) else []
        texts = [text for text in found if isinstance(text, str) and 0 < len(text) <= MOST_NAME]
        if len(texts) == len(found) == count:
            return texts
    if head.task == "pose" and count == 1:
        return ["person"]
    coco = read_yaml(COCO_DATA, ModelError)["detect"]["names"]
    return list(coco) if count == len(coco) else [str(i) for i in range(count)]
