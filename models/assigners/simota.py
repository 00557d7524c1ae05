"""SimOTA, YOLOX's assignment (Ge et al., arXiv:2107.08430), for all images and objects of a padded batch at once.

An object gets the few anchor points whose predictions cost least for it, as many as its predictions overlap it well.
Only points near an object (the candidates) take part. There are few of them, so they are laid side by side first, and
every tensor over pairs has the shape (B, objects, candidates), never (B, objects, all points, classes).

Nothing here waits for a device: sizes follow from the labels' shape alone, and on the CPU from the candidates that
there are. Memory is bounded, see ``cheapest_points.py``.

Shape suffixes: B images, G objects (padded), A anchor points, C classes, P candidates (padded), T choices of an object,
S = G x T slots for positive points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints, rows_at
from models.assigners.candidates import Candidates
from models.assigners.centre_region import Region, find_candidates, is_own
from models.assigners.cheapest_points import LEAST_COST, Settled, choose, settle
from models.assigners.slots import by_point
from utils.precision import without_autocast

MOST_CHOICES = 10
"""Most points of an object, and of how many overlaps their number is the sum."""
IOU_WEIGHT = 3.0
_LEAST_LOG = -100.0


@dataclass(frozen=True)
class SimOTARule:
    """What differs between the published variants.

    Attributes:
        region: where the candidates of an object lie.
        penalty: cost of a candidate that is not the object's own.
        epsilon: added to the overlap before its logarithm.
    """

    region: Region
    penalty: float
    epsilon: float


SIMOTA_RULES: Mapping[str, SimOTARule] = MappingProxyType(
    {"official": SimOTARule(Region(1.5, False), 1e6, 1e-8), "mm": SimOTARule(Region(2.5, True), 1e5, 1e-7)}
)
"""``official``: the present YOLOX program. ``mm``: MMDetection, MMYOLO, and the first release of YOLOX."""


@dataclass(frozen=True)
class Labels:
    """Labelled objects of a batch.

    Attributes:
        boxes: (B, G, 4) centre x, centre y, width, height in pixels of the network input.
        classes: (B, G) int64.
        valid: (B, G) bool, False where the row is padding.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class PairCost(Protocol):
    """A further cost of pairs, such as that of keypoints; no tensor of it has more than one number per pair."""

    def at(self, points: Tensor) -> Callable[[slice], Tensor]:
        """Return a function that gives the weighted cost (B, g, P) float32 of some objects at points (B, P)."""
        ...


@dataclass(frozen=True)
class Assignment:
    """Which points are positive, in S slots per image of which only some are used; each point is in one slot at most.

    Attributes:
        point: (B, S) index of the anchor point; any index where the slot is not used.
        object: (B, S) index of the object that the point answers for.
        iou: (B, S) float32, overlap of the point's predicted box with the object, 0 where the slot is not used.
        used: (B, S) bool.
        points: A.
    """

    point: Tensor
    object: Tensor
    iou: Tensor
    used: Tensor
    points: int

    def dense(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return for every point: positive (B, A) bool, matched object (B, A) or -1, matched IoU (B, A) or 0."""
        matched = by_point(self.object, self.point, self.used, self.points, -1)
        return matched >= 0, matched, by_point(self.iou, self.point, self.used, self.points, 0.0)


@torch.no_grad()
def assign_simota(
    boxes_BA4: Tensor,
    objectness_BA: Tensor,
    classes_BAC: Tensor,
    labels: Labels,
    points: AnchorPoints,
    rule: SimOTARule,
    pair_cost: PairCost | None = None,
) -> Assignment:
    """Choose the positive points of a batch.

    An object takes its ``k`` cheapest candidates, ``k`` being the whole part of the sum of its ten highest overlaps
    with candidates, at least 1. A point that several objects take goes to the object to which it costs least among
    all, also among those that did not take it. Of equal costs the lower point and the lower object win. An image
    without candidates has no positive points. An object without a point of its own takes the cheapest of another
    one's, as the published programs do.

    Args:
        boxes_BA4: predicted boxes, centre x, centre y, width, height in pixels of the network input.
        objectness_BA: logits.
        classes_BAC: logits.
        labels: the objects.
        points: the A anchor points.
        rule: the variant.
        pair_cost: a further cost, or None.

    Returns:
        The assignment. All arithmetic is in float32.
    """
    images, objects = labels.valid.shape
    with without_autocast(boxes_BA4.device):
        if images * objects * len(points) == 0:
            return _no_matches(images, len(points), boxes_BA4.device)
        candidates = find_candidates(labels.boxes, labels.valid, points, rule.region)
        predicted = _Predicted.at(candidates, boxes_BA4, objectness_BA, classes_BAC)
        further = None if pair_cost is None else pair_cost.at(candidates.index)

        def weigh(some: slice) -> tuple[Tensor, Tensor]:
            cost, iou = _weigh(some, candidates, predicted, labels, points, rule, further)
            return cost, _how_many(iou)

        found = settle(choose(weigh, candidates, objects, MOST_CHOICES), candidates)
        iou = _overlap_of_owners(found, predicted, labels)
        return Assignment(candidates.index.gather(1, found.position), found.owner, iou, found.used, len(points))


@dataclass(frozen=True)
class Pairs:
    """What a choice rests on, for tests and parity.

    Attributes:
        point: (B, P) indices of the candidates' anchor points, in their order.
        candidate: (B, P) bool, False where the column is padding.
        cost: (B, G, P), infinite for padding.
        iou: (B, G, P), 0 for padding columns.
        count: (B, G) how many points an object takes before objects compete.
    """

    point: Tensor
    candidate: Tensor
    cost: Tensor
    iou: Tensor
    count: Tensor


@torch.no_grad()
def weigh_all_pairs(
    boxes_BA4: Tensor,
    objectness_BA: Tensor,
    classes_BAC: Tensor,
    labels: Labels,
    points: AnchorPoints,
    rule: SimOTARule,
    pair_cost: PairCost | None = None,
) -> Pairs:
    """Return cost and overlap of all pairs at once, with the arguments of ``assign_simota``; memory is not bounded."""
    candidates = find_candidates(labels.boxes, labels.valid, points, rule.region)
    predicted = _Predicted.at(candidates, boxes_BA4, objectness_BA, classes_BAC)
    further = None if pair_cost is None else pair_cost.at(candidates.index)
    cost, iou = _weigh(slice(0, labels.valid.shape[1]), candidates, predicted, labels, points, rule, further)
    return Pairs(candidates.index, candidates.real, cost, iou, _how_many(iou)[..., 0])


def _no_matches(images: int, points: int, device: torch.device) -> Assignment:
    index = torch.zeros(images, 0, dtype=torch.int64, device=device)
    return Assignment(index, index, index.float(), index.bool(), points)


@dataclass(frozen=True)
class _Predicted:
    """What the candidates predict.

    Attributes:
        boxes: (4, B, 1, P) centre x, centre y, width, height.
        score: (B, C, P) square root of class probability times objectness.
        none: (B, 1, P) cost of a pair if its object were of no class.
    """

    boxes: Tensor
    score: Tensor
    none: Tensor

    @classmethod
    def at(cls, candidates: Candidates, boxes: Tensor, objectness: Tensor, classes: Tensor) -> _Predicted:
        """Look the predictions up and make probabilities of logits."""
        score = rows_at(classes, candidates.index).float().sigmoid()
        score.mul_(rows_at(objectness[..., None], candidates.index).float().sigmoid()).sqrt_()
        none = score.neg().log1p_().clamp_(min=_LEAST_LOG).sum(-1).neg_()
        chosen = rows_at(boxes, candidates.index).float().permute(2, 0, 1).contiguous()
        return cls(chosen.unsqueeze(2), score.mT, none.unsqueeze(1))


def _how_many(iou: Tensor) -> Tensor:
    """Return (B, g, 1): how many points an object takes, from its overlaps (B, g, P)."""
    highest = iou.topk(min(MOST_CHOICES, iou.shape[2])).values
    return highest.sum(-1, keepdim=True).int().clamp_(min=1)


def _weigh(
    some: slice,
    candidates: Candidates,
    predicted: _Predicted,
    labels: Labels,
    points: AnchorPoints,
    rule: SimOTARule,
    further: Callable[[slice], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Return cost and overlap, both (B, g, P), of some objects with all candidates."""
    boxes = labels.boxes[:, some].float()
    iou = _pairwise_iou(boxes.permute(2, 0, 1).unsqueeze(-1), predicted.boxes)
    iou.masked_fill_(~candidates.real[:, None], 0.0)
    # Cross entropy with a one-hot target: that of no class at all, and what the object's own class changes.
    own = labels.classes[:, some, None].expand(-1, -1, predicted.score.shape[2])
    score = predicted.score.gather(1, own)
    cost = score.log().clamp_(min=_LEAST_LOG).neg_()
    cost += score.neg_().log1p_().clamp_(min=_LEAST_LOG)
    cost += predicted.none
    cost.add_((iou + rule.epsilon).log_(), alpha=-IOU_WEIGHT)
    if further is not None:
        cost += further(some)
    cost.add_(~is_own(boxes, candidates.index, points, rule.region), alpha=rule.penalty)
    # Overlaps that round to more than 1 would make costs below 0, which the order by bits does not know.
    cost.clamp_(min=LEAST_COST)
    return cost.masked_fill_(~(candidates.real[:, None] & labels.valid[:, some, None]), math.inf), iou


def _pairwise_iou(objects: Tensor, predicted: Tensor) -> Tensor:
    """Return the overlap of boxes (4, B, g, 1) with boxes (4, B, 1, P): centre x, centre y, width, height.

    Differences of centres are exact where boxes lie near each other; those of corners would cost small boxes digits.
    """
    shared = None
    for axis in (0, 1):
        side, other = objects[axis + 2], predicted[axis + 2]
        reach = (side + other).mul_(0.5).sub_((objects[axis] - predicted[axis]).abs_())
        common = torch.minimum(reach, torch.minimum(side, other)).clamp_(min=0)
        shared = common if shared is None else shared.mul_(common)
    union = (objects[2] * objects[3] + predicted[2] * predicted[3]).sub_(shared).clamp_(min=1e-16)
    return shared.div_(union)


def _overlap_of_owners(found: Settled, predicted: _Predicted, labels: Labels) -> Tensor:
    """Return (B, S) the overlap of what the slots predict with their objects, 0 where a slot is not used."""
    boxes = labels.boxes.float().gather(1, found.owner[..., None].expand(-1, -1, 4))
    there = predicted.boxes[:, :, 0].gather(2, found.position.expand(4, -1, -1))
    return _pairwise_iou(boxes.permute(2, 0, 1), there).where(found.used, 0.0)
