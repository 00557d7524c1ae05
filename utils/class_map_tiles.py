"""The class map of one picture from coarse logits, tile by tile, with only those classes that can win in a tile.

Enlarging is bilinear, so the logits of a pixel are weighted means of those of the few cells around it. A class whose
largest logit in these cells is below the smallest of another class wins at no pixel between them. Within an area that
leaves one class and nothing to compute; at its border it leaves a few of them.

Shape suffixes: C classes; R, S tiles below and beside each other, n some of them; K, L cells under a tile; P, Q pixels
of a tile; h, w the native picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS_AT_ONCE = 1 << 19
"""About so many pixels are worked on at once: more take memory, fewer take as many operations for less."""


@dataclass(frozen=True)
class Side:
    """How the pixels along one side of a picture come from cells, T tiles of them.

    A tile are the neighbouring pixels whose first cell is the same. Each is made as long as the longest, P pixels; the
    pixels that a shorter one has too many are never looked at.

    Attributes:
        cells: (K, T) int64, the cells under every tile.
        weights: (T, K, P) of these cells at every pixel, 0..1; they add up to 1.
        begins: the first pixel of every tile, and at the end the number of all pixels.
        places: (pixels,) int64, where each pixel is among the T * P pixels of the tiles.
    """

    cells: Tensor
    weights: Tensor
    begins: tuple[int, ...]
    places: Tensor


@lru_cache(maxsize=64)
def plan_side(cells: int, whole: int, start: int, length: int, native: int) -> Side:
    """Plan one side; pictures of one size share it.

    Args:
        cells: of the coarse logits.
        whole: pixels of the network's input, which the cells are enlarged to.
        start: of the picture in the input, pixels.
        length: of the picture in the input, pixels.
        native: pixels of the picture itself, which its part of the input is enlarged to.
    """
    # What a cell gives to each pixel is what enlarging makes of a 1 in this cell.
    weights = F.interpolate(torch.eye(cells)[None], whole, mode="linear", align_corners=True)
    weights = weights[..., start : start + length]
    weights = F.interpolate(weights, native, mode="linear", align_corners=True)[0]
    used = (weights > 0).int()
    first = used.argmax(0)
    reach = int((cells - used.flip(0).argmax(0) - first).max())
    starts, tile, count = first.unique_consecutive(return_inverse=True, return_counts=True)
    begins, longest = count.cumsum(0) - count, int(count.max())
    under = starts + torch.arange(reach)[:, None]
    pixels = (begins[:, None] + torch.arange(longest)).clamp_max(native - 1)
    # Behind the last cell there is none; the last one stands there, with a weight of 0.
    weights = F.pad(weights, (0, 0, 0, reach))[under.T[:, :, None], pixels[:, None]]
    places = tile * longest + torch.arange(native) - begins[tile]
    return Side(under.clamp_max(cells - 1), weights, (*begins.tolist(), native), places)


@torch.no_grad()
def possible_classes(coarse: Tensor, down: Side, along: Side) -> Tensor:
    """Return which classes can win somewhere in a tile, (C, R, S) bool; where a logit is not a number, all can.

    Args:
        coarse: (C, rows, columns) float logits on the CPU.
        down: of the picture's height.
        along: of its width.
    """
    under = coarse[:, down.cells]
    largest, smallest = under.amax(1)[..., along.cells].amax(2), under.amin(1)[..., along.cells].amin(2)
    return ~(largest < smallest.amax(0))


def share_to_enlarge(possible: Tensor) -> float:
    """Return of how many of all logits at full size a tile's pixels must be known, 0..1."""
    count = possible.sum(0)
    return float(torch.where(count > 1, count, 0).sum()) / possible.numel()


@torch.no_grad()
def class_map_by_tiles(coarse: Tensor, possible: Tensor, down: Side, along: Side) -> Tensor:
    """Return the (h, w) uint8 classes of one picture; of equal logits, the first class.

    Classes with equal logits in the cells around a pixel have equal ones there. Beyond that, where the logits of two
    classes at a pixel differ by no more than rounding, either may be told.

    Args:
        coarse: (C, rows, columns) float logits on the CPU.
        possible: what ``possible_classes`` tells of them.
        down: of the picture's height.
        along: of its width.
    """
    tiles_down, tiles_along = possible.shape[1:]
    high, wide = down.weights.shape[2], along.weights.shape[2]
    classes = torch.empty(len(down.places), len(along.places), dtype=torch.uint8)
    step = max(PIXELS_AT_ONCE // (high * wide * tiles_along), 1)
    for first in range(0, tiles_down, step):
        end = min(first + step, tiles_down)
        row = torch.arange(first, end).repeat_interleave(tiles_along)
        column = torch.arange(tiles_along).repeat(end - first)
        found = _winners(coarse, possible[:, first:end].flatten(1), down, row, along, column)
        found = found.view(end - first, tiles_along, high, wide).transpose(1, 2).reshape(-1, tiles_along * wide)
        rows = slice(down.begins[first], down.begins[end])
        found = found.index_select(0, down.places[rows] - first * high)
        # ``index_select`` takes four times as long along rows.
        torch.gather(found, 1, along.places.expand(len(found), -1), out=classes[rows])
    return classes


def _winners(coarse: Tensor, possible: Tensor, down: Side, row: Tensor, along: Side, column: Tensor) -> Tensor:
    """Return the classes of the pixels of some tiles, (n, P, Q) uint8.

    Args:
        coarse: (C, rows, columns) logits.
        possible: (C, n) bool, the classes that are compared in each tile, one at least.
        down: of the picture's height.
        row: (n,) int64, where each tile is along it.
        along: of the picture's width.
        column: (n,) int64, where each tile is along it.
    """
    # Tiles with more classes come first, so those that have yet another one are always the first few.
    count, order = possible.sum(0).sort(descending=True)
    classes, begins = possible.T[order].nonzero()[:, 1], count.cumsum(0) - count
    found = classes[begins].to(torch.uint8)[:, None, None].repeat(1, down.weights.shape[2], along.weights.shape[2])
    # A tile with a single class is done.
    left = int((count > 1).sum())
    row, column = row[order[:left]], column[order[:left]]
    x, y = along.cells.T[column, :, None], down.cells.T[row, None]
    level = along.weights.index_select(0, column)[:, :, None]
    upright = down.weights.index_select(0, row)[..., None]
    best, logits = (torch.empty(left, *found.shape[1:]) for _ in range(2))
    for rank in range(int(count[0]) if left else 0):
        n = int((count[:left] > rank).sum())
        own = classes[begins[:n] + rank]
        # (n, L, K, 1) and (n, L, 1, Q) over L; then (n, K, 1, Q) and (n, K, P, 1) over K.
        lines = _weighted_sum(coarse[own[:, None, None], y[:n], x[:n]][..., None], level[:n])
        new = _weighted_sum(lines[:, :, None], upright[:n], out=logits[:n] if rank else best)
        if rank:
            torch.where(new > best[:n], own.to(torch.uint8)[:, None, None], found[:n], out=found[:n])
            torch.maximum(best[:n], new, out=best[:n])
    return found.index_select(0, order.argsort())


def _weighted_sum(values: Tensor, weights: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the sum over dimension 1 of values times weights, rounded after each step.

    A product of matrices may fuse steps, or order them by where numbers lie in memory; then equal logits would not stay
    equal.
    """
    total = torch.mul(values[:, 0], weights[:, 0], out=out)
    for i in range(1, values.shape[1]):
        total += values[:, i] * weights[:, i]
    return total
