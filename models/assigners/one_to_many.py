"""One-to-many assignment of MS-DETR (Zhao et al., arXiv:2401.03989): several queries learn the same object.

Everything has sizes that follow from shapes, for all layers and images at once, so nobody waits for the device.

Shape suffixes: K layers, B images, Q queries, M padded objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.assigners.hungarian import TINY_AREA
from models.assigners.set_pairs import NOTHING, SetPairs
from models.losses.iou import corner_iou
from utils.boxes import xywh_to_xyxy


@dataclass(frozen=True)
class OneToManyRule:
    """Which queries learn an object.

    Attributes:
        k: most queries of an object, 1 or more.
        threshold: least score, 0..1, that makes a query positive; an object's best query is positive anyway.
        iou_share: what the overlap counts in a score, 0..1; the probability of the object's class counts the rest.
        positive_share: most positive queries of an image as a share of its queries; the ones beyond it are drawn out.
            0 for no limit.
        merge: whether each query that is matched one to one is a pair too, unless it has another one already. Every
            query has one object at most then.
    """

    k: int = 6
    threshold: float = 0.4
    iou_share: float = 0.7
    positive_share: float = 0.0
    merge: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.k != int(self.k):
            raise ValueError(f"o2m_k must be a whole number of 1 or more, but it is {self.k}")
        for name in ("threshold", "iou_share", "positive_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"o2m_{name} must be a number from 0 to 1, but it is {getattr(self, name)}")


def pair_scores(probabilities: Tensor, boxes: Tensor, objects: Tensor, iou_share: float) -> Tensor:
    """Return how well each query answers for each object.

    Args:
        probabilities: (K, B, Q, M) of every object's class.
        boxes: (K, B, Q, 4) predicted, centre x, centre y, width, height as fractions, at least float32.
        objects: (B, M, 4) labelled, in the same form and unit.
        iou_share: what the overlap counts, 0..1; the probability counts the rest.

    Returns:
        (K, B, Q, M) in 0..1.
    """
    corners = xywh_to_xyxy(objects.to(boxes.dtype))
    overlap = corner_iou(xywh_to_xyxy(boxes)[..., None, :], corners[:, None], "iou", TINY_AREA)
    return iou_share * overlap + (1 - iou_share) * probabilities


@torch.no_grad()
def assign_one_to_many(
    scores: Tensor, valid: Tensor, rule: OneToManyRule, order: Tensor | None = None, one_to_one: SetPairs | None = None
) -> SetPairs:
    """Let each object be learnt by its best queries, as many as are positive for it.

    A query is positive where the score of the object that it answers for best reaches the threshold, and where it is
    the best query of any object. An object that n positive queries answer for best is learnt by the min(n, k) queries
    of the highest scores for it, whatever these answer for best; so a query may learn several objects, and then has
    the class of the one of its highest score. An object that no positive query answers for best is learnt by none.

    Args:
        scores: (K, B, Q, M); what is not a number counts as worse than any score.
        valid: (B, M) bool, False where an object is padding.
        rule: the rule.
        order: (K, B, Q) numbers by which positive queries stay that are too many, the lowest ones first; read where the
            rule has a ``positive_share``.
        one_to_one: the pairs of the same layers; read where the rule merges.

    Returns:
        The pairs, k slots for every object; a slot for every query where the rule merges.
    """
    layers, images, queries, objects = scores.shape
    if not scores.numel():
        empty = torch.zeros((layers, images, 0), dtype=torch.int64, device=scores.device)
        return SetPairs(empty, empty, empty.bool(), empty.new_full((layers, images, queries), NOTHING))
    scores = scores.nan_to_num(-1.0, neginf=-torch.inf).masked_fill(~valid[:, None], -torch.inf).transpose(2, 3)
    wanted = _wanted(scores, valid, rule, order)
    best, query = scores.topk(min(rule.k, queries), 3)
    # A query that only pads has no score, and is nobody's.
    used = (torch.arange(query.shape[3], device=query.device) < wanted[..., None]) & (best > -torch.inf)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(3, query, used)
    highest, owner = scores.masked_fill(~chosen, -torch.inf).max(2)
    owner = owner.where(highest > -torch.inf, NOTHING)
    if rule.merge:
        return _merged(owner, one_to_one)
    objects_of_slots = torch.arange(objects, device=query.device)[:, None].expand_as(query)
    return SetPairs(query.flatten(2), objects_of_slots.flatten(2), used.flatten(2), owner)


def _wanted(scores: Tensor, valid: Tensor, rule: OneToManyRule, order: Tensor | None) -> Tensor:
    """Return (K, B, M), how many positive queries answer for each object best, for scores (K, B, M, Q)."""
    queries = scores.shape[3]
    highest, favourite = scores.max(2)
    # The best query of an object that is padding is written into a column that is cut off.
    first = scores.argmax(3).where(valid, queries)
    reached = torch.zeros((*highest.shape[:2], queries + 1), dtype=torch.bool, device=scores.device)
    reached = reached.scatter(2, first, True)[..., :queries]
    positive = reached | (highest >= rule.threshold)
    if rule.positive_share > 0:
        positive = _drawn(positive, order, max(int(rule.positive_share * queries), 1))
    counts = torch.zeros(scores.shape[:3], dtype=torch.int64, device=scores.device)
    return counts.scatter_add(2, favourite, positive.long())


def _drawn(positive: Tensor, order: Tensor, most: int) -> Tensor:
    """Return ``positive`` (K, B, Q) with at most so many left in an image, those of the lowest numbers in ``order``."""
    rank = order.masked_fill(~positive, torch.inf).argsort(2).argsort(2)
    return positive & (rank < most)


def _merged(owner: Tensor, one_to_one: SetPairs) -> SetPairs:
    """Return the pairs of owners (K, B, Q), and of one-to-one matches where a query has no owner."""
    owner = owner.where(owner != NOTHING, one_to_one.owner)
    query = torch.arange(owner.shape[2], device=owner.device).expand_as(owner)
    return SetPairs(query, owner.clamp(min=0), owner != NOTHING, owner)


def drawn_order(boxes: Tensor, valid: Tensor, layers: int, queries: int) -> Tensor:
    """Return numbers as good as random that follow from the labels of a picture alone.

    So the same step draws the same, however a batch is cut and wherever a run goes on. Augmentation moves the labels,
    so the draw differs from epoch to epoch.

    Args:
        boxes: (B, M, 4) float32 labelled boxes.
        valid: (B, M) bool, False where an object is padding.
        layers: K.
        queries: Q.

    Returns:
        (K, B, Q) float64 in 0..1.
    """
    device = boxes.device
    bits = boxes.float().contiguous().view(torch.int32).long().unbind(2)
    seed = (_mixed(sum(side * factor for side, factor in zip(bits, _FACTORS, strict=True))) * valid).sum(1)
    place = torch.arange(layers * queries, device=device).view(layers, 1, queries) * _STEP
    return (_mixed(seed[None, :, None] + place) & _LOW).double() / _LOW


# Odd constants that spread bits; products wrap around within 64 bits.
_FACTORS = (0x1F85EBCA6B2C2AE3, 0x2545F4914F6CDD1D, 0x27D4EB2F165667C5, 0x369DEA0F31A53F85)
_STEP = 0x1E3779B97F4A7C15
_LOW = (1 << 52) - 1


def _mixed(values: Tensor) -> Tensor:
    """Return whole numbers with their bits stirred."""
    values = (values ^ (values >> 31)) * _FACTORS[0]
    values = (values ^ (values >> 29)) * _FACTORS[1]
    return values ^ (values >> 32)
