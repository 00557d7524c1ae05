"""The set loss of DETR (Carion et al., arXiv:2005.12872), as YOLOS has it (Fang et al., arXiv:2106.00666).

Every object is matched with one query; matched queries learn its class and box, all others that there is no object.

Shape suffixes: B images, Q queries, L labels, M padded objects, n pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.packed_arrays import tensors_to_device
from data.samples import Batch
from models.assigners.assigned_points import AssignedPoints
from models.assigners.hungarian import TINY_AREA, CostWeights, Matches, match, pair_costs
from models.heads.base import Criterion
from models.losses.iou import corner_iou
from models.set_outputs import SetLayer, SetOutputs, extents
from utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.precision import full_precision, without_autocast

YOLOS_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "set_class": 1.0,
        "set_box": 5.0,
        "set_giou": 2.0,
        "set_no_object": 0.1,
        "set_cost_class": 1.0,
        "set_cost_box": 5.0,
        "set_cost_giou": 2.0,
        "set_earlier": 0.0,
    }
)
"""Recipe keys of the head, with the published values."""


@dataclass
class SetTargets:
    """Labelled objects of a batch, padded.

    Attributes:
        boxes: (B, M, 4) float32, centre x, centre y, width, height as fractions of the picture's valid area.
        classes: (B, M) int64, index of the logit that stands for the object's class.
        valid: (B, M) bool, False where the row is padding.
        normalizers: (2,) float32, number of objects, and the sum of the weights of all queries' labels.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor
    normalizers: Tensor

    def to(self, device: torch.device) -> SetTargets:
        """Return the targets on ``device``, in one copy that nobody waits for."""
        return tensors_to_device(self, device)


def set_targets(batch: Batch, queries: int, no_object: float, label_of_class: Tensor | None = None) -> SetTargets:
    """Collect the labels of a batch, wherever it lies.

    Args:
        batch: for training.
        queries: of an image; further objects stay unmatched.
        no_object: weight of the label of queries without an object; all others weigh 1.
        label_of_class: (C,) int64, the logit that stands for each class; None where classes are labels.
    """
    height, width = extents(batch.sizes, batch.images.shape[-2:], batch.boxes.device)
    x, y, w, h = xyxy_to_xywh(batch.boxes.float()).unbind(-1)
    classes = batch.classes if label_of_class is None else label_of_class.to(batch.classes.device)[batch.classes]
    objects = batch.valid.sum(1)
    matched = objects.clamp(max=queries)
    weights = matched + (queries - matched) * no_object
    return SetTargets(
        torch.stack((x / width, y / height, w / width, h / height), -1),
        classes,
        batch.valid,
        torch.stack((objects.sum().float(), weights.sum().float())),
    )


class SoftmaxClasses:
    """Classes that exclude each other, with one more label behind them, L, that says that there is no object.

    Args:
        no_object: weight of that label in the mean; all others weigh 1.
    """

    def __init__(self, no_object: float) -> None:
        self.no_object = no_object

    def costs(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (B, Q, M), minus the probability of each object's class, for logits (B, Q, L + 1)."""
        index = targets.classes[:, None].expand(-1, logits.shape[1], -1)
        return -logits.softmax(-1).gather(2, index)

    def loss(self, logits: Tensor, targets: SetTargets, found: Matches, totals: Tensor) -> Tensor:
        """Return the cross entropy of all queries as their weighted mean over the nominal batch.

        Args:
            logits: (B, Q, L + 1), at least float32.
            targets: of this micro-batch.
            found: its pairs.
            totals: (2,) objects and weights of the nominal batch.
        """
        nothing = logits.shape[2] - 1
        labels = torch.full(logits.shape[:2], nothing, dtype=torch.int64, device=logits.device)
        labels[found.image, found.query] = targets.classes[found.image, found.object]
        weights = logits.new_ones(nothing + 1)
        weights[nothing] = self.no_object
        # Without objects, and with a weight of 0 for the rest, nothing is left to learn: 0 / tiny.
        total = totals[1].clamp(min=torch.finfo(torch.float32).tiny)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights, reduction="sum") / total


def box_losses(boxes: Tensor, targets: SetTargets, found: Matches, totals: Tensor) -> tuple[Tensor, Tensor]:
    """Return what matched boxes miss, per object of the nominal batch.

    Args:
        boxes: (B, Q, 4) predicted, centre x, centre y, width, height as fractions, at least float32.
        targets: of this micro-batch.
        found: its pairs.
        totals: (2,) objects and weights of the nominal batch.

    Returns:
        The sum of absolute differences, and one minus the generalised IoU.
    """
    own = boxes[found.image, found.query]
    goal = targets.boxes[found.image, found.object].to(own.dtype)
    overlap = corner_iou(xywh_to_xyxy(own), xywh_to_xyxy(goal), "giou", TINY_AREA)
    count = totals[0].clamp(min=1)
    return (own - goal).abs().sum() / count, (1 - overlap).sum() / count


class SetCriterion(Criterion):
    """Loss of a head that answers with a set of objects, each of them matched with one query.

    The parts are ``cls``, the cross entropy of all queries; ``box``, absolute differences (L1) of matched boxes; and
    ``giou``. Where the recipe's ``set_earlier`` is above 0 and the head gives earlier layers, each of these is matched
    by itself, and its parts are added with that weight. Everything is in float32 at least. The denominators follow
    from labels alone, so it does not matter how a nominal batch is cut.

    Args:
        queries: of an image.
        hyp: keys of ``YOLOS_RECIPE``, each optional.
        category_ids: of each class the label that stands for it, ascending; None where classes are labels.
    """

    def __init__(self, queries: int, hyp: Mapping[str, Any], category_ids: Sequence[int] | None = None) -> None:
        super().__init__()
        self.queries = queries
        values = {key: float(hyp.get(key, default)) for key, default in YOLOS_RECIPE.items()}
        self.gains = {"cls": values["set_class"], "box": values["set_box"], "giou": values["set_giou"]}
        self.cost_weights = CostWeights(values["set_cost_class"], values["set_cost_box"], values["set_cost_giou"])
        self.weight_of_earlier = values["set_earlier"]
        self.classes = SoftmaxClasses(values["set_no_object"])
        # No buffer, so that it stays where labels are.
        self.label_of_class = None if category_ids is None else torch.tensor(list(category_ids), dtype=torch.int64)

    def prepare(self, batch: Batch) -> SetTargets:
        """Collect the labels; nothing can be matched before the forward pass."""
        return set_targets(batch, self.queries, self.classes.no_object, self.label_of_class)

    def forward(self, raw: SetOutputs, targets: SetTargets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh raw outputs.

        Args:
            raw: what the head said.
            targets: from ``prepare``.
            totals: (2,) objects and weights of the nominal batch.

        Returns:
            ``cls``, ``box`` and ``giou``: scalars with their gains, float32 (float64 for raw outputs of that kind).
        """
        with without_autocast(raw.logits.device):
            totals = targets.normalizers if totals is None else totals
            totals = totals.to(raw.logits.device, non_blocking=True)
            layers = self._supervised(raw)
            parts = dict.fromkeys(self.gains, raw.logits.new_zeros(()))
            for number, (layer, found) in enumerate(zip(layers, self.match(layers, targets), strict=True)):
                weight = 1.0 if number == 0 else self.weight_of_earlier
                box, giou = box_losses(layer.boxes, targets, found, totals)
                own = {"cls": self.classes.loss(layer.logits, targets, found, totals), "box": box, "giou": giou}
                parts = {name: parts[name] + weight * gain * own[name] for name, gain in self.gains.items()}
        return parts

    def match(self, layers: Sequence[SetLayer], targets: SetTargets) -> list[Matches]:
        """Return which query answers for which object, for every layer; the device is waited for once."""
        with torch.no_grad(), without_autocast(targets.boxes.device):
            costs = [
                pair_costs(self.classes.costs(layer.logits, targets), layer.boxes, targets.boxes, self.cost_weights)
                for layer in map(_in_full, layers)
            ]
            return match(costs, targets.valid)

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

    @torch.no_grad()
    def mistakes(self, raw: SetOutputs, targets: SetTargets) -> dict[str, Tensor]:
        """Return what DETR's family logs beside the loss, without a gradient.

        Returns:
            ``class_error``: percent of matched queries whose likeliest label is not the object's, 0 without any.
            ``cardinality_error``: by how many the queries that see an object differ from the objects, mean over images.
        """
        (found,) = self.match([raw.last], targets)
        likeliest = raw.logits.argmax(-1)
        wrong = likeliest[found.image, found.query] != targets.classes[found.image, found.object]
        seen = (likeliest != raw.logits.shape[-1] - 1).sum(1)
        apart = (seen - targets.valid.sum(1)).abs().float()
        count = max(len(wrong), 1), max(len(apart), 1)
        return {"class_error": 100 * wrong.sum() / count[0], "cardinality_error": apart.sum() / count[1]}

    def _supervised(self, raw: SetOutputs) -> list[SetLayer]:
        """Return the layers that learn, at least float32, the one that answers first."""
        earlier = raw.earlier if self.weight_of_earlier > 0 else ()
        return [_in_full(layer) for layer in (raw.last, *earlier)]


def _in_full(layer: SetLayer) -> SetLayer:
    return SetLayer(full_precision(layer.logits), full_precision(layer.boxes))
