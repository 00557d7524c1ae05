"""Attention to a few places of several feature maps, in PyTorch alone and in three forms that give the same numbers.

Zhu et al., Deformable DETR, arXiv:2010.04159. Every query looks, with each head, at a few points of each level; values
between cells are interpolated, values beyond a map are zero. The forms differ in what they are made of:

- ``bag``: all corners of all points as rows of one table, summed by ``embedding_bag`` (``models.layers.sampled_sum``).
  The fastest on a CPU, with gradients of its own; what runs unless somebody asks for another.
- ``grid``: ``grid_sample`` level by level; for exports with that operator, and what compilers get in place of ``bag``.
- ``gather``: rows of a table, weighted; for exports to runtimes without the operator.

Where few queries look at many tokens, ``bag`` sums before it projects. That gives the same, because both are linear:
the weighted sum of projections is the projection of a weighted sum.

Shape suffixes: B images, S tokens, Q queries, M heads, L levels, K points, d channels of all heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.sampled_sum import sampled_sum
from models.memory import Shapes
from utils.precision import full_precision
from utils.tracing import is_traced

BAG, GRID, GATHER = "bag", "grid", "gather"
CORNER_COST = 12
"""Products of a matrix that a CPU makes while it adds one channel of a corner to a sum."""


def bag_attention(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums of values at places of the maps, made with ``embedding_bag``.

    Args and result are those of ``grid_attention``.
    """
    cells = locations * _sides(shapes, locations.dtype, locations.device)[:, None] - 0.5
    return sampled_sum(values, shapes, cells.flatten(3, 4).movedim(-1, 2), weights.flatten(3))


def grid_attention(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums of values at places of the maps, made with ``grid_sample``.

    Args:
        values: (B, S, M, d / M), levels one after the other, each row by row.
        shapes: rows and columns of every level.
        locations: (B, Q, M, L, K, 2), places (x, y) as fractions of a level, 0..1 within it.
        weights: (B, Q, M, L, K).

    Returns:
        (B, Q, d) of the values' type.
    """
    images, _, heads, width = values.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    shares = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]
    total = None
    for level, (rows, columns) in enumerate(shapes):
        first = sum(h * w for h, w in shapes[:level])
        part = full_precision(values[:, first : first + rows * columns])
        maps = part.permute(0, 2, 3, 1).reshape(images * heads, width, rows, columns)
        found = F.grid_sample(maps, grids[level].to(maps.dtype), "bilinear", "zeros", align_corners=False)
        found = (found * shares[level]).sum(-1)
        total = found if total is None else total + found
    return total.view(images, heads * width, queries).transpose(1, 2).to(values.dtype)


def gather_attention(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return what ``grid_attention`` does, made of rows that are taken out of a table.

    Args and result are those of ``grid_attention``.
    """
    images, tokens, heads, width = values.shape
    table = full_precision(values).reshape(-1, width)
    image = torch.arange(images, device=values.device).view(-1, 1, 1, 1) * tokens
    head = torch.arange(heads, device=values.device).view(-1, 1)
    total = None
    for level, (rows, columns) in enumerate(shapes):
        first = sum(h * w for h, w in shapes[:level])
        x, y = (locations[:, :, :, level] * locations.new_tensor((columns, rows)) - 0.5).unbind(-1)
        places, shares = [], []
        # Each limited once: the ONNX exporter mixes up the limits of a value that is limited twice.
        across, down = _neighbours(x, columns), _neighbours(y, rows)
        for column, share_x in across:
            for row, share_y in down:
                cell = row * columns + column
                places.append((image + first + cell.long()) * heads + head)
                shares.append(weights[:, :, :, level] * share_x * share_y)
        place, share = torch.cat(places, -1), torch.cat(shares, -1)
        found = table.index_select(0, place.flatten()).view(*place.shape, width)
        found = (share[..., None, :].to(found.dtype) @ found)[..., 0, :]
        total = found if total is None else total + found
    return total.flatten(2).to(values.dtype)


def _neighbours(place: Tensor, cells: int) -> list[tuple[Tensor, Tensor]]:
    """Return the two cells of a line beside places, limited to it, each with its share: 0 where it lies beyond."""
    before = place.floor()
    after = before + 1
    pairs = ((before, after - place), (after, place - before))
    return [(cell.clamp(0, cells - 1), share.where((cell >= 0) & (cell < cells), 0)) for cell, share in pairs]


FORMS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    BAG: bag_attention,
    GRID: grid_attention,
    GATHER: gather_attention,
}


def _sides(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return columns and rows of every level, (L, 2)."""
    if is_traced():
        return torch.tensor([(columns, rows) for rows, columns in shapes], dtype=dtype, device=device)
    return _kept_sides(shapes, dtype, device)


@lru_cache(maxsize=64)
def _kept_sides(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.tensor([(columns, rows) for rows, columns in shapes], dtype=dtype, device=device)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention::

        source -> value_proj -> values of every head
        query -> sampling_offsets -> places around the query's reference -> values there, interpolated
              -> attention_weights -> softmax over all points of a head  -> * -> sum -> output_proj

    Args:
        dim: d, channels of queries, source and result.
        heads: attention heads; they divide the channels.
        levels: feature maps behind the source.
        points: places that a head looks at in each level.

    Attributes:
        form: ``bag``, ``grid`` or ``gather``; an exporter sets it in its own copy of a model.

    Raises:
        ValueError: the heads do not divide the channels, or a number is below 1.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if min(dim, heads, levels, points) < 1 or dim % heads:
            raise ValueError(
                f"deformable attention wants heads that divide its channels and at least one level and point, but has "
                f"{heads} heads, {dim} channels, {levels} levels and {points} points"
            )
        self.heads, self.levels, self.points, self.form = heads, levels, points, BAG
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin with points on rays around the reference, one direction per head, all of equal weight."""
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        ray = torch.stack((angle.cos(), angle.sin()), -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        far = torch.arange(1, self.points + 1, dtype=torch.float32)
        start = ray[:, None, None] * far[:, None]
        self.sampling_offsets.bias.copy_(start.expand(-1, self.levels, -1, -1).flatten())
        for zero in (self.sampling_offsets.weight, self.attention_weights.weight, self.attention_weights.bias):
            nn.init.zeros_(zero)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, references: Tensor, value_source: Tensor, shapes: Shapes, mask: Tensor | None = None
    ) -> Tensor:
        """Let queries look at the source.

        Args:
            query: (B, Q, d), its position added.
            references: (B or 1, Q, L or 1, 2) points (x, y) or (B or 1, Q, L or 1, 4) boxes (centre x, centre y, width,
                height), float32, as fractions of each level with its padding. Around a point, offsets count cells of
                the level; around a box, ``points`` of them are half its side.
            value_source: (B, S, d).
            shapes: rows and columns of every level.
            mask: (B, S) bool, False where a token lies in padding and has nothing to say; None where all speak.

        Returns:
            (B, Q, d).
        """
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1))
        weights = full_precision(weights).softmax(-1)
        if self.form != BAG or is_traced():
            attend = FORMS[GRID if self.form == BAG else self.form]
            locations = self._locations(query, references, shapes)
            weights = weights.unflatten(-1, (self.levels, self.points))
            found = attend(self._values(value_source, mask), shapes, locations, weights)
        elif self._sums_first(query, value_source):
            found = self._project_sums(value_source, shapes, mask, *self._offsets(query, references, shapes), weights)
        else:
            offsets, start = self._offsets(query, references, shapes)
            if start.requires_grad:
                offsets, start = offsets + start[:, :, :, None], None
            found = sampled_sum(self._values(value_source, mask), shapes, offsets, weights, start)
        return self.output_proj(found)

    def _values(self, source: Tensor, mask: Tensor | None) -> Tensor:
        """Return what every head finds at every token, (B, S, M, d / M): zero in padding."""
        values = self.value_proj(source)
        if mask is not None:
            values = values.masked_fill(~mask[..., None], 0)
        return values.unflatten(-1, (self.heads, -1))

    def _locations(self, query: Tensor, references: Tensor, shapes: Shapes) -> Tensor:
        """Return where each query looks, (B, Q, M, L, K, 2), as fractions of the levels."""
        offsets = full_precision(self.sampling_offsets(query))
        offsets = offsets.unflatten(-1, (self.heads, self.levels, self.points, 2))
        around = references[:, :, None, :, None]
        if references.shape[-1] == 2:
            return around + offsets / _sides(shapes, offsets.dtype, offsets.device)[:, None]
        return around[..., :2] + offsets * (around[..., 2:] * (0.5 / self.points))

    def _offsets(self, query: Tensor, references: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Return where queries look in cells of the levels, all x in front of all y.

        Returns:
            What heads add to the start, (B, Q, 2, M, L * K), and the start, (B or 1, Q, 2, L * K).
        """
        linear = self.sampling_offsets
        offsets = F.linear(query, self._apart(linear.weight), self._apart(linear.bias))
        offsets = full_precision(offsets).unflatten(-1, (2, self.heads, -1))
        sides = _sides(shapes, offsets.dtype, offsets.device)
        start = references[..., :2] * sides - 0.5
        if references.shape[-1] == 4:
            reach = references[..., 2:] * (sides * (0.5 / self.points))
            offsets = offsets * self._of_points(reach)[:, :, :, None]
        return offsets, self._of_points(start)

    def _sums_first(self, query: Tensor, source: Tensor) -> bool:
        """Return whether summing whole tokens costs less than projecting all of them.

        An accelerator, and a CPU in a reduced format, multiplies matrices much faster than it reads rows.
        """
        if source.device.type != "cpu" or source.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu"):
            return False
        corners = 4 * query.shape[1] * self.heads * self.levels * self.points
        return CORNER_COST * corners < source.shape[1] * source.shape[2]

    def _project_sums(
        self,
        source: Tensor,
        shapes: Shapes,
        mask: Tensor | None,
        offsets: Tensor,
        start: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Return the projections (B, Q, d) of weighted sums of tokens; what lies in padding or beyond adds nothing."""
        inside = source.new_ones(source.shape[:2]) if mask is None else mask.to(source.dtype)
        if mask is not None:
            source = source.masked_fill(~mask[..., None], 0)
        # Heads look at the same tokens, so that each query and head is a query of one wide head.
        cells = (offsets + start[:, :, :, None]).transpose(2, 3).flatten(1, 2).unsqueeze(3)
        weights = weights.flatten(1, 2).unsqueeze(2)
        sums = sampled_sum(source.unsqueeze(2), shapes, cells, weights).unflatten(1, (-1, self.heads))
        shares = sampled_sum(inside[..., None, None], shapes, cells, weights).unflatten(1, (-1, self.heads))
        weight, bias = (part.unflatten(0, (self.heads, -1)) for part in (self.value_proj.weight, self.value_proj.bias))
        found = torch.einsum("bqmd,mcd->bqmc", sums, weight)
        return torch.addcmul(found, shares, bias).flatten(2)

    def _apart(self, parameter: Tensor) -> Tensor:
        """Return weight or bias of the offsets, which have x and y by turns, with those of all x in front."""
        return parameter.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1)

    def _of_points(self, of_levels: Tensor) -> Tensor:
        """Return numbers (B, Q, L, 2) of levels as those of their points, (B, Q, 2, L * K)."""
        return of_levels.transpose(2, 3).repeat_interleave(self.points, 3)
