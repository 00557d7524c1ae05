"""Which colour stands for which class, as a strip of small squares with names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.plots.text import fitted_text, text_mask

_SIZE = 12
_GAP = 6
_PAPER = 255


def draw_legend(names: Sequence[str], colours: np.ndarray, width: int) -> np.ndarray:
    """Return as many lines of squares and names as are needed.

    Args:
        names: of the classes.
        colours: (n, 3) uint8 RGB, one for each name.
        width: of the picture, pixels.

    Returns:
        (H, width, 3) uint8 RGB; H is 0 without names.
    """
    masks = [text_mask(*fitted_text(name or " ", _SIZE, max(width - _SIZE - 3 * _GAP, 1))) for name in names]
    lines: list[list[int]] = []
    left = width
    for i, mask in enumerate(masks):
        needed = _SIZE + 3 * _GAP + mask.shape[1]
        if left + needed > width:
            lines.append([])
            left = 0
        lines[-1].append(i)
        left += needed
    height = max((mask.shape[0] for mask in masks), default=0) + _GAP
    picture = np.full((height * len(lines), width, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines):
        x, y = _GAP, number * height
        for i in line:
            picture[y + 2 : y + 2 + _SIZE, x : x + _SIZE] = colours[i]
            x += _SIZE + _GAP
            word = picture[y : y + masks[i].shape[0], x : x + masks[i].shape[1]]
            word[:] = _PAPER - masks[i][: word.shape[0], : word.shape[1], None]
            x += masks[i].shape[1] + _GAP
    return picture
