"""The encoder of Deformable-DETR: tokens of several feature maps look at each other in a few places.

Zhu et al., Deformable DETR, arXiv:2010.04159.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.deformable_attention import MSDeformAttn
from models.layers.sine_positions import level_areas, places_of
from models.memory import Memory, MemoryWidth, Shapes
from models.recompute import Layered
from models.registry import Built, RowBlock, Scale, construct, register
from models.tokens import Sizes
from utils.tracing import is_traced

MOST_LAYERS = 100
TOKENS_AT_ONCE = 2048


class EncoderLayer(nn.Module):
    """One layer, normalised behind each branch::

        x -> norm1(x + deformable attention(x + position, to x)) -> norm2(x + linear2(ReLU(linear1(x))))

    Args:
        dim: channels of a token.
        heads: attention heads; they divide the channels.
        levels: feature maps.
        points: places that a head looks at in each level.
        ffn: hidden channels.
        dropout: probability, 0 to below 1.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(dim, heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm2 = nn.LayerNorm(dim)
        # PyTorch's dropout copies its input even where it leaves nothing out.
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(
        self, values: Tensor, positions: Tensor, references: Tensor, shapes: Shapes, mask: Tensor | None
    ) -> Tensor:
        """Run the layer.

        Args:
            values: (B, S, d).
            positions: (B or 1, S, d).
            references: (B or 1, S, L or 1, 2), see ``MSDeformAttn``.
            shapes: rows and columns of every level.
            mask: (B, S) bool or None.
        """
        found = self.self_attn(values + positions, references, values, shapes, mask)
        values = self.norm1(values + self.drop(found))
        return self.norm2(values + self._think(values))

    def _think(self, values: Tensor) -> Tensor:
        """Return the second branch; where nothing learns, some tokens at a time, whose hidden values stay in cache."""
        if is_traced() or torch.is_grad_enabled() or values.device.type != "cpu":
            return self._think_at_once(values)
        pieces = values.flatten(0, 1).split(TOKENS_AT_ONCE)
        return torch.cat([self._think_at_once(piece) for piece in pieces]).view_as(values)

    def _think_at_once(self, values: Tensor) -> Tensor:
        return self.drop(self.linear2(self.drop(F.relu(self.linear1(values), inplace=True))))


@register
class DeformEncoder(Layered, RowBlock):
    """The tokens of several feature maps behind a deformable encoder::

        maps, from fine to coarse -> tokens, level after level, row by row -> layers -> memory
        sine features of row and column + the level's vector -> positions, added where tokens ask

    In a batch padded at the right and below, tokens of the padding are not looked at, and positions are those of each
    picture by itself. No argument is scaled.

    Args:
        in_channels: channels of every map, all the same.
        dim: channels of a token, those of the maps, a multiple of 4.
        layers: how many.
        heads: attention heads; they divide the channels.
        points: places that a head looks at in each level.
        ffn: hidden channels of the second branch.
        dropout: probability with which values are left out in training.
    """

    takes_list: ClassVar[bool] = True
    takes_sizes: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ("level_embed",)
    """Parameters that a recipe's weight decay may spare though they are no vectors."""

    def __init__(
        self,
        in_channels: list[int],
        dim: int,
        layers: int,
        heads: int,
        points: int,
        ffn: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for what, value in (("dim", dim), ("layers", layers), ("heads", heads), ("points", points), ("ffn", ffn)):
            if value < 1 or (what == "layers" and value > MOST_LAYERS):
                raise ValueError(
                    f"the argument '{what}' is at least 1, and layers at most {MOST_LAYERS}, but it is {value}"
                )
        if not 0 <= dropout < 1:
            raise ValueError(f"the dropout is from 0 to below 1, but it is {dropout}")
        if dim % 4 or dim % heads:
            raise ValueError(f"the width is a multiple of 4 and of the {heads} heads, but it is {dim}")
        if any(count != dim for count in in_channels):
            listed = ", ".join(str(int(count)) for count in in_channels)
            raise ValueError(
                f"its width is {dim}, but the maps that it reads have {listed} channels; put a ConvGN row of {dim} "
                "channels between"
            )
        self.strides: list[int] | None = None
        self.level_embed = nn.Parameter(torch.empty(len(in_channels), dim).normal_())
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, len(in_channels), points, ffn, dropout) for _ in range(layers)
        )

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from the rows of all maps.

        Raises:
            ValueError: see ``RowBlock.from_row``; the row repeats.
        """
        if number > 1:
            raise ValueError(f"it says itself how many layers it has, but the number is {number}; write 1")
        made = construct(cls, list(in_channels), *args)
        return Built(made, MemoryWidth(made.level_embed.shape[1], len(in_channels)))

    def forward(self, maps: list[Tensor], sizes: Sizes | None = None) -> Memory:
        """Return the memory of a batch.

        Args:
            maps: (B, d, rows, columns) of every level, from fine to coarse.
            sizes: height and width of every picture in input pixels where the batch is padded at the right and below.
        """
        shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
        _check_order(shapes)
        values = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        areas = None if sizes is None else level_areas(sizes, self._canvas(sizes, shapes), shapes)
        places = places_of(shapes, values.shape[2], areas, values.device)
        levels = [own.expand(h * w, -1) for own, (h, w) in zip(self.level_embed, shapes, strict=True)]
        positions = places.positions.to(values.dtype) + torch.cat(levels)
        references = places.centres[:, :, None]
        if places.ratios is not None:
            references = references * places.ratios[:, None]
        for layer in self.layers:
            values = self.run_layer(layer, values, positions, references, shapes, places.mask)
        return Memory(values, shapes, places.mask, places.ratios, sizes)

    def set_strides(self, strides: list[int]) -> None:
        """Hear how many input pixels a cell of each map stands for."""
        self.strides = strides

    def _canvas(self, sizes: Sizes, shapes: Shapes) -> tuple[int, int]:
        """Return height and width of the padded input.

        The largest picture fills it in any batch that is made of pictures. Where none comes near to its end, the canvas
        is that of the finest map, to less than one of its cells.
        """
        most = tuple(max(size[axis] for size in sizes) for axis in (0, 1))
        if self.strides is None:
            return most
        fine = self.strides[0]
        return tuple(
            side if -(-side // fine) == places else places * fine for side, places in zip(most, shapes[0], strict=True)
        )


def _check_order(shapes: Shapes) -> None:
    """Make sure that levels come from fine to coarse.

    Raises:
        ValueError: a map is larger than the one before it.
    """
    for before, shape in pairwise(shapes):
        if shape[0] > before[0] or shape[1] > before[1]:
            raise ValueError(
                f"its maps come from fine to coarse, but one of {before[0]}x{before[1]} is before one of "
                f"{shape[0]}x{shape[1]}"
            )
