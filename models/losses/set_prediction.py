"""The set loss of DETR (Carion et al., arXiv:2005.12872), as YOLOS has it (Fang et al., arXiv:2106.00666).

Every object is matched with one query; matched queries learn its class and box, all others that there is no object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from models.assigners.hungarian import CostWeights
from models.assigners.set_pairs import SetPairs, pairs_of_matches
from models.losses.one_to_many import ONE_TO_MANY_RECIPE, one_to_many_of
from models.losses.query_criterion import QueryCriterion, branch_names, named_parts
from models.losses.set_targets import SetTargets
from models.losses.softmax_classes import SoftmaxClasses
from models.set_outputs import SetLayer, SetOutputs
from utils.precision import without_autocast

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
        **ONE_TO_MANY_RECIPE,
    }
)
"""Recipe keys of the head, with the published values; one-to-many supervision is not YOLOS's, and off."""

O2M = "o2m_"
"""Before the names of the parts of one-to-many supervision."""


class SetCriterion(QueryCriterion):
    """Loss of a head that answers with a set of objects, each of them matched with one query.

    The parts are ``cls``, the cross entropy of all queries; ``box``, absolute differences (L1) of matched boxes; and
    ``giou``. Where the recipe's ``set_earlier`` is above 0 and the head gives earlier layers, each of these is matched
    by itself, and its parts are added with that weight. Where the recipe asks for one-to-many supervision (``o2m``),
    several queries of every earlier layer learn the same object besides; these losses are parts of their own, such as
    ``o2m_cls_0``. Everything is in float32 at least. The denominators follow from labels alone, so it does not matter
    how a nominal batch is cut.

    Args:
        queries: of an image.
        hyp: keys of ``YOLOS_RECIPE``, each optional.
        category_ids: of each class the label that stands for it, ascending; None where classes are labels.
        earlier: number of earlier layers that the head gives in training.
    """

    watched = ("class_error", "cardinality_error")

    def __init__(
        self, queries: int, hyp: Mapping[str, Any], category_ids: Sequence[int] | None = None, earlier: int = 0
    ) -> None:
        values = {key: float(hyp.get(key, default)) for key, default in YOLOS_RECIPE.items() if key.startswith("set_")}
        weights = CostWeights(values["set_cost_class"], values["set_cost_box"], values["set_cost_giou"])
        no_object = values["set_no_object"]
        super().__init__(queries, SoftmaxClasses(no_object), weights, no_object, category_ids)
        self.gains = {"cls": values["set_class"], "box": values["set_box"], "giou": values["set_giou"]}
        self.weight_of_earlier = values["set_earlier"]
        self.many = one_to_many_of(hyp)
        self.many_names = branch_names(O2M, earlier)

    @property
    def resting(self) -> Mapping[str, int | None]:
        """The parts of one-to-many supervision where the recipe does not ask for it."""
        return dict.fromkeys(self.many_names) if self.many is None else {}

    def forward(self, raw: SetOutputs, targets: SetTargets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh raw outputs.

        Args:
            raw: what the head said.
            targets: from ``prepare``.
            totals: denominators of the nominal batch, as ``targets.normalizers``.

        Returns:
            ``cls``, ``box`` and ``giou``, and those of one-to-many supervision of every earlier layer: scalars with
            their gains, float32 (float64 for raw outputs of that kind).
        """
        with without_autocast(raw.logits.device):
            totals = targets.normalizers if totals is None else totals
            totals = totals.to(raw.logits.device, non_blocking=True)
            layers = self._matched(raw)
            found = self.match(layers, targets)
            pairs = pairs_of_matches(found, *layers[0].boxes.shape[:2], targets.boxes.shape[1])
            learning = slice(None) if self.weight_of_earlier > 0 else slice(-1, None)
            terms = self.terms(layers[learning], targets, pairs.layers(learning), totals)
            self.watch(raw.last, targets, pairs.layers(slice(-1, None)), totals)
            parts = terms[:, -1] + self.weight_of_earlier * terms[:, :-1].sum(1)
            own = {name: gain * part for (name, gain), part in zip(self.gains.items(), parts.unbind(0), strict=True)}
            return own | self._many_parts(raw, targets, pairs, totals)

    def _matched(self, raw: SetOutputs) -> tuple[SetLayer, ...]:
        """Return the layers that are matched one to one, the one that answers last."""
        merges = self.many is not None and self.many.rule.merge
        return (*raw.earlier, raw.last) if self.weight_of_earlier > 0 or merges else (raw.last,)

    def _many_parts(
        self, raw: SetOutputs, targets: SetTargets, one_to_one: SetPairs, totals: Tensor
    ) -> dict[str, Tensor]:
        """Return the parts of one-to-many supervision; those of layers that there are not, or not asked for, are 0."""
        if self.many is None or not raw.earlier:
            return dict.fromkeys(self.many_names, raw.logits.new_zeros(()))
        pairs = self.assign_many(raw.earlier, targets, self.many.rule, one_to_one.layers(slice(-1)))
        terms = self.terms(raw.earlier, targets, pairs, totals)
        return named_parts(O2M, terms, self.many.gains)
