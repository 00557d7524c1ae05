"""A vision transformer with detection tokens that runs in milliseconds, for tests."""

from __future__ import annotations

from typing import Any

import torch
import yaml
from torch import nn

from models.graph import Graph
from models.spec import ModelSpec, parse_spec

TEXT = """
nc: 3
n_segcls: 4
width: 24
heads: 2
det_tokens: 5
pe_size: [48, 64]
input: {stride: 16}
backbone:
  - [-1, 1, ViTEmbed, [width, 16, det_tokens, pe_size]]
  - [-1, 2, ViTBlockPE, [width, heads, 4.0, pe_size]]
  - [-1, 1, ViTBlock, [width, heads, 2.0]]
  - [-1, 1, TokenNorm, [width, 1.0e-6]]
head:
  - [-1, 1, TokenMap, []]
  - [-1, 1, Conv, [8, 1, 1]]
  - [-1, 1, nn.Upsample, [None, 2, bilinear]]
  - [-1, 1, SegMaskBase, [n_segcls, 1, 8]]
  - [3, 1, YOLOSDetect, [nc]]
"""


def tiny_values() -> dict[str, Any]:
    """Return the parsed YAML: detection and segmentation, three blocks, two of them with a table of their own."""
    return yaml.safe_load(TEXT)


def tiny_spec(**keys: Any) -> ModelSpec:
    """Return the checked YAML with other top-level keys."""
    return parse_spec({**tiny_values(), **keys}, "tiny.yaml")


def tiny_transformer(seed: int = 0, **keys: Any) -> Graph:
    """Return the model in eval mode, its weights so large that every part of it shows in the answers."""
    torch.manual_seed(seed)
    graph = Graph(tiny_spec(**keys)).eval()
    enlarge_weights(graph)
    return graph


def enlarge_weights(graph: nn.Module) -> None:
    """Draw the weights of rows of tokens anew, of a size that keeps the signal through the depth."""
    with torch.no_grad():
        for name, parameter in graph.named_parameters():
            if name.endswith(("pos_embed", "cls_token", "det_tokens")):
                parameter.normal_(std=0.5)
            elif parameter.dim() == 2:
                parameter.normal_(std=1.4 / parameter.shape[1] ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
