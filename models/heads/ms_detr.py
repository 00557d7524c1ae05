"""The decoder of Deformable-DETR with the mixed supervision of MS-DETR.

Zhu et al., arXiv:2010.04159; Zhao et al., arXiv:2401.03989.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from data.samples import Placement
from models.heads.set_head import SetHead, boxes_in_pixels
from models.layers.detr_decoder import ORDERS, SUPERVISIONS, DecoderLayer, Supervision, per_level
from models.layers.set_answers import box_layer, class_layer, moved
from models.losses.ms_detr import MS_DETR_RECIPE, MSDETRCriterion, loss_groups
from models.memory import Memory, MemoryWidth, Queries, QueryWidth
from models.predictions import DetectionResult, Detections, PostprocessOptions
from models.recompute import Layered
from models.registry import Built, Scale, construct, register
from models.row_kinds import Kind
from models.set_outputs import SetLayer, SetOutputs
from utils.detection_results import detection_results
from utils.precision import full_precision

MOST_LAYERS = 100
MOST_POINTS = 64


@register
class MSDETRDecoder(Layered, SetHead):
    """Queries look at the memory of a deformable encoder layer by layer; each answers for one object or for none::

        memory, queries -> layer -> layer -> ... -> | -> Linear -> L classes, each by itself (sigmoid)
                             |        |             | -> Linear, ReLU, Linear, ReLU, Linear -> moves references: boxes
                             +--------+---- every layer answers so in training, and moves the references of the next

    Boxes are fractions of the picture, or of its valid area within a padded batch. The likeliest pairs of query and
    class are the answer; nothing is suppressed, because training lets one query answer for an object at the end of a
    layer. Mixed supervision lets several queries learn an object at another place of the same layers, see
    ``supervision``; that branch exists in training alone.

    Args:
        in_channels: widths of the memory and of the queries, the same.
        num_classes: number of classes.
        dim: channels of a query, those of both source rows.
        layers: how many.
        heads: attention heads; they divide the width.
        points: that a head looks at in each level.
        ffn: hidden channels of a layer.
        dropout: probability in training, 0 to below 1.
        supervision: where one-to-many supervision reads, by the paper's figure 4: ``c`` behind the attention to the
            memory, which comes first; ``a`` at the end of the layer, with class layers of its own and the attention
            among queries first; ``b`` as ``a`` with the attention to the memory first; ``d`` behind the attention among
            queries, which comes first; ``none`` for Deformable-DETR.
        order: of the two attentions, ``cross_first`` or ``self_first``, where it is not the one above.
        aux_ffn: for ``c`` and ``d``, put a network of its own before what one-to-many supervision reads.
        look_forward_twice: let the loss of a layer also reach the references that the layer before it has moved.
            Needs ``box_refine``.
        box_refine: every layer has class and box layers of its own and moves the references; else all share one pair
            and references stay where they are.
        top_k: most answers for a picture.
        nms: overlap (IoU) above which the weaker of two boxes of a class is suppressed after all; none for nothing.
        category_ids: for weights that know other labels than 0, 1, 2 ...: the label of every class, ascending.

    Attributes:
        learns_many: whether training computes the one-to-many branch; ``criterion`` turns it off where the recipe does.
    """

    recipe = MS_DETR_RECIPE
    reads = (Kind.MEMORY, Kind.QUERIES)
    class_options = ("category_ids",)

    def __init__(
        self,
        in_channels: list[MemoryWidth | QueryWidth],
        num_classes: int,
        dim: int,
        layers: int,
        heads: int,
        points: int,
        ffn: int,
        dropout: float,
        *,
        supervision: str | None = "c",
        order: str | None = None,
        aux_ffn: bool = False,
        look_forward_twice: bool = False,
        box_refine: bool = True,
        top_k: int = 100,
        nms: float | None = None,
        category_ids: list[int] | None = None,
    ) -> None:
        super().__init__(num_classes, category_ids)
        memory, queries = in_channels
        _check_widths(memory, queries, dim, heads)
        _check_numbers(layers, points, ffn, dropout, top_k, nms)
        kind = _supervision(supervision, order, aux_ffn)
        if look_forward_twice and not box_refine:
            raise ValueError("look_forward_twice is about references that layers move, but box_refine is false")
        self.supervision = "none" if supervision is None else supervision
        self.order = kind.order
        self.branch, self.own_classes = kind.place is not None, kind.own_classes
        self.learns_many = True
        self.look_forward_twice, self.box_refine = look_forward_twice, box_refine
        self.top_k, self.nms = top_k, nms
        self.queries, self.proposes, self.dropout = queries.queries, queries.proposes, float(dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, heads, memory.levels, points, ffn, dropout, kind.order, kind.place, aux_ffn)
            for _ in range(layers)
        )
        pairs = layers if box_refine else 1
        self.class_embed = nn.ModuleList(class_layer(dim, self.labels) for _ in range(pairs))
        # The first layer alone may see references without sides, unless nothing moves them.
        sides = [queries.coordinates == 4 or number > 0 for number in range(pairs)]
        self.bbox_embed = nn.ModuleList(box_layer(dim, known) for known in sides)
        if kind.own_classes:
            self.class_embed_o2m = nn.ModuleList(class_layer(dim, self.labels) for _ in range(pairs))
        self.loss_groups = loss_groups(layers, self.branch, self.proposes)
        self.loss_names = tuple(name for names in self.loss_groups.values() for name in names)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes, dim, layers, heads, points, ffn, dropout, {options}]``; nothing is scaled.

        Raises:
            ValueError: an argument is missing, of the wrong kind or does not fit; the row repeats.
        """
        if number > 1:
            raise ValueError(f"the number of layers is its third argument, but the row repeats {number} times; write 1")
        return Built(construct(cls, in_channels, *args), 0)

    def forward(self, features: tuple[Memory, Queries]) -> SetOutputs:
        """Return logits and boxes of the last layer; in training also those of the others and of one-to-many."""
        memory, queries = features
        content = queries.content
        answers: list[SetLayer] = []
        many: list[SetLayer] = []
        learns_many = self.training and self.learns_many
        # Where the layer looks, and what its answer moves: the same numbers, with or without a gradient.
        looked_at = start = queries.references
        for number, layer in enumerate(self.layers):
            references = per_level(looked_at, memory.ratios)
            content, aside = self.run_layer(layer, content, queries.position, references, memory, learns_many)
            last = number + 1 == len(self.layers)
            if not (self.training or self.box_refine or last):
                continue
            change = self._of_layer(self.bbox_embed, number)(content)
            boxes = moved(start, change)
            if self.training or last:
                logits = full_precision(self._of_layer(self.class_embed, number)(content))
                answers.append(SetLayer(logits, boxes))
            if aside is not None:
                many.append(self._one_to_many(number, aside, start, boxes))
            if self.box_refine:
                twice = self.look_forward_twice and self.training
                start = moved(looked_at, change) if twice else boxes.detach()
                looked_at = start.detach()
        return SetOutputs(
            *answers[-1], memory.sizes, tuple(answers[:-1]), one_to_many=tuple(many), proposals=queries.proposals
        )

    def _one_to_many(self, number: int, aside: Tensor, start: Tensor, boxes: Tensor) -> SetLayer:
        """Return what a layer says where several queries may learn one object.

        Args:
            number: of the layer.
            aside: (B, Q, d), what that supervision reads.
            start: what box layers move.
            boxes: (B, Q, 4), what the end of the layer says; of the variants that read it too.
        """
        if self.own_classes:
            return SetLayer(full_precision(self._of_layer(self.class_embed_o2m, number)(aside)), boxes)
        logits = full_precision(self._of_layer(self.class_embed, number)(aside))
        return SetLayer(logits, moved(start, self._of_layer(self.bbox_embed, number)(aside)))

    def _of_layer(self, modules: nn.ModuleList, number: int) -> nn.Module:
        return modules[number if self.box_refine else 0]

    def drop_training_branch(self) -> None:
        """Forget what serves one-to-many supervision alone: extra networks and class layers of its own."""
        for layer in self.layers:
            layer.drop_branch()
        if self.own_classes:
            del self.class_embed_o2m
        self.branch, self.own_classes = False, False

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> MSDETRCriterion:
        """Return the loss of all branches; its published gains hold for every size and class count."""
        made = MSDETRCriterion(self.queries, hyp, len(self.layers), self.branch, self.proposes, self.category_ids)
        # A loss that nobody asks for needs no branch to be computed.
        self.learns_many = made.many is not None
        return made

    def predict(self, raw: SetOutputs, image_size: tuple[int, int]) -> Detections:
        """Decode to boxes in pixels of the network input, unclipped, one candidate per query."""
        scores = self.of_classes(full_precision(raw.logits).sigmoid())
        return Detections(boxes_in_pixels(raw, image_size), scores, distinct=self.nms is None)

    def own_options(self, options: PostprocessOptions) -> PostprocessOptions:
        """Let a query answer for several classes, in detecting too, and keep at most ``top_k`` pairs of a picture."""
        overlap = options.iou if self.nms is None else self.nms
        return replace(options, multi_label=True, max_det=min(options.max_det, self.top_k), iou=overlap)

    def postprocess(
        self, predictions: Detections, options: PostprocessOptions, placements: list[Placement]
    ) -> list[DetectionResult]:
        """Map the likeliest pairs of query and class to native pixels."""
        return detection_results(predictions, self.own_options(options), placements)


def _check_widths(memory: MemoryWidth, queries: QueryWidth, dim: int, heads: int) -> None:
    """Make sure that memory, queries and layers have one width.

    Raises:
        ValueError: they have not, or the heads do not divide it.
    """
    for what, width in (("memory", int(memory)), ("queries", int(queries))):
        if width != dim:
            raise ValueError(f"its dim is {dim}, but it reads {what} of {width} channels; write {width}")
    if heads < 1 or dim % heads:
        fitting = [n for n in range(1, dim + 1) if dim % n == 0]
        near = min(fitting, key=lambda n: (abs(n - heads), n))
        raise ValueError(f"{heads} attention heads do not divide the width {dim}; the nearest that do are {near}")


def _check_numbers(layers: int, points: int, ffn: int, dropout: float, top_k: int, nms: float | None) -> None:
    """Make sure that numbers are in their ranges.

    Raises:
        ValueError: one is not; the sentence says which.
    """
    for what, value, most in (
        ("layers", layers, MOST_LAYERS),
        ("points", points, MOST_POINTS),
        ("ffn", ffn, None),
        ("top_k", top_k, None),
    ):
        if value < 1 or (most is not None and value > most):
            limit = f"from 1 to {most}" if most else "above 0"
            raise ValueError(f"{what} is {limit}, but it is {value}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability from 0 to below 1, but it is {dropout}")
    if nms is not None and not 0 < nms <= 1:
        raise ValueError(f"nms is an overlap above 0 and up to 1, or none, but it is {nms}")


def _supervision(variant: str | None, order: str | None, aux_ffn: bool) -> Supervision:
    """Return what a row says of mixed supervision.

    Raises:
        ValueError: there is no such variant or order, or nothing that the extra network could serve.
    """
    name = "none" if variant is None else variant
    if name not in SUPERVISIONS:
        raise ValueError(f"supervision is one of {', '.join(SUPERVISIONS)}, but it is {variant!r}")
    if order is not None and order not in ORDERS:
        raise ValueError(f"order is one of {', '.join(ORDERS)}, but it is {order!r}")
    found = SUPERVISIONS[name]
    if aux_ffn and found.place in (None, "output"):
        raise ValueError(f"aux_ffn serves the supervision c or d, but that is {name}; leave aux_ffn out")
    return found if order is None else replace(found, order=order)
