"""Pictures of what detection tokens find over a whole data set: where, how large, and of which classes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from utils.plots.figure import new_figure, save_figure

SMALL, LARGE = 32.0**2, 96.0**2
"""Areas in square pixels up to which an object is small and from which on it is large, as COCO has it."""
_COLOURS = np.array([(0.12, 0.30, 0.95), (0.10, 0.62, 0.18), (0.90, 0.10, 0.10)])
_SIZES = ("small", "medium", "large")
_COLUMNS = 10
_PANEL = 2.2
_DOT, _ALPHA = 5.0, 0.3
_BAND = (5.0, 95.0)
_TOKENS, _TRUE = "#1f5fbf", "#d62728"


def size_index(areas: np.ndarray) -> np.ndarray:
    """Return 0 for small, 1 for medium and 2 for large areas, given in square pixels of the pictures' own size."""
    return (areas > SMALL).astype(np.int64) + (areas >= LARGE)


def plot_token_boxes(tokens: Sequence[int], boxes: Sequence[np.ndarray], path: Path) -> Path:
    """Draw for every token the centres of its boxes, blue for small, green for medium and red for large ones.

    Args:
        tokens: numbers of the tokens, for the headings; a row of the picture has ten.
        boxes: per token (n, 4): centre x, centre y as shares of the picture 0..1, and width, height in native pixels.
        path: the PNG file.
    """
    columns = min(len(tokens), _COLUMNS)
    rows = ceil(len(tokens) / columns)
    figure = new_figure(_PANEL * columns, _PANEL * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes, token, own in zip(panels, tokens, boxes, strict=False):
        colours = _COLOURS[size_index(own[:, 2] * own[:, 3])]
        axes.scatter(100 * own[:, 0], 100 * own[:, 1], s=_DOT, c=colours, alpha=_ALPHA, linewidths=0)
        axes.set_title(f"token {token}", fontsize=8)
        axes.set(xlim=(0, 100), ylim=(100, 0))
        axes.tick_params(labelsize=6)
    for axes in panels[len(tokens) :]:
        axes.axis("off")
    handles = [panels[0].scatter([], [], s=4 * _DOT, color=colour) for colour in _COLOURS]
    labels = [f"{_SIZES[0]}: up to 32² pixels", _SIZES[1], f"{_SIZES[2]}: from 96² pixels"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.supxlabel("centre x, % of the picture", fontsize=8)
    figure.supylabel("centre y, %", fontsize=8)
    return save_figure(figure, path)


def plot_token_classes(counts: np.ndarray, true_counts: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Draw how often tokens answer with each class, beside how often the class is labelled, on a log axis.

    The line is the mean of all tokens; the band holds nine tokens of ten (5th to 95th percentile). All numbers are
    drawn one higher than they are, so that none is left out.

    Args:
        counts: (Q, C) predictions of every token and class.
        true_counts: (C,) labelled objects.
        names: C class names.
        path: the PNG file.
    """
    figure = new_figure(min(max(0.275 * len(names), 7), 60), 6)
    axes = figure.subplots()
    index = np.arange(len(names))
    low, high = np.percentile(counts, _BAND, axis=0)
    axes.fill_between(index, low + 1, high + 1, color=_TOKENS, alpha=0.2, linewidth=0, label="nine tokens of ten")
    axes.plot(index, counts.mean(0) + 1, color=_TOKENS, marker=".", label=f"mean of {len(counts)} tokens")
    axes.plot(index, true_counts + 1, color=_TRUE, marker=".", linewidth=1, label="labelled objects")
    axes.set_yscale("log")
    axes.set(ylabel="count + 1", xlim=(-0.5, len(names) - 0.5))
    axes.set_ylim(bottom=1)
    axes.set_xticks(index, names, rotation=90, fontsize=8)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
