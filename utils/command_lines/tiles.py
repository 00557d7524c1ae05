"""The option ``--tile`` of ``detect.py`` and ``test.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from models.tiles import LEAST_SIZE, MOST_OVERLAP, Tiling
from utils.errors import UsageError


def add_tile_option(group: argparse._ArgumentGroup) -> None:
    """Add the option."""
    group.add_argument(
        "--tile",
        nargs=2,
        metavar=("SIZE", "OVERLAP"),
        help="look at large pictures in square tiles of SIZE pixels that overlap by this share of their side, 0 to "
        f"{MOST_OVERLAP}, and at the whole picture too, such as --tile 640 0.2; each is brought to --img-size",
    )


def tiling_of(values: Sequence[str] | None) -> Tiling | None:
    """Return how pictures are cut, None where the option is not given.

    Raises:
        UsageError: a value is no number, or out of its range.
    """
    if values is None:
        return None
    try:
        size, overlap = int(values[0]), float(values[1])
    except ValueError:
        raise UsageError(
            f"--tile {' '.join(values)}: SIZE is a whole number of pixels from {LEAST_SIZE} on and OVERLAP a share of "
            f"0 to {MOST_OVERLAP}, such as --tile 640 0.2"
        ) from None
    return Tiling(size, overlap)
