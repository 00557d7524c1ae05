"""COCO's run-length masks: runs of pixels down the columns, as a list of numbers or as a text.

The runs of a mask are counted column after column, first those outside of the object, then inside, and so on in turn.
The text has the same counts in groups of five bits: from the third on, each is the difference from the count two places
before; a character is 48 and five bits, the lowest first, and 32 more where the number goes on; the last group's bit 4
is the sign.
"""

from __future__ import annotations

import numpy as np

_ZERO, _MORE, _SIGN, _BITS = 48, 32, 16, 5
_MOST_GROUPS = 8
"""Of one number: 40 bits, more than any picture has pixels."""


def mask_to_runs(mask: np.ndarray) -> np.ndarray:
    """Return (r,) int64, the runs of an (H, W) bool mask; their sum is H * W."""
    pixels = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    ends = np.concatenate([changes, [len(pixels)]])
    runs = np.diff(ends, prepend=0)
    return np.concatenate([[0], runs]) if len(pixels) and pixels[0] else runs


def runs_to_mask(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the (H, W) bool mask of (r,) runs; the inverse of ``mask_to_runs``.

    Raises:
        ValueError: a run is negative, or their sum is not the number of pixels.
    """
    check_runs(runs, size)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[1], size[0]).T


def check_runs(runs: np.ndarray, size: tuple[int, int]) -> None:
    """Make sure that runs describe a picture of ``size`` (height, width).

    Raises:
        ValueError: a run is negative, or their sum is not the number of pixels.
    """
    pixels = size[0] * size[1]
    # Numbers beyond a picture's could overflow the sum.
    if (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        raise ValueError(f"its runs do not fill {size[1]}x{size[0]} pixels (width x height)")


def runs_to_text(runs: np.ndarray) -> str:
    """Return (r,) runs as COCO's compressed text."""
    runs = np.asarray(runs, np.int64)
    values = runs.copy()
    values[3:] -= runs[1:-2]
    groups, rest, open_rows = [], values, np.ones(len(values), bool)
    alive = []
    while open_rows.any():
        low, rest = rest & 31, rest >> _BITS
        sign = (low & _SIGN) != 0
        more = np.where(sign, rest != -1, rest != 0)
        groups.append(low + np.where(more, _MORE, 0) + _ZERO)
        alive.append(open_rows)
        open_rows = open_rows & more
    if not groups:
        return ""
    return np.stack(groups, axis=1)[np.stack(alive, axis=1)].astype(np.uint8).tobytes().decode("ascii")


def text_to_runs(text: str) -> np.ndarray:
    """Return (r,) int64, the runs of a compressed text.

    Raises:
        ValueError: the text has other characters, ends within a number, or a number is too long.
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _ZERO
    except UnicodeEncodeError:
        raise ValueError("its counts hold characters that no run-length text has") from None
    if not len(codes):
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("its counts hold characters that no run-length text has")
    ends = np.flatnonzero(codes < _MORE)
    if not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("its counts end within a number")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _MOST_GROUPS:
        raise ValueError("its counts hold a number with too many digits")
    starts = ends - lengths + 1
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (_BITS * place), starts)
    values -= np.where(codes[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    # Differences from two places before: the odd and the even places are sums of their own, from places 1 and 2 on.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
