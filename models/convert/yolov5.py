"""Whole-model checkpoints of YOLOv5 (v3 to v7) and of the multi-task YOLOv5, and plain state dicts of them.

The network is built anew from the YAML that the checkpoint holds; its tensors have our names already. What the YAML
does not say is read from the pickled modules: the activation of the convolutions, and anchors fitted to other data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

import torch

from data.formats.cityscapes import NAMES as CITYSCAPES_NAMES
from models.checkpoint import Checkpoint
from models.convert.matching import load_matching
from models.convert.module_tree import children, descendants, plain, stored_tensors
from models.convert.records import MOST_NAME, Inert, StoredTensor
from models.convert.weight_file import WeightFile
from models.graph import Graph
from models.heads.detect import Detect
from models.layers.normalisation import BATCHNORM_EPS
from models.spec import ModelSpec, parse_spec
from utils.errors import ModelError

MODEL_NAMES = ("models.yolo.Model", "models.yolo.DetectionModel", "models.yolo.SegmentationModel")
WRAPPERS = ("models.common.autoShape", "models.common.AutoShape", "models.common.DetectMultiBackend")
"""What ``torch.hub`` puts around a network; pickled by those who save what it gave them."""
DERIVED = ("anchor_grid",)
"""Buffers of v5.0 that follow from others."""
ACTIVATIONS = {
    "SiLU": "nn.SiLU()",
    "Swish": "nn.SiLU()",
    "MemoryEfficientSwish": "nn.SiLU()",
    "Hardswish": "nn.Hardswish()",
    "ReLU": "nn.ReLU()",
    "ReLU6": "nn.ReLU6()",
    "GELU": "nn.GELU()",
    "Mish": "nn.Mish()",
    "MemoryEfficientMish": "nn.Mish()",
}
DEFAULT_ACTIVATION = "nn.SiLU()"
CSP_DEFAULTS = [True, 1, 0.5]
"""Row arguments of BottleneckCSP behind its channels: shortcut, groups, expansion."""
CSP_ACTIVATION = "nn.LeakyReLU(0.1)"


def find_model(root: Any) -> Inert | None:
    """Return the pickled YOLOv5 network of a file: the averaged one where there is one; None when there is none."""
    for found in (root.get("ema"), root.get("model")) if isinstance(root, dict) else (root,):
        if isinstance(found, tuple) and found:
            found = found[0]  # between v4.0 and v5.0 the averaged network stood beside the count of its updates
        for _ in WRAPPERS:
            if isinstance(found, Inert) and found.kind in WRAPPERS:
                found = children(found).get("model")
        if isinstance(found, Inert) and found.kind in MODEL_NAMES:
            return found
    return None


def convert_model(file: WeightFile, model: Inert) -> Checkpoint:
    """Rebuild a pickled network.

    Args:
        file: where its tensors lie.
        model: the record of the network.

    Raises:
        ModelError: the checkpoint has no YAML, or its rows and its tensors do not belong together.
    """
    try:
        source = _file_name(model.state.get("yaml_file")) or f"{file.path.stem}.yaml"
        values = plain(model.state.get("yaml"))
        if not isinstance(values, dict):
            raise ModelError(
                f"{file.path}: holds a network without its YAML; name that with "
                f"python -m models.convert {file.path} OUT.safetensors --cfg MODEL.yaml"
            )
        values = _with_activations(values, model)
        stored = stored_tensors(model)
        about = {"epoch": plain(file.root.get("epoch"))} if isinstance(file.root, dict) else {}
    except ValueError as error:
        raise ModelError(f"{file.path}: is no checkpoint of YOLOv5: {error}") from None
    spec = parse_spec(values, f"{file.path} ({source})")
    return rebuild(file, spec, stored, source, model.state.get("names"), about)


def rebuild(
    file: WeightFile,
    spec: ModelSpec,
    stored: Mapping[str, StoredTensor],
    source: str,
    names: Any = None,
    about: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Return the checkpoint of a model and its stored tensors.

    Args:
        file: where the tensors lie.
        spec: the model.
        stored: its tensors by name.
        source: name of its YAML.
        names: class names of the detection head as the checkpoint has them.
        about: what else is known of the checkpoint.

    Raises:
        ModelError: a tensor is missing, too many, or of another shape; the sentence names it.
    """
    with torch.device("meta"):
        # Without memory of its own: a few words of YAML can ask for more of it than the file has tensors for.
        graph = Graph(spec)
    wanted = {name: value for name, value in stored.items() if name.rpartition(".")[2] not in DERIVED}
    state = load_matching(file, graph, source, wanted, {name: name for name in graph.state_dict()})
    graph.load_state_dict(state, assign=True)
    spec = _with_anchors(graph)
    classes = {name: _class_names(head, names) for name, head in graph.heads.items()}
    progress = {"converted": {"from": file.path.name, **(about or {})}}
    return Checkpoint(source, spec.text, classes, {"model": state}, progress)


def _file_name(written: Any) -> str:
    """Return the last part of a path of any system; nothing where it is none that a line of text can show."""
    name = PureWindowsPath(written).name if isinstance(written, str) and len(written) <= MOST_NAME else ""
    return name if name.isprintable() else ""


def _with_anchors(graph: Graph) -> ModelSpec:
    """Return the model with the anchors that its weights were trained for in its rows, in pixels."""
    spec = graph.spec
    for name, head in graph.heads.items():
        if isinstance(head, Detect):
            pixels = head.anchors * torch.tensor(head.strides, dtype=torch.float32).view(-1, 1, 1)
            if not (pixels > 0).all():
                continue  # placeholders of a YAML that gives only their number
            levels = [[round(value, 4) for value in level.flatten().tolist()] for level in pixels]
            spec = spec.with_argument(graph.head_rows[name], 1, levels)
    return spec


def _class_names(head: Any, names: Any) -> list[str]:
    """Return the class names of a head; numbers where the checkpoint has none for it."""
    if "masks" in head.targets:
        known = len(CITYSCAPES_NAMES) == head.num_classes
        return list(CITYSCAPES_NAMES) if known else [str(i) for i in range(head.num_classes)]
    if isinstance(names, dict):
        names = [names.get(i) for i in range(head.num_classes)]
    if isinstance(names, list) and len(names) == head.num_classes:
        texts = [name for name in names if isinstance(name, str) and len(name) <= MOST_NAME]
        if len(texts) == head.num_classes:
            return texts
    return [str(i) for i in range(head.num_classes)]


def _with_activations(values: dict[str, Any], model: Inert) -> dict[str, Any]:
    """Return the YAML's values with the activations that the pickled modules have.

    Raises:
        ValueError: the convolutions differ among themselves, or a normalisation is not YOLOv5's.
    """
    parts = [part for _, part in descendants(model)]
    found = {_activation(part) for part in parts if part.class_name in ("Conv", "DWConv")} - {None}
    if len(found) > 1:
        raise ValueError(f"its convolutions have different activations, {' and '.join(sorted(found))}")
    for eps in (part.state.get("eps") for part in parts if part.class_name == "BatchNorm2d"):
        if not isinstance(eps, float) or eps != BATCHNORM_EPS:
            shown = f"{eps:g}" if isinstance(eps, float) else f"a {type(eps).__name__}"
            raise ValueError(f"a BatchNorm has eps {shown}, not {BATCHNORM_EPS}")
    if found and found != {DEFAULT_ACTIVATION}:
        values = {**values, "activation": found.pop()}
    rows = children(children(model)["model"]) if "model" in children(model) else {}
    csp = {index: _activation(row) for index, row in rows.items() if row.class_name == "BottleneckCSP"}
    index = 0
    for section in ("backbone", "head"):
        if not isinstance(values.get(section), list):
            break  # parse_spec says so
        listed = []
        for row in values[section]:
            activation = csp.get(str(index))
            writable = isinstance(row, list) and len(row) > 3 and isinstance(row[3], list) and row[3]
            if activation not in (None, CSP_ACTIVATION) and writable:
                args = list(row[3])
                row = [*row[:3], [*args, *CSP_DEFAULTS[len(args) - 1 :], activation], *row[4:]]
            listed.append(row)
            index += 1
        values = {**values, section: listed}
    return values


def _activation(part: Inert) -> str | None:
    """Return the activation of a pickled block as a YAML writes it; None for none.

    Raises:
        ValueError: it is one that a YAML cannot name.
    """
    act = children(part).get("act")
    if act is None or act.class_name == "Identity":
        return None
    if act.class_name == "LeakyReLU":
        slope = act.state.get("negative_slope")
        if not isinstance(slope, float):
            raise ValueError("a LeakyReLU has no slope")
        return f"nn.LeakyReLU({slope:g})"
    if act.class_name not in ACTIVATIONS:
        raise ValueError(f"its convolutions have the activation {act.kind}, which no model YAML can name")
    return ACTIVATIONS[act.class_name]
