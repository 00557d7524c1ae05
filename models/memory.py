"""What rows of a deformable transformer hand on: the memory of an encoder over several levels, and a decoder's queries.

Shape suffixes: B images, S tokens of all levels together, L levels, Q queries, d channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from models.tokens import Sizes

if TYPE_CHECKING:
    from models.set_outputs import SetProposals

Shapes = tuple[tuple[int, int], ...]
"""Rows and columns of every level, from fine to coarse; plain numbers, so that an export knows them."""


class Memory(NamedTuple):
    """Tokens of several feature maps, level after level from fine to coarse, each row by row.

    Attributes:
        values: (B, S, d), S being the sum of rows * columns over the levels.
        shapes: rows and columns of every level.
        mask: (B, S) bool, True where a token lies in its picture; None where all do.
        ratios: (B, L, 2) float32, the part (x, y) of every level's columns and rows that lies in the picture, above 0
            and up to 1; None where each is 1.
        sizes: height and width of each picture in input pixels, measured from the top left corner; None where every
            picture fills its input.
    """

    values: Tensor
    shapes: Shapes
    mask: Tensor | None = None
    ratios: Tensor | None = None
    sizes: Sizes | None = None

    @property
    def rows(self) -> int:
        """Rows of the finest level."""
        return self.shapes[0][0]

    @property
    def layout(self) -> str:
        """Such as ``4 levels, 32x32 to 4x4: 1360 tokens of 256``."""
        (rows, columns), (last_rows, last_columns) = self.shapes[0], self.shapes[-1]
        levels = "1 level" if len(self.shapes) == 1 else f"{len(self.shapes)} levels"
        span = f"{rows}x{columns}" if len(self.shapes) == 1 else f"{rows}x{columns} to {last_rows}x{last_columns}"
        return f"{levels}, {span}: {self.values.shape[1]} tokens of {self.values.shape[-1]}"


class Queries(NamedTuple):
    """What a decoder begins with: every query has a content, a position and a reference in the picture.

    Where an encoder has fewer tokens than queries are wanted, there are as many queries as tokens.

    Attributes:
        content: (B, Q, d).
        position: (B, Q, d), added to the content where attention asks.
        references: (B, Q, 4) boxes (centre x, centre y, width, height) or (B, Q, 2) points (x, y), float32, fractions
            0..1 of the picture's valid area; detached where they are proposals of the encoder.
        proposals: what the encoder says of every token, in training alone, for its own loss.
    """

    content: Tensor
    position: Tensor
    references: Tensor
    proposals: SetProposals | None = None

    @property
    def rows(self) -> None:
        """Queries lie nowhere."""
        return None

    @property
    def layout(self) -> str:
        """Such as ``300 queries of 256``."""
        return f"{self.content.shape[1]} queries of {self.content.shape[-1]}"


class MemoryWidth(int):
    """Channels of a row that gives ``Memory``, with what the rows behind it must know; they get it as their ``c_in``.

    Attributes:
        levels: number of levels, from fine to coarse.
    """

    levels: int

    def __new__(cls, width: int, levels: int) -> MemoryWidth:
        made = super().__new__(cls, width)
        made.levels = levels
        return made

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.levels


class QueryWidth(int):
    """Channels of a row that gives ``Queries``, with what the rows behind it must know; they get it as their ``c_in``.

    Attributes:
        queries: number of queries.
        coordinates: 4 where references are boxes, 2 where they are points.
        proposes: whether the queries are proposals of the encoder, which has a loss of its own then.
    """

    queries: int
    coordinates: int
    proposes: bool

    def __new__(cls, width: int, queries: int, coordinates: int = 4, proposes: bool = True) -> QueryWidth:
        made = super().__new__(cls, width)
        made.queries, made.coordinates, made.proposes = queries, coordinates, proposes
        return made

    def __getnewargs__(self) -> tuple[int, int, int, bool]:
        return int(self), self.queries, self.coordinates, self.proposes
