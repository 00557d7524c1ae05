"""From a head's batched class logits to one class map per image, in native pixels.

Shape suffixes: C classes; H, W the network's input; h, w the native picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.samples import Placement
from models.predictions import CoarseMasks, MaskResult, Masks
from utils.class_map_tiles import class_map_by_tiles, plan_side, possible_classes, share_to_enlarge

PIXELS_AT_ONCE = 1 << 18
"""On a CPU, so many logits are enlarged at once, or one class where it has more: about what its caches hold."""

PIXELS_AT_ONCE_ON_DEVICE = 1 << 25
"""The same on a GPU, 128 MiB, where starting an operation costs more than memory that is far away."""

MOST_BY_TILES = 0.6
"""Where more of the logits than this share are needed, enlarging whole planes of all classes is quicker."""


class Area(NamedTuple):
    """The pixels of the network's input that a picture covers."""

    top: int
    left: int
    rows: int
    columns: int


def mask_results(masks: Masks, placements: Sequence[Placement]) -> list[MaskResult]:
    """Cut the padding off, enlarge to native size and take the most likely class of every pixel.

    Of equal logits the first class counts; where those of two classes differ by no more than rounding, either may be
    told. There is never a float map of all classes at full size.

    Args:
        masks: class logits of a batch, on any device.
        placements: where each picture lies in the network's input.

    Returns:
        One result per image, on the CPU.
    """
    # Leaving classes out takes many small operations, which a GPU is slower at than at enlarging all of them.
    tiled = isinstance(masks, CoarseMasks) and masks.device.type == "cpu"
    class_map = _class_map_of_coarse if tiled else class_map_by_planes
    return [MaskResult(class_map(masks, i, place).cpu()) for i, place in enumerate(placements)]


def class_map_by_planes(masks: Masks, picture: int, place: Placement) -> Tensor:
    """Return the (h, w) uint8 classes of one picture, whatever its logits and wherever they are.

    Classes are enlarged some at a time, and only the largest logit so far and its class are kept. Every logit is, to
    its last bits, that of enlarging all together.
    """
    top, left, rows, columns = area_of(place)
    best = found = None
    step = _classes_at_once(max(rows * columns, place.height * place.width), masks.device)
    for first in range(0, masks.num_classes, step):
        planes = masks.planes(picture, first, first + step)[..., top : top + rows, left : left + columns]
        planes = F.interpolate(planes, (place.height, place.width), mode="bilinear", align_corners=True)[0]
        largest, own = _strongest(planes, first)
        if best is None:
            best, found = largest, own.expand_as(largest)
            continue
        found = torch.where(largest > best, own, found)
        best = torch.maximum(best, largest)
    return found.contiguous()


def _class_map_of_coarse(masks: CoarseMasks, picture: int, place: Placement) -> Tensor:
    area, coarse = area_of(place), masks.coarse[picture]
    down = plan_side(coarse.shape[1], masks.size[0], area.top, area.rows, place.height)
    along = plan_side(coarse.shape[2], masks.size[1], area.left, area.columns, place.width)
    possible = possible_classes(coarse, down, along)
    if share_to_enlarge(possible) > MOST_BY_TILES:
        return class_map_by_planes(masks, picture, place)
    return class_map_by_tiles(coarse, possible, down, along)


def _strongest(planes: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return the largest logit (h, w) of some classes and its class, uint8; (k, h, w) planes begin with ``first``."""
    if len(planes) == 1:
        return planes[0], torch.full((), first, dtype=torch.uint8, device=planes.device)
    largest, own = planes.max(0)
    return largest, (own + first).to(torch.uint8)


def _classes_at_once(pixels: int, device: torch.device) -> int:
    """Return of how many classes maps of so many pixels are made together."""
    return max((PIXELS_AT_ONCE if device.type == "cpu" else PIXELS_AT_ONCE_ON_DEVICE) // pixels, 1)


def area_of(place: Placement) -> Area:
    """Return which pixels of the network's input a picture covers."""
    rows, columns = _whole_pixels(place.height * place.scale_y), _whole_pixels(place.width * place.scale_x)
    return Area(round(place.top), round(place.left), rows, columns)


def _whole_pixels(side: float) -> int:
    """Return how many rows or columns a picture has in the network's input, given its exact side there.

    A centred letterbox stretches the picture to whole pixels, so the side is whole but for rounding. One at the top
    left cuts the picture to whole pixels and keeps the scale.
    """
    return max(int(side + 1e-6), 1)
