"""Tiny untrained transformers with detection tokens, as checkpoints on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph, load_graph

NAMES = {"detect": ["red", "green", "blue"], "segment": ["ground", "red", "green", "blue"], "cars": ["a", "b", "c"]}
BACKBONE = """
nc: 3
input: {stride: 16, fit: shortest, limit: 1.66625, shrink: antialias}
backbone:
  - [-1, 1, ViTEmbed, [16, 16, 5, [32, 48]]]
  - [-1, 2, ViTBlock, [16, 2, 2.0]]
  - [-1, 1, ViTBlock, [16, 4, 2.0]]
  - [-1, 1, TokenNorm, [16, 1.0e-6]]
head:
"""
DETECTOR = BACKBONE + "  - [-1, 1, YOLOSDetect, [nc]]\n"
TWO_DETECTORS = BACKBONE + "  - [1, 1, YOLOSDetect, [nc], cars]\n  - [3, 1, YOLOSDetect, [nc]]\n"
MIXED = (
    BACKBONE
    + """
  - [3, 1, TokenMap, []]
  - [[-1], 1, SegMaskBase, [4, 1, 8, False]]
  - [3, 1, YOLOSDetect, [nc]]
"""
)


def make_graph(folder: Path, model: str = DETECTOR, seed: int = 0, spread: float = 4.0) -> Graph:
    """Return a model in eval mode whose random weights are ``spread`` times the usual ones, so that tokens differ."""
    path = folder / "tiny_yolos.yaml"
    path.write_text(model)
    torch.manual_seed(seed)
    graph = load_graph(path)
    with torch.no_grad():
        for parameter in graph.parameters():
            if parameter.dim() > 1:
                parameter *= spread
    return graph.eval()


def write_weights(path: Path, model: str = DETECTOR, seed: int = 0) -> Path:
    """Write a checkpoint of ``make_graph``."""
    graph = make_graph(path.parent, model, seed)
    names = {head: NAMES[head] for head in graph.heads}
    save_checkpoint(path, Checkpoint("tiny_yolos.yaml", graph.spec.text, names, {"ema": graph.state_dict()}))
    return path
