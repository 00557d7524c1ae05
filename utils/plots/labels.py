"""Picture of what a data set's labels look like: counts, places, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.figure import new_figure, save_figure
from utils.plots.palette import class_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 30
_MOST_OUTLINES = 1000


def plot_labels(classes: np.ndarray, boxes: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Draw instances per class, box outlines about one centre, and heat maps of centres and of sizes.

    Args:
        classes: (n,) class indices of all boxes of a split.
        boxes: (n, 4) centre x, centre y, width, height as shares of the image, 0..1.
        names: class names.
        path: the PNG file.
    """
    figure = new_figure(11, 10)
    counts, outlines, centres, sizes = figure.subplots(2, 2).flat
    _draw_counts(counts, np.bincount(classes, minlength=len(names)), names)
    _draw_outlines(outlines, classes, boxes)
    _draw_heat(centres, boxes[:, 0], boxes[:, 1], "x", "y", "Centres of boxes")
    centres.invert_yaxis()
    _draw_heat(sizes, boxes[:, 2], boxes[:, 3], "width", "height", "Sizes of boxes")
    return save_figure(figure, path)


def _draw_counts(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    index = np.arange(len(counts))
    bars = axes.bar(index, counts, color=class_palette()[index % 256] / 255.0)
    axes.set(title=f"{counts.sum():,} boxes", ylabel="boxes per class")
    if len(names) <= _MOST_NAMED:
        axes.set_xticks(index, names, rotation=90, fontsize=8)
        axes.bar_label(bars, fontsize=7, rotation=90 if len(names) > 10 else 0, padding=2)
        axes.margins(y=0.15)
    else:
        axes.set_xlabel("class index")


def _draw_outlines(axes: Axes, classes: np.ndarray, boxes: np.ndarray) -> None:
    """Draw a fixed sample of boxes about the middle of a unit square."""
    from matplotlib.collections import LineCollection

    pick = np.linspace(0, len(boxes) - 1, min(len(boxes), _MOST_OUTLINES)).astype(int)
    half = boxes[pick, 2:] / 2
    turns = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    lines = 0.5 + half[:, None] * turns
    colours = class_palette()[classes[pick] % 256] / 255.0
    axes.add_collection(LineCollection(list(lines), colors=colours, linewidths=0.6, alpha=0.6))
    axes.set(xlim=(0, 1), ylim=(1, 0), title=f"Outlines of {len(pick):,} boxes", aspect="equal")


def _draw_heat(axes: Axes, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, title: str) -> None:
    counts, _, _ = np.histogram2d(x, y, bins=50, range=((0, 1), (0, 1)))
    shown = np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan)
    picture = axes.imshow(shown.T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis", interpolation="nearest", vmin=0)
    axes.set(xlabel=f"{x_label} (share of image)", ylabel=f"{y_label} (share of image)", title=title)
    axes.figure.colorbar(picture, ax=axes, label="boxes (log10)", shrink=0.8)
