"""What a file tells about itself, so that it can be used without the program that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.graph import Graph
from utils.version import program_version

INPUT_NAME = "images"
RESIZING = {
    "center": "letterbox: aspect kept, centred",
    "top-left": "letterbox: aspect kept, sides cut to whole pixels, at the top left",
}
"""What happens to a picture, in words, by the anchor of the letterbox."""


def describe(
    graph: Graph, outputs: Mapping[str, list[str]], shape: tuple[int, int, int], dynamic: bool, opset: int
) -> dict[str, str]:
    """Return the metadata of an exported graph; every value that is not plain text is JSON.

    Args:
        graph: the model.
        outputs: output names per exported head.
        shape: batch size, height and width of the input; with ``dynamic`` the ones it was checked at.
        dynamic: whether the input may have other shapes.
        opset: version of the operator set.
    """
    scale, mean, std = graph.normalisation
    rule: dict[str, Any] = {
        "name": INPUT_NAME,
        "layout": "NCHW",
        "dtype": "uint8",
        "colour": "RGB",
        "resize": RESIZING[graph.letterbox.anchor],
        "letterbox": asdict(graph.letterbox),
        "padding": graph.letterbox.pad,
        "multiple_of": graph.stride,
        "normalised_inside_by": {"channels": graph.spec.input.channels, "scale": scale, "mean": mean, "std": std},
    }
    heads = {name: {"task": graph.heads[name].task, "outputs": list(names)} for name, names in outputs.items()}
    keypoints = {name: graph.keypoints[name].to_plain() for name in outputs if name in graph.keypoints}
    return {
        **({"keypoints": json.dumps(keypoints)} if keypoints else {}),
        "yolograph": program_version(),
        "heads": json.dumps(heads),
        "names": json.dumps({name: graph.names[name] for name in outputs}),
        "stride": json.dumps(graph.stride),
        "input": json.dumps(rule),
        "batch_size": json.dumps(shape[0]),
        "image_size": json.dumps(shape[1:]),
        "dynamic": json.dumps(dynamic),
        "opset": json.dumps(opset),
        "deployed": json.dumps(graph.is_deployed),
        "graph": graph.spec.text,
    }
