"""A tiny deformable transformer that detects, untrained but sure of many objects, with boxes all over the picture."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.layers.deformable_attention import MSDeformAttn
from models.spec import parse_spec

NAMES = {"detect": ["car", "person", "dog"], "segment": ["road", "sky"]}
QUERIES = 12
MS_DETR = """
nc: 3
queries: 12
dim: 32
ffn: 48
dropout: 0.1
input: {stride: 1, fit: shortest, limit: 1.66625, shrink: antialias, mean: [0.48, 0.46, 0.41], std: [0.23, 0.22, 0.23]}
backbone:
  - [-1, 1, FrozenStem, [8]]
  - [-1, 1, ResNetStage, [16, 1, 2, {block: basic}]]
  - [-1, 1, ResNetStage, [24, 1, 2, {block: basic}]]
head:
  - [1, 1, ConvGN, [dim, 1, 1]]
  - [2, 1, ConvGN, [dim, 3, 2]]
  - [[3, 4], 1, DeformEncoder, [dim, 1, 4, 2, ffn, dropout]]
  - [5, 1, TwoStageQueries, [nc, queries]]
  - [[5, 6], 1, MSDETRDecoder, [nc, dim, 2, 4, 2, ffn, dropout, {supervision: c, aux_ffn: true}]]
"""
WITH_AREAS = MS_DETR + "  - [[1], 1, SegMaskBase, [2, 1, 8]]\n"
SMALLEST = """
nc: 3
queries: 12
dim: 32
input: {stride: 1, fit: shortest, limit: 1.66625, mean: [0.48, 0.46, 0.41], std: [0.23, 0.22, 0.23]}
backbone:
  - [-1, 1, FrozenStem, [8]]
head:
  - [0, 1, ConvGN, [dim, 1, 2]]
  - [0, 1, ConvGN, [dim, 3, 4]]
  - [[1, 2], 1, DeformEncoder, [dim, 1, 4, 2, 48]]
  - [3, 1, TwoStageQueries, [nc, queries]]
  - [[3, 4], 1, MSDETRDecoder, [nc, dim, 1, 4, 2, 48, 0.1, {supervision: c, aux_ffn: true}]]
"""
LEARNT_ALONE = """
nc: 3
queries: 12
dim: 32
input: {stride: 1, fit: shortest, limit: 1.66625}
backbone:
  - [-1, 1, ResNetStem, [8]]
head:
  - [0, 1, ConvGN, [dim, 1, 4]]
  - [[1], 1, DeformEncoder, [dim, 1, 2, 2, 48]]
  - [2, 1, LearnedQueries, [queries]]
  - [[2, 3], 1, MSDETRDecoder, [nc, dim, 1, 2, 2, 48, 0.0, {supervision: none}]]
"""
OWN_CLASSES = MS_DETR.replace("supervision: c, aux_ffn: true", "supervision: a, nms: 0.7")


def tiny_ms_detr(text: str = MS_DETR, seed: int = 0, names: dict[str, list[str]] = NAMES) -> Graph:
    """Return a graph in eval mode whose answers depend on the picture and on every position in it."""
    torch.manual_seed(seed)
    graph = Graph(parse_spec(yaml.safe_load(text), "tiny-ms-detr.yaml")).eval()
    for name, parameter in graph.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.1 if "bbox_embed" in name else 0.25)
        elif name.endswith("bbox_embed.2.bias"):
            nn.init.constant_(parameter[2:], 1.0)
        elif "class_embed" in name:
            nn.init.constant_(parameter, -2.0)
    for module in graph.modules():
        if isinstance(module, MSDeformAttn):
            # Fresh ones look at the same few places whatever the query says.
            nn.init.normal_(module.sampling_offsets.weight, std=0.5)
    for name in graph.heads:
        graph.names[name] = list(names[name])
    return graph


def write_ms_detr(path: Path, text: str = MS_DETR, seed: int = 0, names: dict[str, list[str]] = NAMES) -> Path:
    """Write ``tiny_ms_detr`` as a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = tiny_ms_detr(text, seed, names)
    save_checkpoint(path, Checkpoint("tiny-ms-detr.yaml", graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    return path
