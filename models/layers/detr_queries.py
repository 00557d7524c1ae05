"""What a deformable decoder begins with: proposals of the encoder (TwoStageQueries) or a learnt table (LearnedQueries).

Zhu et al., Deformable DETR, arXiv:2010.04159; mixed selection as in Deformable-DETR++ and DINO, arXiv:2203.03605.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from models.category_labels import count_labels
from models.layers.set_answers import box_layer, class_layer
from models.layers.sine_positions import sine_features
from models.layers.token_anchors import token_anchors
from models.memory import Memory, MemoryWidth, Queries, QueryWidth
from models.registry import Built, RowBlock, Scale, construct, register, single_input
from models.row_kinds import Kind
from models.set_outputs import SetProposals
from utils.precision import full_precision

MOST_QUERIES = 10_000


class QueryRow(RowBlock):
    """A row that reads the memory of an encoder and gives queries of the same width; no argument is scaled."""

    reads: ClassVar[tuple[Kind, ...]] = (Kind.MEMORY,)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one row of memory.

        Raises:
            ValueError: see ``RowBlock.from_row``; the row repeats.
        """
        if number > 1:
            raise ValueError(f"queries are made once, but the number is {number}; write 1")
        made = construct(cls, single_input(cls, in_channels), *args)
        return Built(made, made.layout)


def _check_queries(queries: int) -> None:
    if not 1 <= queries <= MOST_QUERIES:
        raise ValueError(f"the number of queries is from 1 to {MOST_QUERIES:,}, but it is {queries}")


@register
class TwoStageQueries(QueryRow):
    """The best proposals of the encoder as queries, as many as are wanted, or as there are tokens if these are fewer::

        memory -> Linear -> LayerNorm -> | class of every token -> tokens most likely an object by label 0
                                         | box, moved from the token's anchor -> references of those
        references -> sine features -> Linear -> LayerNorm -> | first half: position
                                                              | second half: content, or the learnt table

    Label 0 stands for any object here: the encoder's own loss says so. Every token has an anchor in its place, whose
    side is 0.05 of the picture's valid area at the finest level and doubles from level to level. Tokens within 1 % of a
    border and those of padding have none: they all answer alike, with a box around the lower right corner, and are
    chosen where that answer is likely enough, as in the published program.

    In training all tokens answer in full, for a loss of their own (``Queries.proposals``); else only those do that are
    chosen.

    Args:
        c_in: channels of the memory, a multiple of 4.
        nc: number of classes.
        queries: how many.
        mixed_selection: whether contents are learnt and only the positions follow from the proposals.
        category_ids: the label of every class, as in the head that reads the queries.
    """

    tells_classes: ClassVar[bool] = True
    class_options: ClassVar[tuple[str, ...]] = ("category_ids",)

    def __init__(
        self,
        c_in: MemoryWidth,
        nc: int,
        queries: int,
        *,
        mixed_selection: bool = False,
        category_ids: list[int] | None = None,
    ) -> None:
        super().__init__()
        _check_queries(queries)
        width = int(c_in)
        if width % 4:
            raise ValueError(f"it reads {width} channels, but four numbers share them; make them a multiple of 4")
        self.num_classes, self.queries, self.mixed_selection = nc, queries, mixed_selection
        self.labels = count_labels(nc, category_ids)
        self.category_ids = None if category_ids is None else list(category_ids)
        self.layout = QueryWidth(width, queries, coordinates=4, proposes=True)
        self.enc_output = nn.Linear(width, width)
        self.enc_output_norm = nn.LayerNorm(width)
        self.pos_trans = nn.Linear(2 * width, 2 * width)
        self.pos_trans_norm = nn.LayerNorm(2 * width)
        for linear in (self.enc_output, self.pos_trans):
            nn.init.xavier_uniform_(linear.weight)
        self.class_embed = class_layer(width, self.labels)
        self.bbox_embed = box_layer(width, sides_known=True)
        if mixed_selection:
            self.query_embed = nn.Embedding(queries, width)

    def forward(self, memory: Memory) -> Queries:
        """Return the queries of a batch, the likeliest first."""
        anchors, proposed = token_anchors(memory)
        tokens = self.enc_output_norm(self.enc_output(memory.values.masked_fill(~proposed[..., None], 0)))
        choose = self._choose_of_answers if self.training else self._choose
        references, proposals = choose(tokens, anchors, proposed)
        position, content = self._embed(references)
        return Queries(content, position, references, proposals)

    def _choose(self, tokens: Tensor, anchors: Tensor, proposed: Tensor) -> tuple[Tensor, None]:
        """Return the references of the chosen tokens, (B, Q, 4); nothing else is computed."""
        likely = F.linear(tokens, self.class_embed.weight[:1], self.class_embed.bias[:1])[..., 0]
        chosen = self._best(likely)
        own = tokens.gather(1, chosen.expand(-1, -1, tokens.shape[-1]))
        start = anchors.expand(tokens.shape[0], -1, -1).gather(1, chosen.expand(-1, -1, 4))
        return (full_precision(self.bbox_embed(own)) + start).sigmoid().detach(), None

    def _choose_of_answers(self, tokens: Tensor, anchors: Tensor, proposed: Tensor) -> tuple[Tensor, SetProposals]:
        """Return the references of the chosen tokens, (B, Q, 4) without a gradient, and what all tokens say."""
        logits = full_precision(self.class_embed(tokens))
        boxes = (full_precision(self.bbox_embed(tokens)) + anchors).sigmoid()
        chosen = self._best(logits.detach()[..., 0])
        references = boxes.detach().gather(1, chosen.expand(-1, -1, 4))
        return references, SetProposals(logits, boxes, anchors.sigmoid().expand_as(boxes))

    def _best(self, likely: Tensor) -> Tensor:
        """Return which tokens are most likely objects, (B, Q, 1), for (B, S)."""
        return likely.topk(min(self.queries, likely.shape[1]), 1).indices[..., None]

    def _embed(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """Return position and content (B, Q, d) of queries with these references."""
        features = sine_features(references, self.layout // 2).flatten(-2).to(self.pos_trans.weight.dtype)
        position, content = self.pos_trans_norm(self.pos_trans(features)).chunk(2, -1)
        if self.mixed_selection:
            content = for_every_picture(self.query_embed.weight[: references.shape[1]], references.shape[0])
        return position, content


@register
class LearnedQueries(QueryRow):
    """A learnt table of queries, the same for every picture (single-stage Deformable-DETR)::

        table -> | position -> Linear, sigmoid -> reference points
                 | content

    Args:
        c_in: channels of the memory.
        queries: how many.
    """

    def __init__(self, c_in: MemoryWidth, queries: int) -> None:
        super().__init__()
        _check_queries(queries)
        width = int(c_in)
        self.queries = queries
        self.layout = QueryWidth(width, queries, coordinates=2, proposes=False)
        self.query_embed = nn.Embedding(queries, 2 * width)
        self.reference_points = nn.Linear(width, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(self, memory: Memory) -> Queries:
        """Return the queries, as often as there are pictures."""
        position, content = for_every_picture(self.query_embed.weight, memory.values.shape[0]).chunk(2, -1)
        return Queries(content, position, full_precision(self.reference_points(position)).sigmoid())


def for_every_picture(table: Tensor, count: int) -> Tensor:
    """Return (count, Q, d) for (Q, d); no view, because those of parameters claim to need a gradient where none is."""
    return table.repeat(count, 1, 1)
