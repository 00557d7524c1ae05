"""Sine positions of the tokens of several feature maps, and which part of each level lies in the picture.

Carion et al., DETR, arXiv:2005.12872; Zhu et al., Deformable DETR, arXiv:2010.04159.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.memory import Shapes
from models.tokens import Sizes, inside_areas
from utils.tracing import is_traced

TEMPERATURE = 10_000
EPSILON = 1e-6
"""Added to the number of valid rows or columns by which a place is divided."""
KEPT_SHAPES = 16

LevelAreas = tuple[Sizes, ...]
"""Of every level, the rows and columns of its map that lie in each picture: L tuples of B pairs."""


class Places(NamedTuple):
    """Where the tokens of a batch lie; the first side is 1 instead of B where nothing is padded.

    Attributes:
        positions: (1 or B, S, d) float32, sine features of row and column.
        centres: (1 or B, S, 2) float32, the centre (x, y) of each token as a fraction of the picture's valid area.
        mask: (B, S) bool, True where a token lies in its picture; None where all do.
        ratios: (B, L, 2) float32, the part (x, y) of each level that lies in the picture; None where each is 1.
    """

    positions: Tensor
    centres: Tensor
    mask: Tensor | None
    ratios: Tensor | None


def level_areas(sizes: Sizes, canvas: tuple[int, int], shapes: Shapes) -> LevelAreas:
    """Return how much of every level lies in each picture, without asking the device.

    A place of a map lies in the picture where the nearest pixel of the canvas does, which is chosen as PyTorch's
    ``nearest`` resizing chooses it, in float32.

    Args:
        sizes: height and width of every picture in pixels.
        canvas: height and width of the padded batch in pixels.
        shapes: rows and columns of every level.
    """
    return tuple(
        tuple(tuple(_inside(size[axis], canvas[axis], shape[axis]) for axis in (0, 1)) for size in sizes)
        for shape in shapes
    )


@lru_cache(maxsize=1024)
def _inside(side: int, canvas: int, places: int) -> int:
    """Return how many of ``places`` along one axis lie within a picture's side; at least the first does."""
    step = _as_float32(canvas / places)
    return sum(1 for place in range(places) if int(_as_float32(place * step)) < side)


def _as_float32(number: float) -> float:
    """Return the float32 that is nearest to a number."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def places_of(shapes: Shapes, width: int, areas: LevelAreas | None, device: torch.device) -> Places:
    """Return positions, centres, mask and ratios of the tokens of all levels, level after level, row by row.

    They are kept for every shape while nothing is padded.

    Args:
        shapes: rows and columns of every level.
        width: d, channels of a token, a multiple of 4.
        areas: what lies in the pictures of a padded batch, or None.
        device: of the tensors.
    """
    if areas is not None:
        return _padded_places(shapes, width, areas, device)
    if is_traced():
        return _make_places(shapes, width, device)
    return _kept_places(shapes, width, device)


@lru_cache(maxsize=KEPT_SHAPES)
def _kept_places(shapes: Shapes, width: int, device: torch.device) -> Places:
    with torch.inference_mode(False), torch.no_grad():
        return _make_places(shapes, width, device)


def _make_places(shapes: Shapes, width: int, device: torch.device) -> Places:
    levels = [_level(shape, torch.tensor([shape], device=device), width) for shape in shapes]
    positions, centres = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
    return Places(positions, centres, None, None)


def _padded_places(shapes: Shapes, width: int, areas: LevelAreas, device: torch.device) -> Places:
    on_host = torch.tensor(areas)
    counts = on_host.to(device, non_blocking=True)
    levels = [_level(shape, counts[level], width) for level, shape in enumerate(shapes)]
    positions, centres = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
    masks = [inside_areas(own, shape, device).flatten(1) for own, shape in zip(areas, shapes, strict=True)]
    ratios = on_host.float() / torch.tensor(shapes, dtype=torch.float32)[:, None]
    return Places(
        positions, centres, torch.cat(masks, 1), ratios.transpose(0, 1).flip(-1).to(device, non_blocking=True)
    )


def _level(shape: tuple[int, int], counts: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return sine features (B, rows * columns, d) and centres (B, rows * columns, 2) of one level.

    Args:
        shape: rows and columns of the map.
        counts: (B, 2), rows and columns that lie in each picture; places beyond get the features of the last one.
        width: d.
    """
    fractions, features = [], []
    for axis, side in enumerate(shape):
        own = counts[:, axis, None].float()
        place = torch.arange(side, dtype=torch.float32, device=counts.device) + 0.5
        fractions.append(place / own)
        features.append(sine_features(torch.minimum(place, own - 0.5) / (own + EPSILON), width // 2))
    grid = (*shape, -1)
    rows, columns = features[0][:, :, None].expand(-1, *grid), features[1][:, None].expand(-1, *grid)
    y, x = fractions[0][:, :, None].expand(-1, *shape), fractions[1][:, None].expand(-1, *shape)
    return torch.cat((rows, columns), -1).flatten(1, 2), torch.stack((x, y), -1).flatten(1, 2)


def sine_features(fractions: Tensor, count: int) -> Tensor:
    """Return ``count`` features of numbers that turn once from 0 to 1: sine and cosine by turns, ever slower.

    Args:
        fractions: (...) float32.
        count: features of a number, even.

    Returns:
        (..., count).
    """
    pair = torch.arange(count // 2, dtype=torch.float32, device=fractions.device)
    angles = fractions[..., None] * (2 * math.pi) / TEMPERATURE ** (2 * pair / count)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
