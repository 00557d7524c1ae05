"""Where the proposals of a two-stage transformer begin: a box for every token of an encoder's memory.

Zhu et al., Deformable DETR, arXiv:2010.04159, appendix A.4.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from models.layers.set_answers import logit
from models.memory import Memory, Shapes
from utils.tracing import is_traced

FINEST_SIDE = 0.05
"""Side of an anchor of the finest level; that of every further level is twice as long."""
BORDER = 0.01
"""A token is proposed only where all four numbers of its anchor are farther than this from 0 and from 1."""
OUTSIDE = 1e4
"""Logit in place of those of anchors that are not proposed: whatever a box layer adds, their boxes are all ones."""


def token_anchors(memory: Memory) -> tuple[Tensor, Tensor]:
    """Return the anchors of all tokens.

    Args:
        memory: (B, S, d).

    Returns:
        Logits (B, S, 4) of centre x, centre y, width and height as fractions of the picture's valid area, float32; and
        which tokens may be proposed, (B, S) bool. B is 1 where nothing is padded.
    """
    device = memory.values.device
    if memory.mask is not None or memory.ratios is not None:
        return _anchors(memory.shapes, device, memory.ratios, memory.mask)
    if is_traced():
        return _anchors(memory.shapes, device)
    return _kept_anchors(memory.shapes, device)


@lru_cache(maxsize=16)
def _kept_anchors(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return _anchors(shapes, device)


def _anchors(
    shapes: Shapes, device: torch.device, ratios: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    levels = [_level_anchors(number, shape, device, ratios) for number, shape in enumerate(shapes)]
    boxes = torch.cat(levels, 1)
    proposed = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1)
    if mask is not None:
        proposed = proposed & mask
    return logit(boxes).masked_fill(~proposed[..., None], OUTSIDE), proposed


def _level_anchors(level: int, shape: tuple[int, int], device: torch.device, ratios: Tensor | None) -> Tensor:
    """Return (B or 1, rows * columns, 4) boxes of one level, those of padding beyond 1."""
    rows, columns = shape
    x, y = (torch.arange(count, dtype=torch.float32, device=device)[None] + 0.5 for count in (columns, rows))
    if ratios is None:
        x, y = x / columns, y / rows
    else:
        # Whole columns and rows again, which ratios are in float32 but for rounding.
        x, y = (at / (ratios[:, level, axis : axis + 1] * n).round() for at, axis, n in ((x, 0, columns), (y, 1, rows)))
    grid = (x.shape[0], rows, columns)
    centres = torch.stack((x[:, None].expand(grid), y[:, :, None].expand(grid)), -1).flatten(1, 2)
    return torch.cat((centres, torch.full_like(centres, FINEST_SIDE * 2**level)), -1)
