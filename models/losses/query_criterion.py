"""What criteria of heads for sets share: labels, the matching, and the losses of several layers at once.

Shape suffixes: K layers, B images, Q queries, L logits, M padded objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from data.samples import Batch
from models.assigners.assigned_points import AssignedPoints
from models.assigners.hungarian import TINY_AREA, CostWeights, Matches, match, pair_costs
from models.assigners.one_to_many import OneToManyRule, assign_one_to_many, drawn_order, pair_scores
from models.assigners.set_pairs import SetPairs
from models.heads.base import Criterion
from models.losses.iou import corner_iou
from models.losses.one_to_many import Gains
from models.losses.set_targets import SetTargets, set_targets
from models.losses.softmax_classes import SoftmaxClasses
from models.set_outputs import SetLayer, SetOutputs, extents
from utils.boxes import xywh_to_xyxy
from utils.precision import full_precision, without_autocast

PARTS = ("cls", "box", "giou")
"""Parts of the loss of a layer: class, absolute differences (L1) of boxes, and one minus the generalised IoU."""


def branch_names(prefix: str, layers: int) -> tuple[str, ...]:
    """Return the names of a branch's parts, such as ``o2m_cls_0, o2m_box_0, o2m_giou_0, o2m_cls_1``."""
    return tuple(f"{prefix}{part}_{layer}" for layer in range(layers) for part in PARTS)


class ClassLoss(Protocol):
    """How a head's queries say classes; ``SoftmaxClasses`` and ``FocalClasses`` are such."""

    def probabilities(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), how likely each query has each object's class."""
        ...

    def costs(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), what the class counts in the matching."""
        ...

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (...), every query's loss, for labels (...) that are below 0 where there is no object."""
        ...

    def total(self, totals: Tensor) -> Tensor:
        """Return what sums of ``losses`` are divided by."""
        ...


class QueryCriterion(Criterion):
    """Base of the losses of heads that answer with a set.

    Args:
        queries: of an image.
        classes: how queries say classes.
        cost_weights: what the parts of a pair's cost count in the matching.
        no_object: weight of the label of queries without an object, where classes exclude each other.
        category_ids: of each class the label that stands for it, ascending; None where classes are labels.
    """

    def __init__(
        self,
        queries: int,
        classes: ClassLoss,
        cost_weights: CostWeights,
        no_object: float = 1.0,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.queries, self.classes, self.cost_weights, self.no_object = queries, classes, cost_weights, no_object
        # No buffer, so that it stays where labels are.
        self.label_of_class = None if category_ids is None else torch.tensor(list(category_ids), dtype=torch.int64)
        self._seen: dict[str, Tensor] = {}

    def seen(self) -> Mapping[str, Tensor]:
        """Return what DETR's family logs of the answers of the latest call.

        Returns:
            ``class_error``: percent of matched queries whose likeliest label is not the object's, 0 without any. And,
            where classes can say that there is no object, ``cardinality_error``: by how many the queries that see an
            object differ from the objects, mean over pictures.
        """
        return self._seen

    @torch.no_grad()
    def watch(self, layer: SetLayer, targets: SetTargets, pairs: SetPairs, totals: Tensor) -> None:
        """Find out what ``seen`` returns.

        Args:
            layer: the one that answers.
            targets: of this micro-batch.
            pairs: its one-to-one pairs, a single layer.
            totals: denominators of the nominal batch, on the device of the layer.
        """
        labels = labels_of(pairs, targets)[0]
        wrong = (layer.logits.argmax(-1) != labels) & (labels >= 0)
        self._seen = {"class_error": 100 * wrong.sum() / totals[2].clamp(min=1)}
        if isinstance(self.classes, SoftmaxClasses):
            apart = self.classes.sees_object(layer.logits).sum(1) - targets.valid.sum(1)
            self._seen["cardinality_error"] = apart.abs().sum() / totals[3].clamp(min=1)

    def prepare(self, batch: Batch) -> SetTargets:
        """Collect the labels; nothing can be matched before the forward pass."""
        return set_targets(batch, self.queries, self.no_object, self.label_of_class)

    def costs(self, layers: Sequence[SetLayer], targets: SetTargets) -> list[Tensor]:
        """Return of every layer (B, Q, M), what it costs to let each query answer for each object."""
        with torch.no_grad(), without_autocast(targets.boxes.device):
            stack = stacked(layers)
            classes = self.classes.costs(stack.logits, targets)
            return list(pair_costs(classes, stack.boxes, targets.boxes, self.cost_weights).unbind(0))

    def match(self, layers: Sequence[SetLayer], targets: SetTargets) -> list[Matches]:
        """Return which query answers for which object, for every layer; the device is waited for once.

        Args:
            layers: with equal numbers of queries.
            targets: of the batch.
        """
        return match(self.costs(layers, targets), targets.valid)

    def assign_many(
        self,
        layers: Sequence[SetLayer],
        targets: SetTargets,
        rule: OneToManyRule,
        one_to_one: SetPairs | None = None,
    ) -> SetPairs:
        """Return which queries learn which objects where several may learn one; the device is not waited for.

        Args:
            layers: with equal numbers of queries.
            targets: of the batch.
            rule: of the assignment.
            one_to_one: pairs of the same layers, for a rule that merges.
        """
        with torch.no_grad(), without_autocast(targets.boxes.device):
            stack, order = stacked(layers), None
            probabilities = self.classes.probabilities(stack.logits, targets)
            scores = pair_scores(probabilities, stack.boxes, targets.boxes, rule.iou_share)
            if rule.positive_share > 0:
                order = drawn_order(targets.boxes, targets.valid, len(layers), stack.boxes.shape[2])
            return assign_one_to_many(scores, targets.valid, rule, order, one_to_one)

    def terms(self, layers: Sequence[SetLayer], targets: SetTargets, pairs: SetPairs, totals: Tensor) -> Tensor:
        """Return this micro-batch's share of the losses of several layers, without gains.

        Args:
            layers: with equal numbers of queries.
            targets: of this micro-batch.
            pairs: what its queries learn.
            totals: denominators of the nominal batch, on the device of the layers.

        Returns:
            (3, K): the parts in the order of ``PARTS`` of every layer.
        """
        stack = stacked(layers)
        losses = self.classes.losses(stack.logits, labels_of(pairs, targets))
        box, giou = box_losses(stack.boxes, targets, pairs)
        count = totals[0].clamp(min=1)
        return torch.stack((losses.sum((1, 2)) / self.classes.total(totals), box / count, giou / count))

    @torch.no_grad()
    def assignment(self, raw: SetOutputs, batch: Batch) -> AssignedPoints:
        """Return the centres of the boxes of matched queries and their objects, for pictures.

        A query has no place of its own, so where its box lies stands for it.
        """
        targets = self.prepare(batch).to(raw.logits.device)
        (found,) = self.match([raw.last], targets)
        height, width = extents(raw.sizes, batch.images.shape[-2:], raw.boxes.device)
        x, y = (raw.boxes[..., 0] * width, raw.boxes[..., 1] * height)
        places = torch.stack((x, y), -1)[found.image, found.query]
        return AssignedPoints(found.image, found.object, places)


def stacked(layers: Sequence[SetLayer]) -> SetLayer:
    """Return layers side by side, (K, B, Q, L) and (K, B, Q, 4), at least float32."""
    logits, boxes = ([full_precision(value) for value in values] for values in zip(*layers, strict=True))
    if len(layers) == 1:
        return SetLayer(logits[0][None], boxes[0][None])
    return SetLayer(torch.stack(logits), torch.stack(boxes))


def as_objectness(targets: SetTargets) -> SetTargets:
    """Return targets all of whose objects are of class 0, which stands for any object then."""
    return replace(targets, classes=torch.zeros_like(targets.classes))


def labels_of(pairs: SetPairs, targets: SetTargets) -> Tensor:
    """Return (K, B, Q), the label that each query learns, below 0 where there is none."""
    if targets.classes.shape[1] == 0:
        return pairs.owner
    classes = targets.classes.expand(len(pairs.owner), -1, -1).gather(2, pairs.owner.clamp(min=0))
    return classes.where(pairs.owner >= 0, pairs.owner)


def box_losses(boxes: Tensor, targets: SetTargets, pairs: SetPairs) -> tuple[Tensor, Tensor]:
    """Return what the boxes of pairs miss in every layer.

    Args:
        boxes: (K, B, Q, 4) predicted, centre x, centre y, width, height as fractions, at least float32.
        targets: of the batch.
        pairs: of the same layers.

    Returns:
        (K,) twice: the sum of absolute differences, and the sum of one minus the generalised IoU.
    """
    own = boxes.gather(2, pairs.query[..., None].expand(-1, -1, -1, 4))
    objects = targets.boxes.expand(len(boxes), -1, -1, -1)
    goal = objects.gather(2, pairs.object[..., None].expand(-1, -1, -1, 4)).to(own.dtype)
    # Unused slots compare a box with itself, so that whatever stands there leaves no trace in a gradient.
    goal = goal.where(pairs.used[..., None], own.detach())
    overlap = corner_iou(xywh_to_xyxy(own), xywh_to_xyxy(goal), "giou", TINY_AREA)
    distance = (own - goal).abs().sum(-1)
    return tuple(value.where(pairs.used, 0).sum((1, 2)) for value in (distance, 1 - overlap))


def named_parts(prefix: str, terms: Tensor, gains: Gains) -> dict[str, Tensor]:
    """Return the parts of a branch under the names of ``branch_names``, with their gains.

    Args:
        prefix: before the names.
        terms: (3, K) without gains.
        gains: of the branch.
    """
    weighed = torch.stack([gain * part for gain, part in zip(gains, terms.unbind(0), strict=True)], 1)
    return dict(zip(branch_names(prefix, terms.shape[1]), weighed.flatten().unbind(0), strict=True))
