"""A tiny untrained model that finds many objects, as a checkpoint on disk, and pictures to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import load_graph

NAMES = {"detect": ["car", "person", "dog"], "segment": ["road", "sky"]}
BACKBONE = """
nc: 3
depth_multiple: 0.33
width_multiple: 0.125
anchors: [[10, 13, 16, 30], [40, 60, 60, 40]]
backbone:
  - [-1, 1, Conv, [64, 6, 2, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
"""
BOTH = BACKBONE + "  - [2, 1, SegMaskBase, [2, 1, 64]]\n  - [[2, 3], 1, Detect, [nc, anchors]]\n"
AREAS_ALONE = BACKBONE + "  - [2, 1, SegMaskBase, [2, 1, 64]]\n"
TWO_DETECTORS = (
    BACKBONE + "  - [[2, 3], 1, Detect, [nc, anchors], cars]\n  - [[2, 3], 1, Detect, [nc, anchors], signs]\n"
)


def write_weights(
    path: Path,
    model: str = BOTH,
    names: dict[str, list[str]] = NAMES,
    seed: int = 3,
    spread: float = 0.5,
    bias: float = 1.0,
) -> Path:
    """Write a checkpoint of a model with random weights; by default it is equally sure of many objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "tiny.yaml").write_text(model)
    torch.manual_seed(seed)
    graph = load_graph(path.parent / "tiny.yaml")
    for head in graph.heads.values():
        if head.task == "detect":
            for conv in head.m:
                torch.nn.init.normal_(conv.weight, std=spread)
                torch.nn.init.constant_(conv.bias, bias)
    given = {head: names[head] for head in graph.heads}
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, given, {"ema": graph.state_dict()}))
    return path


def make_picture(size: tuple[int, int] = (60, 80), seed: int = 0) -> np.ndarray:
    """Return soft random blots, (height, width, 3) uint8 RGB."""
    blots = np.random.default_rng(seed).integers(0, 255, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    return cv2.resize(blots, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_picture(path: Path, size: tuple[int, int] = (60, 80), seed: int = 0) -> Path:
    """Write ``make_picture`` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), make_picture(size, seed)[..., ::-1])
    return path
