"""Maps of several levels as one table of rows, where a place between four cells is four rows and four weights.

Each map may stand in a frame of zeros. Places are kept within the frame, so that whatever lies beyond a map finds zeros
there and nothing has to be compared. Without frames the table is the values themselves, and corners beyond a map have
no weight: that saves a copy of all values, which is much where only few places are looked at.

Shape suffixes: B images, S tokens, Q queries, M heads, L levels, P points of a head, D channels of a head.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.memory import Shapes

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Steps down and to the right from the cell above and left of a place."""
KEPT = 64


class Frames(NamedTuple):
    """Where the maps lie in the table: one row of zeros above and below each, one column of zeros to the left.

    What lies to the right of a row is the left column of the next one. The maps of an image follow each other, then
    come those of the next image. Behind the last image there is some slack, so that the corners of every row are rows.

    Attributes:
        shapes: rows and columns of every level.
        margin: 1 where there are frames; 0 where there are only the maps, and no slack.
        firsts: row of the table, counted without heads, at which every level begins.
        tokens: rows of an image, counted without heads.
        slack: rows behind the last image, counted without heads.
    """

    shapes: Shapes
    margin: int
    firsts: tuple[int, ...]
    tokens: int
    slack: int

    def framed(self, level: int, rows: Tensor) -> Tensor:
        """Return the view (B, rows + 2, columns + 1, ...) of a level with its frame in (B, tokens, ...)."""
        (height, width), first = self.shapes[level], self.firsts[level]
        return rows[:, first : first + (height + 2) * (width + 1)].unflatten(1, (height + 2, width + 1))

    def level(self, level: int, values: Tensor) -> Tensor:
        """Return the view (B, rows, columns, ...) of a level in values (B, S, ...), which have no frames."""
        first = sum(height * width for height, width in self.shapes[:level])
        height, width = self.shapes[level]
        return values[:, first : first + height * width].unflatten(1, (height, width))

    def table(self, values: Tensor) -> Tensor:
        """Return the table (B * tokens + slack, M, D) of values (B, S, M, D)."""
        if not self.margin:
            return values.flatten(0, 1)
        images = values.shape[0]
        table = values.new_empty(images * self.tokens + self.slack, *values.shape[2:])
        table[images * self.tokens :] = 0
        rows = table[: images * self.tokens].unflatten(0, (images, self.tokens))
        for level in range(len(self.shapes)):
            frame = self.framed(level, rows)
            frame[:, 0], frame[:, -1], frame[:, :, 0] = 0, 0, 0
            frame[:, 1:-1, 1:] = self.level(level, values)
        return table


@lru_cache(maxsize=KEPT)
def frames_of(shapes: Shapes, margin: int) -> Frames:
    """Return where maps of these rows and columns lie, with frames (1) or without (0)."""
    firsts, total = [], 0
    for rows, columns in shapes:
        firsts.append(total)
        total += (rows + 2 * margin) * (columns + margin)
    slack = margin * (max(columns for _, columns in shapes) + 2)
    return Frames(shapes, margin, tuple(firsts), total, slack)


class Steps(NamedTuple):
    """Numbers of the points of one query, ready to be used with those of many.

    Attributes:
        sides: (2, 1, P) float, columns and rows of each point's level.
        last: (2, 1, P) float, the last cell behind which there is another one.
        stride: (1, P) float, rows of the table from a row of the level to the next, counted without heads.
        base: (M, P) int, the table's row of the level's cell (0, 0).
        corners: (4, P) int, rows from the cell above and left of a place to each of its four.
    """

    sides: Tensor
    last: Tensor
    stride: Tensor
    base: Tensor
    corners: Tensor


@lru_cache(maxsize=KEPT)
def steps_of(frames: Frames, heads: int, points: int, dtype: torch.dtype, device: torch.device) -> Steps:
    """Return the numbers of P points, which are as many in every level."""
    with torch.inference_mode(False), torch.no_grad():
        each = points // len(frames.shapes)
        sides = torch.tensor([(columns, rows) for rows, columns in frames.shapes]).repeat_interleave(each, 0).T[:, None]
        stride = sides[0] + frames.margin
        first = torch.tensor(frames.firsts).repeat_interleave(each) + frames.margin * (stride + 1)
        base = first * heads + torch.arange(heads)[:, None]
        corners = torch.cat([(down * stride + right) * heads for down, right in CORNERS])
        numbers = (part.to(device, dtype) for part in (sides, sides - 1, stride))
        return Steps(*numbers, base.to(device, torch.int32), corners.to(device, torch.int32))


class Corners(NamedTuple):
    """The corners of points of some queries of an image.

    Attributes:
        rows: (Q, M, 4, P) int, rows of the table.
        shares: (Q, M, 4, P), their weights.
        after: (Q, 2, M, P), how far right of and below the first corner a point lies, 0..1.
        beyond: (Q, M, 4, P) bool, True for corners beyond their map, which have any row and no weight; None where such
            corners have rows of zeros.
    """

    rows: Tensor
    shares: Tensor
    after: Tensor
    beyond: Tensor | None = None


def within_frame(cells: Tensor, steps: Steps) -> Tensor:
    """Return places (Q, 2, M, P) moved into the frames of their levels; what is not a number stays so."""
    return torch.minimum(cells, steps.sides).clamp_(min=-1)


def corners_of(cells: Tensor, weights: Tensor, frames: Frames, steps: Steps, image: int) -> Corners:
    """Return the rows and weights of points.

    Args:
        cells: (Q, 2, M, P) places within the frames, x and y in cells; the middle of a map's first cell is (0, 0). They
            are written over.
        weights: (Q, M, P).
        frames: of the table.
        steps: of the points.
        image: number of the image.
    """
    heads, points = weights.shape[1:]
    corner = cells.floor()
    torch.minimum(corner, steps.last, out=corner)
    after = cells.sub_(corner)
    first = torch.addcmul(corner[:, 0], corner[:, 1], steps.stride).to(torch.int32)
    first = torch.add(steps.base, first, alpha=heads)
    shares = weights.new_empty(weights.shape[0], heads, 4, points)
    below = weights * after[:, 1]
    for down, share in enumerate((weights - below, below)):
        torch.mul(share, after[:, 0], out=shares[:, :, 2 * down + 1])
        torch.sub(share, shares[:, :, 2 * down + 1], out=shares[:, :, 2 * down])
    # Places that are not numbers have any row of their image, and no number as weight.
    own, most = image * frames.tokens * heads, frames.tokens * heads - 1
    if frames.margin:
        return Corners(first.clamp_(0, most).add_(own)[:, :, None] + steps.corners, shares, after)
    beyond = _beyond(corner, steps)
    rows = (first[:, :, None] + steps.corners).clamp_(0, most).add_(own)
    return Corners(rows, shares.masked_fill_(beyond, 0), after, beyond)


def _beyond(corner: Tensor, steps: Steps) -> Tensor:
    """Return which corners lie beyond their map, (Q, M, 4, P), given the first one of every point (Q, 2, M, P)."""
    sides = torch.stack((corner < 0, corner >= steps.last), 2)
    x, y = sides.unbind(1)
    return (y[:, :, None] | x[:, None]).flatten(1, 2).transpose(1, 2)
