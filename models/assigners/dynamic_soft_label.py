"""Dynamic soft labels, the assignment of RTMDet (Lyu et al., arXiv:2212.07784), for all images and objects at once.

An object takes the anchor points whose predictions cost it least, as many as the predictions of all points overlap it
well; what a positive point has to say of its object's class is not 1 but how well its own box overlaps the object.

A cost needs the points alone that lie in any object of their image (the candidates), which are laid side by side first;
overlaps count of all points. Only the logit of the object's own class enters, so no tensor has objects, points and
classes. Objects are weighed in pieces and nobody waits for a device, see ``cheapest_points.py``.

The published programs differ where their answer depends on chance. Padding rows never compete here. A pair of a point
outside all objects, or one that costs as much (about 11 strides from the object's centre), is never chosen; they would
choose any of these points. Its prediction hardly ever overlaps the object, and then its soft label is 0, which trains
what a negative point does. An object for which nothing is left has no positive point.

Shape suffixes: B images, G objects (padded), g objects of a piece, A anchor points, C classes, P candidates (padded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.anchor_points import AnchorPoints, rows_at
from models.assigners.candidates import Candidates, find_points_inside
from models.assigners.cheapest_points import LEAST_COST, choose, settle
from models.assigners.scored_points import LabelledBoxes, ScoredPoints, no_points
from utils.precision import without_autocast

MOST_CHOICES = 13
"""Most points of an object, and of how many overlaps their number is the sum."""
IOU_WEIGHT = 3.0
CENTRE_RADIUS = 3.0
"""Strides from an object's centre at which distance costs 1; every further stride costs ten times as much."""
UNREACHABLE = 1e8
"""Published cost of a point outside all objects."""
_IOU_EPSILON = 1e-7
_LEAST_UNION = 1e-6


@torch.no_grad()
def assign_dynamic_soft_labels(
    boxes_BA4: Tensor, classes_BAC: Tensor, labels: LabelledBoxes, points: AnchorPoints
) -> ScoredPoints:
    """Choose the positive points of a batch.

    Args:
        boxes_BA4: predicted boxes, x1 y1 x2 y2 in pixels; sides may be negative.
        classes_BAC: logits.
        labels: the objects.
        points: the A anchor points; a point lies at the upper left corner of its cell.

    Returns:
        The assignment; a score is the overlap of the point's prediction with its object. All arithmetic is in float32.
    """
    images, objects = labels.valid.shape
    with without_autocast(boxes_BA4.device):
        if images * objects * len(points) == 0:
            return no_points(images, len(points), boxes_BA4.device)
        pairs = _Pairs.of(boxes_BA4, classes_BAC, labels, points)

        def weigh(some: slice) -> tuple[Tensor, Tensor]:
            cost, iou = pairs.weigh(some)
            return cost, how_many(iou)

        found = settle(
            choose(weigh, pairs.candidates, objects, MOST_CHOICES, len(points), UNREACHABLE), pairs.candidates
        )
        point = pairs.candidates.index.gather(1, found.position)
        overlap = _overlap(rows_at(pairs.objects, found.owner).unbind(-1), rows_at(boxes_BA4.float(), point).unbind(-1))
        return ScoredPoints(point, found.owner, overlap.where(found.used, 0.0), found.used, len(points))


@dataclass(frozen=True)
class WeighedPairs:
    """What a choice rests on, for tests and parity.

    Attributes:
        point: (B, P) indices of the candidates' anchor points, in their order.
        candidate: (B, P) bool, False where the column is padding.
        cost: (B, G, P), infinite for padding.
        iou: (B, G, A) of the predictions of all points.
        count: (B, G) how many points an object takes before objects compete.
    """

    point: Tensor
    candidate: Tensor
    cost: Tensor
    iou: Tensor
    count: Tensor


@torch.no_grad()
def weigh_all_pairs(
    boxes_BA4: Tensor, classes_BAC: Tensor, labels: LabelledBoxes, points: AnchorPoints
) -> WeighedPairs:
    """Return cost and overlap of all pairs at once, with the arguments of the assignment; memory is not bounded."""
    pairs = _Pairs.of(boxes_BA4, classes_BAC, labels, points)
    cost, iou = pairs.weigh(slice(0, labels.valid.shape[1]))
    return WeighedPairs(pairs.candidates.index, pairs.candidates.real, cost, iou, how_many(iou)[..., 0])


def how_many(iou: Tensor) -> Tensor:
    """Return (B, g, 1): how many points an object takes, from its overlaps (B, g, A)."""
    highest = iou.topk(min(MOST_CHOICES, iou.shape[2])).values
    return highest.sum(-1, keepdim=True).int().clamp_(min=1)


@dataclass(frozen=True)
class _Pairs:
    """All that the costs of pairs follow from.

    Attributes:
        candidates: the points inside any object.
        objects: (B, G, 4) x1 y1 x2 y2 float32.
        labels: (B, G) their classes.
        valid: (B, G) bool.
        boxes: x1, y1, x2, y2 of all predictions, each (B, 1, A) float32.
        logits: (B, C, P) of the candidates, float32.
        places: (2, B, 1, P) x and y of the candidates in pixels.
        strides: (B, 1, P) of the candidates.
    """

    candidates: Candidates
    objects: Tensor
    labels: Tensor
    valid: Tensor
    boxes: tuple[Tensor, ...]
    logits: Tensor
    places: Tensor
    strides: Tensor

    @classmethod
    def of(cls, boxes_BA4: Tensor, classes_BAC: Tensor, labels: LabelledBoxes, points: AnchorPoints) -> _Pairs:
        objects = labels.boxes.float()
        candidates = find_points_inside(objects, labels.valid, points, 0.0)
        return cls(
            candidates,
            objects,
            labels.classes,
            labels.valid,
            boxes_BA4.float().permute(2, 0, 1).contiguous().unsqueeze(2).unbind(0),
            rows_at(classes_BAC, candidates.index).float().mT.contiguous(),
            points.corners[candidates.index].permute(2, 0, 1).unsqueeze(2),
            points.strides[candidates.index, 0].unsqueeze(1),
        )

    def weigh(self, some: slice) -> tuple[Tensor, Tensor]:
        """Return the costs (B, g, P) of some objects with the candidates, and their overlaps (B, g, A) with all."""
        corners = self.objects[:, some].unsqueeze(-1).unbind(2)
        overlaps = _overlap(corners, self.boxes)
        width = self.candidates.index.shape[1]
        iou = overlaps.gather(2, self.candidates.index[:, None].expand(-1, overlaps.shape[1], -1))
        logit = self.logits.gather(1, self.labels[:, some, None].expand(-1, -1, width))
        cost = F.softplus(logit).sub_(logit * iou)
        cost *= logit.sigmoid_().sub_(iou).square_()
        cost.add_(iou.add_(_IOU_EPSILON).log_(), alpha=-IOU_WEIGHT)
        cost += self._distance_cost(corners)
        cost.clamp_(min=LEAST_COST)
        return cost.masked_fill_(~(self.candidates.real[:, None] & self.valid[:, some, None]), math.inf), overlaps

    def _distance_cost(self, corners: tuple[Tensor, ...]) -> Tensor:
        """Return 10^(strides from the object's centre - ``CENTRE_RADIUS``)."""
        x, y = ((corners[axis] + corners[axis + 2]) / 2 for axis in (0, 1))
        square = (self.places[0] - x).square_().add_((self.places[1] - y).square_())
        return square.sqrt_().div_(self.strides).sub_(CENTRE_RADIUS).mul_(math.log(10.0)).exp_()


def _overlap(objects: tuple[Tensor, ...], predicted: tuple[Tensor, ...]) -> Tensor:
    """Return the overlap of boxes x1, y1, x2, y2, whose shapes broadcast; with boxes turned inside out it is 0."""
    shared = None
    for low, high in ((0, 2), (1, 3)):
        common = torch.minimum(objects[high], predicted[high]).sub_(torch.maximum(objects[low], predicted[low]))
        shared = common.clamp_(min=0) if shared is None else shared.mul_(common.clamp_(min=0))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (objects, predicted)]
    return shared.div_((areas[0] + areas[1]).sub_(shared).clamp_(min=_LEAST_UNION))
