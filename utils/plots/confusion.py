"""Picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots.figure import new_figure, save_figure

_MOST_NUMBERED = 30
_BLANK_BELOW = 0.005


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
    side = min(max(0.42 * count + 3, 5), 16)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(np.where(share < _BLANK_BELOW, np.nan, share), cmap="Blues", vmin=0, vmax=1)
    if count <= _MOST_NUMBERED:
        for row, column in zip(*np.nonzero(share >= _BLANK_BELOW), strict=True):
            value = share[row, column]
            colour = "white" if value > 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    size = 8 if count <= _MOST_NUMBERED else max(3, 240 / count)
    ticks = range(count)
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set(xlabel="true", ylabel="predicted", title="Confusion, as a share of each true class")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    return save_figure(figure, path)
