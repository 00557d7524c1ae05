"""A model whose middle can be quantised, and labelled pictures in which it finds everything."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.spec import parse_spec
from tests.square_finder import MODEL, NAMES, square_finder, write_squares
from utils.yaml_text import parse_yaml

SIDE = 64
"""Of the pictures, pixels."""
SQUARES = {"one": [("red", (0, 0, 24, 24)), ("green", (40, 40, 64, 64))], "two": [("blue", (40, 0, 64, 24))]}
"""The squares of each picture; their centres are those of cells."""


def deep_square_finder() -> Graph:
    """Return a finder of squares with two more rows, which change nothing."""
    rows = "  - [-1, 1, Conv, [8, 1, 1]]\n  - [-1, 1, Conv, [8, 1, 1]]\nhead:"
    graph = Graph(parse_spec(parse_yaml(MODEL.replace("head:", rows), "squares.yaml", ValueError), "squares.yaml"))
    source = square_finder()
    graph.model[0].load_state_dict(source.model[0].state_dict())
    graph.heads["detect"].load_state_dict(source.heads["detect"].state_dict())
    with torch.no_grad():
        for row in (1, 2):
            graph.model[row].conv.weight.copy_(torch.eye(8)[..., None, None])
    graph.names["detect"] = list(NAMES)
    return graph.eval()


def write_labelled_squares(folder: Path) -> Path:
    """Write ``squares.safetensors``, two pictures with labels, and ``data.yaml``; return the folder."""
    graph = deep_square_finder()
    checkpoint = Checkpoint("squares.yaml", graph.spec.text, graph.names, {"ema": graph.state_dict()})
    save_checkpoint(folder / "squares.safetensors", checkpoint)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for name, objects in SQUARES.items():
        write_squares(folder / "images" / f"{name}.png", (SIDE, SIDE), objects)
        (folder / "labels" / f"{name}.txt").write_text("\n".join(_line(*each) for each in objects))
    (folder / "data.yaml").write_text(f"path: {folder}\ndetect: {{train: images, val: images, names: {NAMES}}}\n")
    return folder


def _line(colour: str, box: tuple[int, int, int, int]) -> str:
    x1, y1, x2, y2 = (side / SIDE for side in box)
    return f"{NAMES.index(colour)} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}"


def arguments(folder: Path, *more: str) -> list[str]:
    """Return a command line of ``export.py`` for the model and its pictures."""
    weights, data = folder / "squares.safetensors", folder / "data.yaml"
    return ["--weights", str(weights), "--img-size", str(SIDE), "--data", str(data), "--passes", "1", *more]
