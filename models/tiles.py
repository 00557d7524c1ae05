"""How a large picture is cut into overlapping tiles; ``models.tiled_predictor`` looks at them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from utils.errors import UsageError

LEAST_SIZE = 32
MOST_OVERLAP = 0.9
MOST_TILES = 10_000
"""Of one picture; more is a slip of the keyboard."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture, in whole native pixels.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
        own: top, left, bottom, right, in pixels of the picture, of what no other tile shows deeper in its middle: the
            own areas of all tiles cover the picture and do not overlap.
        inner: whether the tile's left, top, right and bottom side lies within the picture.
    """

    top: int
    left: int
    height: int
    width: int
    own: tuple[int, int, int, int]
    inner: tuple[bool, bool, bool, bool]

    @classmethod
    def whole(cls, height: int, width: int) -> Tile:
        """Return a tile that is all of a picture."""
        return cls(0, 0, height, width, (0, 0, height, width), (False,) * 4)

    def of(self, image: np.ndarray) -> np.ndarray:
        """Return the tile's pixels of its (H, W, 3) picture; a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    Attributes:
        size: side of a tile, native pixels; a picture that is smaller in one direction is not cut in that one.
        overlap: least share of a tile's side that it has in common with the next one, 0..0.9. Tiles are spread evenly,
            so it can be more.

    Raises:
        UsageError: one of them is out of its range.
    """

    size: int
    overlap: float

    def __post_init__(self) -> None:
        if self.size < LEAST_SIZE:
            raise UsageError(f"--tile {self.size}: a tile has at least {LEAST_SIZE} pixels a side")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(f"--tile: tiles overlap by a share of 0 to {MOST_OVERLAP}, not by {self.overlap:g}")

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Return the tiles of a picture, row by row; a single one if it is no larger than a tile.

        Raises:
            UsageError: there would be too many.
        """
        rows, columns = (self._spans(length) for length in (height, width))
        if len(rows) * len(columns) > MOST_TILES:
            raise UsageError(
                f"--tile: a picture of {width}x{height} pixels would have {len(rows) * len(columns)} tiles, and the "
                f"most are {MOST_TILES}; take larger tiles or less overlap"
            )
        return [
            Tile(
                row.start,
                column.start,
                row.length,
                column.length,
                (row.own[0], column.own[0], row.own[1], column.own[1]),
                (column.start > 0, row.start > 0, column.end < width, row.end < height),
            )
            for row, column in product(rows, columns)
        ]

    def _spans(self, length: int) -> list[_Span]:
        """Return where tiles lie along one side of a picture."""
        if length <= self.size:
            return [_Span(0, length, (0, length))]
        step = max(self.size * (1 - self.overlap), 1.0)
        count = math.ceil(round((length - self.size) / step, 6)) + 1
        starts = np.linspace(0, length - self.size, count).round().astype(int).tolist()
        borders = [0, *((before + self.size + after) // 2 for before, after in pairwise(starts))]
        ends = [*borders[1:], length]
        return [
            _Span(*values) for values in zip(starts, [self.size] * count, zip(borders, ends, strict=True), strict=True)
        ]


@dataclass(frozen=True)
class _Span:
    start: int
    length: int
    own: tuple[int, int]

    @property
    def end(self) -> int:
        return self.start + self.length
