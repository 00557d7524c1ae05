"""What a file tells about itself, so that it can be used without the program that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from models.graph import Graph
from models.heads.base import Head
from utils.version import program_version

if TYPE_CHECKING:
    from utils.export.difference import Difference
    from utils.export.exported_graph import ExportedGraph

INPUT_NAME = "images"
OpenAxes = tuple[str, ...]
"""Which sides of the input may have other lengths than those that the file was written for."""
NONE: OpenAxes = ()
BATCH: OpenAxes = ("batch",)
ALL: OpenAxes = ("batch", "height", "width")
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
"""Formats of a file's weights; there is ``int8`` too."""
UNCHECKED = "false"
"""What a file says of its check that nobody has made, as JSON."""
RESIZING = {
    "center": "letterbox: aspect kept, centred",
    "top-left": "letterbox: aspect kept, sides cut to whole pixels, at the top left",
}
"""What happens to a picture, in words, by the anchor of the letterbox."""
FILLING = "stretched to exactly this height and width, nothing padded; choose them near the picture's aspect"
"""The same where pictures fill their inputs."""


def describe(
    module: ExportedGraph,
    outputs: Mapping[str, list[str]],
    shape: tuple[int, int, int],
    open_axes: OpenAxes,
    opset: int | None = None,
) -> dict[str, str]:
    """Return the metadata of an exported graph; every value that is not plain text is JSON.

    Args:
        module: the model with the heads that the file has.
        outputs: output names per exported head.
        shape: batch size, height and width of the input; where they are open the ones it was checked at.
        open_axes: which of them are open.
        opset: version of the operator set, for ONNX.

    Returns:
        Texts by key. ``checked`` says that nobody has, until the check has passed; ``precision`` tells the format of
        the module's weights, until something else has been made of them.
    """
    graph, distinct = module.model, module.distinct_heads()
    heads = {name: _describe_head(graph.heads[name], names, name in distinct) for name, names in outputs.items()}
    keypoints = {name: graph.keypoints[name].to_plain() for name in outputs if name in graph.keypoints}
    return {
        **({"keypoints": json.dumps(keypoints)} if keypoints else {}),
        "yolograph": program_version(),
        "heads": json.dumps(heads),
        "names": json.dumps({name: graph.names[name] for name in outputs}),
        "stride": json.dumps(graph.stride),
        "input": json.dumps(describe_input(graph, module.layout)),
        "answers": json.dumps(module.answers),
        **describe_objects(module),
        "precision": json.dumps(FLOAT16 if next(graph.parameters()).dtype == torch.float16 else FLOAT32),
        "checked": UNCHECKED,
        "batch_size": json.dumps(shape[0]),
        "image_size": json.dumps(shape[1:]),
        "dynamic": json.dumps(open_axes == ALL),
        "open_axes": json.dumps(open_axes),
        **({} if opset is None else {"opset": json.dumps(opset)}),
        "deployed": json.dumps(graph.is_deployed),
        "graph": graph.spec.text,
    }


def _describe_head(head: Head, outputs: list[str], is_distinct: bool) -> dict[str, Any]:
    """Return what a head answers, and how its candidates become objects where that is the head's own affair."""
    told: dict[str, Any] = {"task": head.task, "outputs": list(outputs)}
    if is_distinct:
        told["suppression"] = False
    elif getattr(head, "nms", None) is not None:
        told["suppression"] = {"iou": head.nms, "within": "class"}
    if hasattr(head, "top_k"):
        told["best_pairs"] = head.top_k
    return told


def describe_objects(module: ExportedGraph) -> dict[str, str]:
    """Return how candidates become objects within a file, by head, for files that answer with objects."""
    rules = getattr(module, "rules", None)
    return {} if rules is None else {"objects": json.dumps({name: rule.to_plain() for name, rule in rules.items()})}


def checked(tolerance: float | None, differences: Mapping[str, Difference]) -> str:
    """Return what a file says of its check, which it has passed.

    Args:
        tolerance: largest difference that passes, relative to an output's largest value; None where any does, because
            what the file is worth is measured instead.
        differences: per output. Those above the tolerance are no more than the model's own rounding.
    """
    told: dict[str, Any] = {
        "tolerance": tolerance,
        "largest_difference": max(worst.relative for worst in differences.values()),
    }
    if tolerance is not None:
        rounded = [name for name, worst in differences.items() if worst.relative > tolerance]
        told |= {"explained_by_rounding": rounded} if rounded else {}
    return json.dumps(told)


def describe_input(graph: Graph, layout: str) -> dict[str, Any]:
    """Return how a picture becomes the input of a file, as plain values."""
    scale, mean, std = graph.normalisation
    rule = graph.letterbox
    return {
        "name": INPUT_NAME,
        "layout": layout,
        "dtype": "uint8",
        "colour": "RGB",
        "resize": FILLING if rule.by_short_side else RESIZING[rule.anchor],
        "letterbox": asdict(rule),
        "padding": rule.pad,
        "multiple_of": graph.stride,
        "normalised_inside_by": {"channels": graph.spec.input.channels, "scale": scale, "mean": mean, "std": std},
    }
