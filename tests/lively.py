"""Fresh models made to look trained, so that every output depends on the picture and every norm on its own numbers."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from models.layers.reparam import RepVGG

BRANCH = 0.7
"""Scale of the norms of a RepVGG block: sums of branches would grow from block to block otherwise."""
_Module = TypeVar("_Module", bound=nn.Module)


def lively(module: _Module, seed: int = 1) -> _Module:
    """Give every BatchNorm statistics, scale and shift of its own, and weights to convolutions that begin without any.

    Heads such as YOLOv6's begin with predictions that say the same of every cell; a fault before them would not show.

    Args:
        module: changed in place.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.05, 1.5, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.2, generator=generator)
        elif isinstance(part, nn.Conv2d) and not part.weight.any():
            nn.init.normal_(part.weight, 0, 1 / math.sqrt(part.weight[0].numel()), generator=generator)
    for block in module.modules():
        for norm in block.modules() if isinstance(block, RepVGG) else ():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5 * BRANCH, 1.5 * BRANCH, generator=generator)
    return module
