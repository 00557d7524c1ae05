"""What a file tells about itself, so that it can be used without the program that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.graph import Graph
from models.heads.base import Head
from utils.version import program_version

if TYPE_CHECKING:
    from utils.export.exported_graph import ExportedGraph

INPUT_NAME = "images"
OpenAxes = tuple[str, ...]
"""Which sides of the input may have other lengths than those that the file was written for."""
NONE: OpenAxes = ()
BATCH: OpenAxes = ("batch",)
ALL: OpenAxes = ("batch", "height", "width")
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
        "input": json.dumps(describe_input(graph)),
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


def describe_input(graph: Graph) -> dict[str, Any]:
    """Return how a picture becomes the input of a file, as plain values."""
    scale, mean, std = graph.normalisation
    rule = graph.letterbox
    return {
        "name": INPUT_NAME,
        "layout": "NCHW",
        "dtype": "uint8",
        "colour": "RGB",
        "resize": FILLING if rule.by_short_side else RESIZING[rule.anchor],
        "letterbox": asdict(rule),
        "padding": rule.pad,
        "multiple_of": graph.stride,
        "normalised_inside_by": {"channels": graph.spec.input.channels, "scale": scale, "mean": mean, "std": std},
    }
