"""Adaptive training sample selection (Zhang et al., arXiv:1912.02424), as YOLOv6 has it in its first epochs.

A point stands for a square around it. Of each level the few points nearest to an object's centre are candidates, and
those whose squares overlap the object well among these are positive. Predictions have a say in the target scores alone.

Nothing here waits for a device: all sizes follow from shapes. Cells form a grid, so that the nearest ones of a level
are found among a few rows and columns, never among all points. Memory is bounded: where objects compete for points,
they are taken in pieces of at most ``MOST_PAIRS`` pairs (or one object of every image).

Shape suffixes: B images, G objects (padded), A anchor points, T candidates of an object.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints, rows_at
from models.assigners.scored_points import Claims, Favourites, LabelledBoxes, ScoredPoints, inside, no_points, pieces
from models.assigners.slots import contested_and_first
from models.losses.iou import corner_iou
from utils.precision import without_autocast

NEAREST = 9
"""Candidates of an object on one level."""
SQUARE_SIDE = 5.0
"""Side of the square of a point, in its strides."""
MOST_PAIRS = 1 << 20
_LEAST_UNION = 1e-6
_SCORE_EPS = 1e-9


@torch.no_grad()
def assign_atss(boxes_BA4: Tensor, labels: LabelledBoxes, points: AnchorPoints) -> ScoredPoints:
    """Choose the positive points of a batch and their target scores.

    A candidate is positive if it lies inside the object's box and its square overlaps the box by more than mean plus
    standard deviation (unbiased) over all candidates of the object. A point that is positive for several objects goes
    to the object that its square overlaps most, also to one that has not chosen it. The target score is the overlap of
    the point's predicted box. Of equals the lower point and the lower object win.

    Args:
        boxes_BA4: predicted boxes, x1 y1 x2 y2 in pixels of the network input.
        labels: the objects.
        points: the A anchor points; their centres count. Levels of fewer than nine points give all they have.

    Returns:
        The assignment. All arithmetic is in float32.
    """
    images, objects = labels.valid.shape
    with without_autocast(boxes_BA4.device):
        if images * objects * len(points) == 0:
            return no_points(images, len(points), boxes_BA4.device)
        claims = _claim(labels, points)
        contested, used = contested_and_first(claims.point, claims.real, len(points))
        owner = _most_overlapping(claims.point, labels, points).where(contested, claims.object)
        predicted, boxes = rows_at(boxes_BA4.float(), claims.point), rows_at(labels.boxes.float(), owner)
        score = corner_iou(predicted, boxes, "iou", _SCORE_EPS).where(used, 0.0)
        return ScoredPoints(claims.point, owner, score, used, len(points))


def _claim(labels: LabelledBoxes, points: AnchorPoints) -> Claims:
    """Return which points each object chooses, T slots per object."""
    boxes = labels.boxes.float()
    point = nearest_points(boxes, points)
    overlap = _overlap_of_squares(points.centres[point], points.strides[point], boxes[:, :, None])
    deviation = overlap.std(-1, keepdim=True) if overlap.shape[-1] > 1 else torch.zeros_like(overlap)
    chosen = overlap > overlap.mean(-1, keepdim=True) + deviation
    chosen &= inside(boxes[:, :, None], points.centres[point]) & labels.valid[..., None]
    claimer = torch.arange(boxes.shape[1], device=boxes.device)[:, None].expand_as(point)
    return Claims(point.flatten(1), claimer.flatten(1), chosen.flatten(1))


def nearest_points(boxes: Tensor, points: AnchorPoints, count: int = NEAREST) -> Tensor:
    """Return the points of each level that are nearest to the centres of boxes.

    Args:
        boxes: (B, G, 4) x1 y1 x2 y2 in pixels.
        points: of the levels.
        count: how many of a level, or all where it has fewer.

    Returns:
        (B, G, T) indices, level by level, the nearest first.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    found, first = [], 0
    for (rows, columns), stride in zip(points.shapes, points.level_strides, strict=True):
        if rows * columns == 0:
            continue
        near_x, gap_x = _nearest_cells(centre[..., 0], columns, stride, count)
        near_y, gap_y = _nearest_cells(centre[..., 1], rows, stride, count)
        # The i-th nearest row and the j-th nearest column have i * j cells that are at least as near as theirs.
        spans = [(slice(i, i + 1), slice(count // (i + 1))) for i in range(near_y.shape[-1])]
        cell = torch.cat([near_y[..., i] * columns + near_x[..., j] for i, j in spans], -1)
        distance = torch.cat([gap_y[..., i].square() + gap_x[..., j].square() for i, j in spans], -1)
        # Sorted by number first, the lower of two cells that are equally near stays in front.
        cell, order = cell.sort(-1)
        order = distance.gather(-1, order).sort(dim=-1, stable=True).indices[..., : min(count, rows * columns)]
        found.append(cell.gather(-1, order) + first)
        first += rows * columns
    return torch.cat(found, -1)


def _nearest_cells(place: Tensor, cells: int, stride: float, count: int) -> tuple[Tensor, Tensor]:
    """Return the cells of one axis that are nearest to places (B, G) in pixels, the nearest first.

    Returns:
        Their numbers and how far their centres are, in strides, both (B, G, n).
    """
    number = min(count, cells)
    at = place / stride - 0.5
    # They lie side by side; of two that are equally far the lower one counts.
    start = (at - number / 2).ceil().clamp(0, cells - number)
    candidates = start[..., None] + torch.arange(number, device=place.device)
    gap, order = (candidates - at[..., None]).abs().sort(dim=-1, stable=True)
    return candidates.long().gather(-1, order), gap


def _overlap_of_squares(centres: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """Return the overlap of the squares of points with boxes; shapes without the last axis broadcast."""
    half = SQUARE_SIDE / 2 * strides
    low, high = torch.maximum(centres - half, boxes[..., :2]), torch.minimum(centres + half, boxes[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (SQUARE_SIDE * strides).square()[..., 0] + (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return shared / (areas - shared).clamp(min=_LEAST_UNION)


def _most_overlapping(point_BS: Tensor, labels: LabelledBoxes, points: AnchorPoints) -> Tensor:
    """Return (B, S), the object of the image that the square of each point overlaps most."""
    images, objects = labels.valid.shape
    # With many objects it is cheaper to ask every point once.
    all_points = point_BS.shape[1] > len(points)
    asked = torch.arange(len(points), device=point_BS.device).expand(images, -1) if all_points else point_BS
    centres, strides = points.centres[asked][:, None], points.strides[asked][:, None]
    favourites = Favourites(images, asked.shape[1], point_BS.device)
    for some in pieces(objects, images * asked.shape[1], MOST_PAIRS):
        overlap = _overlap_of_squares(centres, strides, labels.boxes[:, some, None].float())
        favourites.look_at(overlap, labels.valid[:, some], some.start)
    return favourites.object.gather(1, point_BS) if all_points else favourites.object
