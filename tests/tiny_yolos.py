"""A tiny transformer that detects, untrained but sure of many objects, with boxes all over the picture."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.spec import parse_spec

NAMES = {"detect": ["car", "person", "dog"], "segment": ["road", "sky"]}
TOKENS = """
nc: 3
width: 32
heads: 2
det_tokens: 7
pe_size: [64, 96]
input: {stride: 16, fit: shortest, limit: 1.66625, shrink: antialias, mean: [0.48, 0.46, 0.41], std: [0.23, 0.22, 0.23]}
backbone:
  - [-1, 1, ViTEmbed, [width, 16, det_tokens, pe_size]]
  - [-1, 1, ViTBlockPE, [width, heads, 2.0, pe_size]]
  - [-1, 1, ViTBlock, [width, heads, 2.0]]
  - [-1, 1, TokenNorm, [width]]
head:
  - [3, 1, YOLOSDetect, [nc]]
"""
WITH_AREAS = TOKENS + "  - [3, 1, TokenMap, []]\n  - [-1, 1, Conv, [16, 3]]\n  - [[-1], 1, SegMaskBase, [2, 1, 8]]\n"


def tiny_yolos(text: str = TOKENS, seed: int = 0, names: dict[str, list[str]] = NAMES) -> Graph:
    """Return a graph in eval mode whose answers depend on the picture and on every position in it."""
    torch.manual_seed(seed)
    graph = Graph(parse_spec(yaml.safe_load(text), "tiny-yolos.yaml")).eval()
    for name, parameter in graph.named_parameters():
        if parameter.dim() > 1:
            # Fresh tables and tokens are next to nothing, and would hide that they lie in the wrong place.
            nn.init.normal_(parameter, std=0.5 if "pos_embed" in name or "_token" in name else 0.25)
    for name, head in graph.heads.items():
        graph.names[name] = list(names[name])
        if name == "detect":
            nn.init.constant_(head.class_mlp[2].bias[-1], -2.0)
    return graph


def write_yolos(path: Path, text: str = TOKENS, seed: int = 0, names: dict[str, list[str]] = NAMES) -> Path:
    """Write ``tiny_yolos`` as a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = tiny_yolos(text, seed, names)
    save_checkpoint(path, Checkpoint("tiny-yolos.yaml", graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    return path
