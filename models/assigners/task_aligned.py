"""Task-aligned assignment (Feng et al., arXiv:2108.07755), as YOLOv8 and YOLOv6 have it, for whole padded batches.

An object gets the points inside it that predict its class and its box best, and each of them a target score that grows
with how well it does.

Only points inside any object of their image (the candidates) take part, which are laid side by side first. Nothing here
waits for a device: all sizes follow from shapes, and on the CPU from the candidates that there are. Memory is bounded:
objects are taken in pieces, so that a piece has at most ``MOST_PAIRS`` pairs (or one object of every image), whatever
the number of objects.

Shape suffixes: B images, G objects (padded), A anchor points, C classes, P candidates (padded), S slots for claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints, rows_at
from models.assigners.candidates import Candidates, find_points_inside
from models.assigners.scored_points import Claims, Favourites, LabelledBoxes, ScoredPoints, inside, no_points, pieces
from models.assigners.slots import contested_and_first
from models.losses.iou import IouKind, corner_iou
from utils.precision import without_autocast

MOST_PAIRS = 1 << 20
_BIG = 1 << 31


@dataclass(frozen=True)
class TaskAlignedRule:
    """What differs between the families.

    Attributes:
        most: points that an object may claim.
        score_power: of the probability of the object's class in the worth of a pair.
        overlap_power: of the overlap in the worth of a pair.
        overlap: which overlap; below 0 it counts 0.
        overlap_eps: its small number.
        score_eps: small number in the denominator of the target scores.
    """

    most: int
    score_power: float
    overlap_power: float
    overlap: IouKind
    overlap_eps: float
    score_eps: float

    def worth(self, score: Tensor, overlap: Tensor) -> Tensor:
        """Return how well points do for objects, from probabilities and overlaps of the same shape."""
        return score.pow(self.score_power).mul_(overlap.pow(self.overlap_power))


TASK_ALIGNED_RULES: Mapping[str, TaskAlignedRule] = MappingProxyType(
    {
        "yolov8": TaskAlignedRule(10, 0.5, 6.0, "ciou", 1e-7, 1e-9),
        "yolov6": TaskAlignedRule(13, 1.0, 6.0, "iou", 1e-9, 1e-7),
    }
)


@torch.no_grad()
def assign_task_aligned(
    boxes_BA4: Tensor, classes_BAC: Tensor, labels: LabelledBoxes, points: AnchorPoints, rule: TaskAlignedRule
) -> ScoredPoints:
    """Choose the positive points of a batch and their target scores.

    The worth of a pair is ``score^a * overlap^b``. An object claims the points of the largest worth among those inside
    its box; a pair without worth is no claim. A point that several objects claim goes to the object that its box
    overlaps most, also to one that did not claim it. A target score is the pair's worth, scaled so that the largest
    of an object is the object's largest overlap. Of equals the lower point and the lower object win.

    Args:
        boxes_BA4: predicted boxes, x1 y1 x2 y2 in pixels of the network input.
        classes_BAC: logits.
        labels: the objects.
        points: the A anchor points; their centres count.
        rule: the variant.

    Returns:
        The assignment. All arithmetic is in float32. Levels with few points need no care.
    """
    images, objects = labels.valid.shape
    with without_autocast(boxes_BA4.device):
        if images * objects * len(points) == 0:
            return no_points(images, len(points), boxes_BA4.device)
        candidates = find_points_inside(labels.boxes.float(), labels.valid, points, 0.5)
        width = candidates.index.shape[1]
        if width == 0:
            return no_points(images, len(points), boxes_BA4.device)
        predicted = _Predicted.at(candidates, boxes_BA4, classes_BAC, points)
        claims, overlap, favourites = _claim(predicted, labels, rule)
        contested, used = contested_and_first(claims.point, claims.real, width)
        owner = favourites.object.gather(1, claims.point).where(contested, claims.object)
        overlap = favourites.overlap.gather(1, claims.point).where(contested, overlap)
        image = torch.arange(images, device=owner.device)[:, None]
        score = predicted.logits[image, claims.point, labels.classes.gather(1, owner)].sigmoid()
        worth = rule.worth(score, overlap).where(used, 0.0)
        best_worth = _largest_of_object(worth, owner, objects)
        best_overlap = _largest_of_object(overlap.where(used, 0.0), owner, objects)
        scale = best_overlap / (best_worth + rule.score_eps)
        point = candidates.index.gather(1, claims.point)
        return ScoredPoints(point, owner, worth * scale.gather(1, owner), used, len(points))


@dataclass(frozen=True)
class _Predicted:
    """What the candidates predict, and where they are.

    Attributes:
        boxes: (B, 1, P, 4) x1 y1 x2 y2 float32, one plane per edge, so that pairs are read in a row.
        logits: (B, P, C) float32.
        places: (B, 1, P, 2) x and y in pixels.
        real: (B, 1, P) bool, False where the column is padding.
    """

    boxes: Tensor
    logits: Tensor
    places: Tensor
    real: Tensor

    @classmethod
    def at(cls, candidates: Candidates, boxes: Tensor, classes: Tensor, points: AnchorPoints) -> _Predicted:
        """Look the candidates up."""
        planes = rows_at(boxes.float(), candidates.index).permute(2, 0, 1).contiguous()
        return cls(
            planes[:, :, None].movedim(0, -1),
            rows_at(classes, candidates.index).float(),
            points.centres[candidates.index][:, None],
            candidates.real[:, None],
        )


def _claim(predicted: _Predicted, labels: LabelledBoxes, rule: TaskAlignedRule) -> tuple[Claims, Tensor, Favourites]:
    """Let every object claim candidates.

    Returns:
        The claims, whose points are columns of candidates; their overlaps (B, S); whom each candidate overlaps most.
    """
    images, objects = labels.valid.shape
    width = predicted.logits.shape[1]
    most = min(rule.most, width)
    order = torch.arange(width - 1, -1, -1, device=predicted.logits.device)
    favourites = Favourites(images, width, predicted.logits.device)
    columns, overlaps, real = [], [], []
    for some in pieces(objects, images * width, MOST_PAIRS):
        boxes, valid = labels.boxes[:, some, None].float(), labels.valid[:, some]
        overlap = corner_iou(predicted.boxes, boxes, rule.overlap, rule.overlap_eps).clamp_(min=0)
        favourites.look_at(overlap, valid, some.start)
        own = labels.classes[:, None, some].expand(-1, width, -1)
        worth = rule.worth(predicted.logits.gather(2, own).mT.contiguous().sigmoid_(), overlap)
        worth.masked_fill_(~(inside(boxes, predicted.places) & predicted.real & valid[..., None]), 0.0)
        # A float of 0 or more sorts like the whole number of the same bits; with the place behind it no two are equal.
        key = (worth.view(torch.int32).long() * _BIG).add_(order).topk(most).values
        column = (width - 1) - (key & (_BIG - 1))
        columns.append(column)
        overlaps.append(overlap.gather(2, column))
        real.append(worth.gather(2, column) > 0)
    column = torch.cat(columns, 1)
    claimer = torch.arange(objects, device=column.device)[:, None].expand_as(column)
    claims = Claims(column.flatten(1), claimer.flatten(1), torch.cat(real, 1).flatten(1))
    return claims, torch.cat(overlaps, 1).flatten(1), favourites


def _largest_of_object(values_BS: Tensor, object_BS: Tensor, objects: int) -> Tensor:
    """Return (B, G), the largest value in the slots of each object, at least 0."""
    largest = values_BS.new_zeros(len(values_BS), objects)
    return largest.scatter_reduce(1, object_BS, values_BS, "amax")
