"""A layer of the decoder of Deformable-DETR and MS-DETR: queries look at the memory, at each other, and think.

Zhu et al., Deformable DETR, arXiv:2010.04159; Zhao et al., MS-DETR, arXiv:2401.03989 (figure 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.deformable_attention import MSDeformAttn
from models.memory import Memory

Place = Literal["cross", "self", "output"]
"""A place within a layer: behind the attention to the memory, behind that among queries, or at the end."""
CROSS_FIRST, SELF_FIRST = "cross_first", "self_first"
ORDERS: dict[str, tuple[Place, Place]] = {CROSS_FIRST: ("cross", "self"), SELF_FIRST: ("self", "cross")}


@dataclass(frozen=True)
class Supervision:
    """Where several queries may learn one object (one-to-many), beside the end of the layer where one query does.

    Attributes:
        order: of the two attentions, where a row says nothing else.
        place: what one-to-many reads in every layer; None where there is no such branch.
        own_classes: whether it has class layers of its own, because it reads what one-to-one reads.
    """

    order: str
    place: Place | None
    own_classes: bool = False


SUPERVISIONS = {
    "a": Supervision(SELF_FIRST, "output", own_classes=True),
    "b": Supervision(CROSS_FIRST, "output", own_classes=True),
    "c": Supervision(CROSS_FIRST, "cross"),
    "d": Supervision(SELF_FIRST, "self"),
    "none": Supervision(SELF_FIRST, None),
}
"""The variants of the paper's figure 4, and Deformable-DETR itself."""


class QueryAttention(nn.Module):
    """Attention of queries to each other; their positions say where they ask and are found, not what they tell.

    Args:
        width: channels of a query.
        heads: attention heads; they divide the width.
        dropout: probability with which a link is left out in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, content: Tensor, position: Tensor) -> Tensor:
        """Return (B, Q, d) for contents and positions of that shape."""
        width = content.shape[-1]
        asking, telling = self.in_proj_weight.split((2 * width, width))
        asking_bias, telling_bias = self.in_proj_bias.split((2 * width, width))
        q, k = F.linear(content + position, asking, asking_bias).chunk(2, -1)
        v = F.linear(content, telling, telling_bias)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """One layer, normalised behind each branch; the two attentions may change places::

        x -> norm1(x + attention to the memory)                   cross_attn
          -> norm2(x + attention to the other queries)            self_attn
          -> norm3(x + linear2(ReLU(linear1(x))))

    In training it also gives what one-to-many supervision reads, the state at a place of its choice::

        state -> norm4(state + linear4(ReLU(linear3(state)))), or the state itself without the extra network

    Args:
        width: channels of a query.
        heads: of both attentions; they divide the width.
        levels: of the memory.
        points: that a head looks at in each level.
        ffn: hidden channels.
        dropout: probability, 0 to 1.
        order: of the attentions, a key of ``ORDERS``.
        place: what one-to-many supervision reads; None for no such branch.
        aux_ffn: whether the extra network is there.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        levels: int,
        points: int,
        ffn: int,
        dropout: float,
        order: str,
        place: Place | None,
        aux_ffn: bool,
    ) -> None:
        super().__init__()
        self.order, self.place, self.aux_ffn = ORDERS[order], place, aux_ffn
        self.cross_attn = MSDeformAttn(width, heads, levels, points)
        self.norm1 = nn.LayerNorm(width)
        self.self_attn = QueryAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1, self.linear2 = _linear(width, ffn), _linear(ffn, width)
        self.norm3 = nn.LayerNorm(width)
        if aux_ffn:
            self.linear3, self.linear4 = _linear(width, ffn), _linear(ffn, width)
            self.norm4 = nn.LayerNorm(width)
        # PyTorch's dropout copies its input even where it leaves nothing out.
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(
        self, content: Tensor, position: Tensor, references: Tensor, memory: Memory, one_to_many: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run the layer.

        Args:
            content: (B, Q, d).
            position: (B, Q, d), the same in all layers.
            references: (B, Q, L, 4) boxes or (B, Q, L, 2) points, where each query looks in each level, as fractions
                of the level with its padding, at least float32; (B, Q, 1, 4 or 2) where levels do not differ.
            memory: what is looked at.
            one_to_many: whether somebody wants what one-to-many supervision reads.

        Returns:
            The content for the next layer, and what one-to-many supervision reads, or None.
        """
        aside = None
        for place in self.order:
            if place == "cross":
                found = self.cross_attn(content + position, references, memory.values, memory.shapes, memory.mask)
                content = self.norm1(content + self.drop(found))
            else:
                content = self.norm2(content + self.drop(self.self_attn(content, position)))
            if place == self.place and one_to_many:
                aside = self._aside(content)
        content = self.norm3(content + self._think(content, self.linear1, self.linear2))
        return content, content if self.place == "output" and one_to_many else aside

    def _think(self, x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
        return self.drop(second(self.drop(F.relu(first(x)))))

    def _aside(self, x: Tensor) -> Tensor:
        """Return what one-to-many supervision reads of a state."""
        return self.norm4(x + self._think(x, self.linear3, self.linear4)) if self.aux_ffn else x

    def drop_branch(self) -> None:
        """Forget what serves training alone."""
        if self.aux_ffn:
            del self.linear3, self.linear4, self.norm4
        self.place, self.aux_ffn = None, False


def _linear(c_in: int, c_out: int) -> nn.Linear:
    """Return a linear layer that begins as the published ones do."""
    layer = nn.Linear(c_in, c_out)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def per_level(references: Tensor, ratios: Tensor | None) -> Tensor:
    """Return references of a picture's valid area as references of each level with its padding.

    Args:
        references: (B, Q, 4) boxes or (B, Q, 2) points.
        ratios: (B, L, 2), the valid part (x, y) of every level; None where each is 1.

    Returns:
        (B, Q, L, 4 or 2), or (B, Q, 1, 4 or 2) where levels do not differ.
    """
    if ratios is None:
        return references[:, :, None]
    parts = torch.cat((ratios, ratios), -1) if references.shape[-1] == 4 else ratios
    return references[:, :, None] * parts[:, None]
