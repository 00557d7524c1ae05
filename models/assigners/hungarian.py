"""Bipartite matching of predictions with objects (Kuhn 1955; DETR, arXiv:2005.12872): each object gets one query.

Costs of a whole padded batch are made on the device and travel to the CPU in one copy, also those of several layers;
there each picture's assignment is solved by itself, and the indices go back in one copy.

Shape suffixes: B images, Q queries, M padded objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.packed_arrays import arrays_to_device
from models.losses.iou import corner_iou
from utils.boxes import xywh_to_xyxy

WORST = 1e6
"""Cost of a pair whose own is not a number or infinite: far above any other, and finite, as the solver wants it."""

TINY_AREA = 1e-12
"""Added to unions and hulls, which are fractions of a picture: below any box of a pixel, above 0."""


class CostWeights(NamedTuple):
    """What the parts of a pair's cost count."""

    classes: float
    box: float
    giou: float


@dataclass(frozen=True)
class Matches:
    """The n pairs of a batch, by image, then by query.

    Attributes:
        image: (n,) int64.
        query: (n,) int64 index of the query within its image.
        object: (n,) int64 index of the object among the padded rows of its image's labels.
    """

    image: Tensor
    query: Tensor
    object: Tensor


def pair_costs(class_costs: Tensor | float, boxes: Tensor, objects: Tensor, weights: CostWeights) -> Tensor:
    """Return what it costs to let each query answer for each object.

    Args:
        class_costs: (..., B, Q, M) of classes alone, or one number for all.
        boxes: (..., B, Q, 4) predicted, centre x, centre y, width, height as fractions, at least float32.
        objects: (B, M, 4) labelled, in the same form and unit.
        weights: of classes, of the sum of absolute differences (L1) and of minus the generalised IoU.

    Returns:
        (..., B, Q, M) in the type of ``boxes``.
    """
    objects = objects.to(boxes.dtype)
    distance = torch.cdist(boxes, objects, p=1)
    overlap = corner_iou(xywh_to_xyxy(boxes)[..., None, :], xywh_to_xyxy(objects)[:, None], "giou", TINY_AREA)
    return weights.box * distance + weights.classes * class_costs - weights.giou * overlap


@torch.no_grad()
def match(costs: Sequence[Tensor], valid: Tensor) -> list[Matches]:
    """Match every picture's objects with queries at the least total cost, for several layers at once.

    With fewer queries than objects some objects stay unmatched. The device is waited for once. Of many queries, such as
    the tokens of an encoder, only those travel that are among the M best of an object: no more of them can be taken
    by the other objects, so that nothing is lost.

    Args:
        costs: per layer (B, Q, M), with a number of queries of its own; NaN and infinite ones are taken as very bad.
        valid: (B, M) bool, False where an object is padding.

    Returns:
        Per layer its pairs, on the device of the costs.
    """
    device = costs[0].device
    # Padding has an infinite cost on its way, so that the masks need no copy of their own.
    ready = [_finite(cost).masked_fill(~valid[:, None], torch.inf) for cost in costs]
    # Costs and queries of M by M pairs travel in place of costs of Q by M.
    sent = [_best_queries(cost) if 0 < 2 * cost.shape[2] < cost.shape[1] else cost[None] for cost in ready]
    flat = torch.cat([part.flatten() for part in sent]).cpu().numpy()
    ends = np.cumsum([part.numel() for part in sent])
    layers = [part.reshape(own.shape) for part, own in zip(np.split(flat, ends[:-1]), sent, strict=True)]
    solved = {str(number): _solve_layer(layer) for number, layer in enumerate(layers)}
    moved = arrays_to_device(solved, device)
    return [Matches(*moved[str(number)].unbind(0)) for number in range(len(costs))]


def _finite(cost: Tensor) -> Tensor:
    return cost.detach().nan_to_num(WORST, WORST, WORST).clamp(-WORST, WORST)


def _best_queries(costs: Tensor) -> Tensor:
    """Return (2, B, M, M), the least costs (B, Q, M) of every object, and their queries as numbers of the same type."""
    least, query = costs.transpose(1, 2).topk(costs.shape[2], dim=2, largest=False)
    return torch.stack((least, query.to(least.dtype)))


def _solve_layer(sent: np.ndarray) -> np.ndarray:
    """Return (3, n) int64 image, query and object of the pairs.

    Args:
        sent: costs (1, B, Q, M), or what ``_best_queries`` made of them; infinite for padding.
    """
    # It takes a quarter of a second to import, which commands that do not train need not wait for.
    from scipy.optimize import linear_sum_assignment

    table = _whole_table if len(sent) == 1 else _table_of_best
    found = [np.zeros((3, 0), np.int64)]
    for image in range(sent.shape[1]):
        queries, objects, costs = table(*sent[:, image])
        row, column = linear_sum_assignment(costs)
        found.append(np.stack((np.full_like(row, image), queries[row], objects[column])))
    return np.concatenate(found, 1)


def _whole_table(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the queries and objects of a picture that are real, and the costs of these, for costs (Q, M)."""
    real = np.isfinite(costs)
    queries, objects = np.flatnonzero(real.any(1)), np.flatnonzero(real.any(0))
    return queries, objects, costs[:, objects] if len(queries) == len(costs) else costs[np.ix_(queries, objects)]


def _table_of_best(least: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same for the least costs (M, M) of every object and their queries; other pairs are impossible."""
    real = np.isfinite(least)
    objects = np.flatnonzero(real.any(1))
    queries, row = np.unique(query[real].astype(np.int64), return_inverse=True)
    costs = np.full((len(queries), len(objects)), np.inf)
    costs[row, np.nonzero(real[objects])[0]] = least[real]
    return queries, objects, costs
