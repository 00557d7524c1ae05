"""How much of what a token looks at lies in its own box, as a table beside the pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.samples import Placement
from utils.explain.native_maps import patch_of_pixels
from utils.files import atomic_write

FILE = "attention.csv"
COLUMNS = ("picture", "token", "class", "score", "block", "attention_head", "in_box", "box_area")
MEAN = "mean"


@dataclass(frozen=True)
class TokenShares:
    """What one token looks at in one block.

    Attributes:
        heads: (heads + 1,) share of the attention to the picture's patches that lies in the box, 0..1: first that of
            the mean of the heads, then each head's; NaN where a head looks at none of these patches.
        area: share of the picture that the box covers, 0..1, which is what attention without a preference would give.
    """

    heads: np.ndarray
    area: float


def share_in_box(maps: np.ndarray, box: np.ndarray, placement: Placement, patch: int) -> TokenShares:
    """Weigh the attention within a box against all of it; a patch's attention lies evenly on its visible pixels.

    Args:
        maps: (heads, gh, gw) attention of each head.
        box: (4,) left, top, right and bottom in pixels of the picture; what lies outside of it does not count.
        placement: where the picture lies within the network's input.
        patch: side of a patch, input pixels.
    """
    maps = np.concatenate((maps.mean(0, keepdims=True), maps)).astype(np.float64)
    rows, columns = patch_of_pixels(placement, patch, maps.shape[-2:])
    left, top, right, bottom = box
    inside, visible = [], []
    for of_pixel, count, low, high in ((rows, maps.shape[1], top, bottom), (columns, maps.shape[2], left, right)):
        centres = np.arange(len(of_pixel)) + 0.5
        visible.append(np.bincount(of_pixel, minlength=count))
        inside.append(np.bincount(of_pixel, (centres > low) & (centres < high), minlength=count))
    pixels, within = np.outer(*visible), np.outer(*inside)
    seen = np.where(pixels > 0, maps, 0).sum((1, 2))
    caught = (maps * (within / np.maximum(pixels, 1))).sum((1, 2))
    with np.errstate(invalid="ignore"):
        return TokenShares(caught / seen, float(within.sum() / pixels.sum()))


def records_of(picture: Path, words: Sequence[object], block: object, shares: TokenShares) -> list[tuple[object, ...]]:
    """Return the rows of the table for one token in one block.

    Args:
        picture: its path.
        words: number, class name and score of the token.
        block: its name.
        shares: of the token.
    """
    names = [MEAN, *range(len(shares.heads) - 1)]
    return [
        (picture, *words, block, name, f"{share:.4f}", f"{shares.area:.4f}")
        for name, share in zip(names, shares.heads, strict=True)
    ]


def write_shares(path: Path, records: Sequence[tuple[object, ...]]) -> None:
    """Write the table."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(records)
    atomic_write(path, text.getvalue().encode())
