"""The loss of MS-DETR (arXiv:2401.03989): mixed supervision of every decoder layer, and of the encoder's proposals.

Deformable DETR's (arXiv:2010.04159) is the same without one-to-many supervision.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.assigners.hungarian import CostWeights, match, pair_costs
from models.assigners.set_pairs import SetPairs, pairs_of_matches
from models.losses.focal_classes import FocalClasses
from models.losses.one_to_many import ONE_TO_MANY_RECIPE, Gains, one_to_many_of
from models.losses.query_criterion import PARTS, QueryCriterion, as_objectness, branch_names, named_parts
from models.losses.set_targets import SetTargets
from models.set_outputs import SetLayer, SetOutputs, SetProposals
from utils.precision import full_precision, without_autocast

LOGGER = logging.getLogger("yolograph")

MS_DETR_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "set_class": 1.0,
        "set_box": 5.0,
        "set_giou": 2.0,
        "set_cost_focal": 2.0,
        "set_cost_box": 5.0,
        "set_cost_giou": 2.0,
        "focal_alpha": 0.25,
        "focal_gamma": 2.0,
        **ONE_TO_MANY_RECIPE,
        "enc_class": 2.0,
        "enc_box": 5.0,
        "enc_giou": 2.0,
        "enc_anchors": True,
    }
)
"""Recipe keys of the head, with the published values; one-to-many supervision is asked for by ``o2m: 1``."""

O2O, O2M, ENCODER = "", "o2m_", "enc_"
"""What stands before the names of the parts of each branch."""


def loss_groups(layers: int, one_to_many: bool, encoder: bool) -> dict[str, tuple[str, ...]]:
    """Return the names of the loss's parts by branch, in the order in which results show them.

    ``o2o`` has ``cls_0, box_0, giou_0`` and so on for every decoder layer, ``o2m`` the same as ``o2m_cls_0``, and
    ``enc`` has ``enc_cls, enc_box, enc_giou``. A head's ``loss_names`` are all of them one after the other.

    Args:
        layers: of the decoder.
        one_to_many: whether the model has the branch.
        encoder: whether it proposes its queries, which has a loss of its own.
    """
    groups = {"o2o": branch_names(O2O, layers)}
    if one_to_many:
        groups["o2m"] = branch_names(O2M, layers)
    if encoder:
        groups["enc"] = tuple(f"{ENCODER}{part}" for part in PARTS)
    return groups


class MixedPairs(NamedTuple):
    """Which queries learn which objects in every branch.

    Attributes:
        one: one to one, of every decoder layer.
        many: one to many, of every decoder layer; None where that is not asked for.
        encoder: one to one, of the encoder's tokens, a single layer; None where these are not proposals.
    """

    one: SetPairs
    many: SetPairs | None
    encoder: SetPairs | None


class MSDETRCriterion(QueryCriterion):
    """Loss of a decoder whose every layer is supervised one to one and, where the recipe says so, one to many too.

    Classes have the sigmoid focal loss; boxes L1 and generalised IoU. Every layer is matched by itself, all of them and
    the encoder's proposals in one copy from the device. Everything is divided by the objects of the nominal batch, also
    the one-to-many part, so it does not matter how that is cut. Tokens that are never proposed, in padding and at the
    border, have an anchor whose four numbers are 1 and take part, as published.

    Args:
        queries: of an image.
        hyp: keys of ``MS_DETR_RECIPE``, each optional.
        layers: of the decoder.
        one_to_many: whether the head has that branch.
        encoder: whether queries are proposals of the encoder.
        category_ids: of each class the label that stands for it, ascending; None where classes are labels.

    Attributes:
        gains: what the parts of each branch count, under the names of ``loss_groups``.
        many: how one-to-many supervision is wanted; None where the recipe does not, or the head cannot.

    Raises:
        ModelError: a value of the recipe is out of its range.
    """

    # Without a label for no object there is no telling how many objects are seen.
    watched = ("class_error",)

    def __init__(
        self,
        queries: int,
        hyp: Mapping[str, Any],
        layers: int,
        one_to_many: bool,
        encoder: bool,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        values = {key: hyp.get(key, default) for key, default in MS_DETR_RECIPE.items()}
        classes = FocalClasses(float(values["focal_alpha"]), float(values["focal_gamma"]))
        weights = CostWeights(*(float(values[f"set_cost_{part}"]) for part in ("focal", "box", "giou")))
        super().__init__(queries, classes, weights, category_ids=category_ids)
        wanted = one_to_many_of(hyp)
        self.many = wanted if one_to_many else None
        if one_to_many and wanted is None:
            LOGGER.warning("the decoder has a one-to-many branch, but the recipe's o2m is 0, so nothing learns from it")
        if wanted is not None and not one_to_many:
            LOGGER.warning(
                "the recipe's o2m is 1, but the decoder's supervision is none: there is no one-to-many branch"
            )
        self.on_anchors = bool(values["enc_anchors"])
        self.names = loss_groups(layers, one_to_many, encoder)
        self.gains = {
            branch: Gains(*(float(values[f"{prefix}_{part}"]) for part in ("class", "box", "giou")))
            for branch, prefix in (("o2o", "set"), ("o2m", "o2m"), ("enc", "enc"))
        }

    @property
    def resting(self) -> Mapping[str, int | None]:
        """The parts of one-to-many supervision where the recipe does not ask for it."""
        return dict.fromkeys(self.names.get("o2m", ())) if self.many is None else {}

    def forward(self, raw: SetOutputs, targets: SetTargets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh raw outputs.

        Args:
            raw: what the head said in training mode.
            targets: from ``prepare``.
            totals: denominators of the nominal batch, as ``targets.normalizers``.

        Returns:
            A scalar for every name of ``loss_groups``, with its gain, float32 (float64 for raw outputs of that kind);
            0 for a branch that there is not.
        """
        with without_autocast(raw.logits.device):
            totals = targets.normalizers if totals is None else totals
            totals = totals.to(raw.logits.device, non_blocking=True)
            pairs = self.assign(raw, targets)
            self.watch(raw.last, targets, pairs.one.layers(slice(-1, None)), totals)
            nothing = raw.logits.new_zeros((), dtype=full_precision(raw.logits).dtype)
            parts = {name: nothing for names in self.names.values() for name in names}
            one = self.terms(_decoder_layers(raw), targets, pairs.one, totals)
            parts |= named_parts(O2O, one, self.gains["o2o"])
            if pairs.many is not None:
                many = self.terms(raw.one_to_many, targets, pairs.many, totals)
                parts |= named_parts(O2M, many, self.gains["o2m"])
            if pairs.encoder is not None:
                proposed = SetLayer(raw.proposals.logits, raw.proposals.boxes)
                encoder = self.terms([proposed], as_objectness(targets), pairs.encoder, totals)
                weighed = [gain * part[0] for gain, part in zip(self.gains["enc"], encoder.unbind(0), strict=True)]
                parts |= dict(zip(self.names["enc"], weighed, strict=True))
        return parts

    @torch.no_grad()
    def assign(self, raw: SetOutputs, targets: SetTargets) -> MixedPairs:
        """Return which queries learn which objects in every layer of every branch; the device is waited for once."""
        layers = _decoder_layers(raw)
        costs = self.costs(layers, targets)
        if raw.proposals is not None:
            costs.append(self.proposal_costs(raw.proposals, targets))
        found = match(costs, targets.valid)
        (images, queries), objects = raw.boxes.shape[:2], targets.boxes.shape[1]
        one, many, encoder = pairs_of_matches(found[: len(layers)], images, queries, objects), None, None
        if self.many is not None and raw.one_to_many:
            many = self.assign_many(raw.one_to_many, targets, self.many.rule, one)
        if raw.proposals is not None:
            encoder = pairs_of_matches(found[len(layers) :], images, raw.proposals.boxes.shape[1], objects)
        return MixedPairs(one, many, encoder)

    @torch.no_grad()
    def proposal_costs(self, proposals: SetProposals, targets: SetTargets) -> Tensor:
        """Return (B, S, M), what it costs to let each token propose each object.

        As MS-DETR has it, anchors are held against objects, without regard to what the network says of them; or, as in
        Deformable DETR, boxes and the logit of class 0.
        """
        with without_autocast(proposals.boxes.device):
            if self.on_anchors:
                return pair_costs(0.0, full_precision(proposals.anchors), targets.boxes, self.cost_weights)
            proposed = SetLayer(proposals.logits, proposals.boxes)
            return self.costs([proposed], as_objectness(targets))[0]


def _decoder_layers(raw: SetOutputs) -> tuple[SetLayer, ...]:
    """Return what every layer says one to one, in the order of the layers."""
    return (*raw.earlier, raw.last)
