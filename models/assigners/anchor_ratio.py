"""YOLOv5's assignment: an object belongs to every anchor of similar shape, in its cell and up to two neighbours.

It depends on the labels alone, so it runs before the forward pass. Shape suffixes: N images, M padded objects,
T labelled objects of the whole batch, A anchors of a level, K candidate cells (own, left, up, right, down), n matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOUR_SHIFTS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))


@dataclass
class LevelMatches:
    """Matches of one level, in the order: own cell, left, up, right, down; inside each anchor by anchor.

    Attributes:
        image: (n,) image index.
        anchor: (n,) anchor index.
        row: (n,) cell row.
        column: (n,) cell column.
        classes: (n,) class index.
        boxes: (n, 4) centre offset from the cell, width, height; in cells.
        anchors: (n, 2) the anchor's width and height in cells.
        deciding: (k,) positions of the matches that set the objectness: the last one that falls on its image, anchor
            and cell. Found here, on the CPU, so that no device is waited for later.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    classes: Tensor
    boxes: Tensor
    anchors: Tensor
    deciding: Tensor

    def __len__(self) -> int:
        return self.image.shape[0]


def assign_by_anchor_ratio(
    boxes_T4: Tensor,
    classes_T: Tensor,
    image_T: Tensor,
    anchors_A2: Tensor,
    grid: tuple[int, int],
    images: int,
    max_ratio: float,
) -> LevelMatches:
    """Match objects with the anchors and cells of one level.

    Args:
        boxes_T4: centre x, centre y, width, height in cells of the level.
        classes_T: class indices.
        image_T: image index of every object.
        anchors_A2: anchor widths and heights in cells.
        grid: rows and columns of the level.
        images: how many images the batch has.
        max_ratio: an anchor fits when neither side differs by this factor or more.

    Returns:
        The matches of the level.
    """
    rows, columns = grid
    ratio_AT2 = boxes_T4[None, :, 2:] / anchors_A2[:, None]
    fits_AT = torch.maximum(ratio_AT2, 1 / ratio_AT2).amax(2) < max_ratio
    xy_T2 = boxes_T4[:, :2]
    size = boxes_T4.new_tensor([columns, rows])
    from_end_T2 = size - xy_T2
    near_start_T2 = (xy_T2 % 1.0 < 0.5) & (xy_T2 > 1.0)
    near_end_T2 = (from_end_T2 % 1.0 < 0.5) & (from_end_T2 > 1.0)
    own_T1 = torch.ones_like(near_start_T2[:, :1])
    claims_KT = torch.cat((own_T1, near_start_T2, near_end_T2), 1).T
    shift, anchor, target = (claims_KT[:, None] & fits_AT[None]).nonzero(as_tuple=True)
    shifts_K2 = boxes_T4.new_tensor(NEIGHBOUR_SHIFTS)
    cell = (xy_T2[target] - shifts_K2[shift]).long()
    column, row = cell[:, 0].clamp(0, columns - 1), cell[:, 1].clamp(0, rows - 1)
    offset = xy_T2[target] - torch.stack((column, row), 1)
    image = image_T[target]
    place = ((image * len(anchors_A2) + anchor) * rows + row) * columns + column
    order = torch.arange(len(place), device=place.device)
    last = order.new_full((images * len(anchors_A2) * rows * columns,), -1).scatter_reduce(0, place, order, "amax")
    decides = last[place] == order
    return LevelMatches(
        image=image,
        anchor=anchor,
        row=row,
        column=column,
        classes=classes_T[target],
        boxes=torch.cat((offset, boxes_T4[target, 2:]), 1),
        anchors=anchors_A2[anchor],
        deciding=decides.nonzero(as_tuple=True)[0],
    )
