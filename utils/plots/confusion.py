"""Picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots.figure import new_figure, save_figure

_MOST_NUMBERED = 30
_BLANK_BELOW = 0.005
_LARGEST = 26
"""Inches of the longest side, whatever the number of classes."""


def plot_confusion(matrix: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Draw counts as shares of each true class.

    Args:
        matrix: (n, n) counts, row = predicted class, column = true class.
        names: n names.
        path: the PNG file. Shares below 0.005 stay blank.
    """
    total = matrix.sum(0, keepdims=True)
    share = matrix / np.maximum(total, 1)
    count = len(names)
    numbered = count <= _MOST_NUMBERED
    side = max(0.42 * count + 3, 5) if numbered else min(0.2 * count + 3, _LARGEST)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(np.where(share < _BLANK_BELOW, np.nan, share), cmap="Blues", vmin=0, vmax=1, zorder=1)
    if numbered:
        for row, column in zip(*np.nonzero(share >= _BLANK_BELOW), strict=True):
            value = share[row, column]
            colour = "white" if value > 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    else:
        # Fine lines lead from a far cell to its names.
        axes.grid(color="0.93", linewidth=0.5)
        axes.set_axisbelow(True)
    size = 8 if numbered else min(8, 48 * (side - 3) / count)
    ticks = range(count)
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set(xlabel="true", ylabel="predicted", title="Confusion, as a share of each true class")
    figure.colorbar(picture, ax=axes, shrink=0.8, aspect=max(20, 3 * side))
    return save_figure(figure, path)
