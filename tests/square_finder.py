"""A detector whose weights are written down and not learnt: it finds red, green and blue squares, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.spec import parse_spec
from utils.yaml_text import parse_yaml

SIDE = 24
"""Of a square in the network's input, pixels; its centre has to lie in the middle of a cell of ``CELL`` pixels."""
CELL = 8
NAMES = ["red", "green", "blue"]
MODEL = f"""
nc: 3
width_multiple: 1.0
activation: nn.ReLU()
anchors: [[{SIDE}, {SIDE}]]
backbone:
  - [-1, 1, Conv, [8, {SIDE}, {CELL}, {(SIDE - CELL) // 2}]]
head:
  - [-1, 1, Detect, [nc, anchors]]
"""
STEEPNESS = 20.0
SEEN = 0.8
"""How much of a window has to be of a colour; in the window of a neighbouring cell two thirds of a square lie."""


def square_finder() -> Graph:
    """Return the model in eval mode."""
    graph = Graph(parse_spec(parse_yaml(MODEL, "squares.yaml", ValueError), "squares.yaml")).eval()
    block, head = graph.model[0], graph.heads["detect"]
    with torch.no_grad():
        # Channel c is the mean of colour c in the window less that of both others, so grey gives nothing.
        block.conv.weight.zero_()
        for colour in range(3):
            block.conv.weight[colour] = -0.5 / SIDE**2
            block.conv.weight[colour, colour] = 1 / SIDE**2
        # Boxes of the anchor's size in the middle of the cell; an object where any colour fills the window.
        head.m[0].weight.zero_()
        head.m[0].bias.zero_()
        head.m[0].weight[4, :3] = STEEPNESS
        head.m[0].bias[4] = -STEEPNESS * SEEN
        for colour in range(3):
            head.m[0].weight[5 + colour, colour] = STEEPNESS
            head.m[0].bias[5 + colour] = -STEEPNESS / 2
    graph.names["detect"] = list(NAMES)
    return graph


def write_square_finder(path: Path) -> Path:
    """Write the model as a checkpoint."""
    graph = square_finder()
    save_checkpoint(path, Checkpoint("squares.yaml", graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    return path


def write_squares(path: Path, size: tuple[int, int], objects: list[tuple[str, tuple[int, int, int, int]]]) -> Path:
    """Write a picture of coloured rectangles on grey noise.

    Args:
        path: of the picture.
        size: (height, width), pixels.
        objects: name of the colour and x1 y1 x2 y2 of each, pixels.
    """
    grey = np.random.default_rng(0).integers(90, 130, (*size, 1), dtype=np.uint8)
    picture = np.repeat(grey, 3, 2)
    for name, (x1, y1, x2, y2) in objects:
        picture[y1:y2, x1:x2] = 0
        picture[y1:y2, x1:x2, NAMES.index(name)] = 255
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path
