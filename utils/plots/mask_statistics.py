"""What the masks of a split hold: how much of each class, in how many pictures, and where; and the picture of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.plots.figure import new_figure, save_figure
from utils.plots.palette import mask_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IGNORED = 255
GRID = (48, 64)
"""Rows and columns of the maps that say where a class lies; every mask is stretched over them."""

_MOST_MAPS = 20
_MAPS_IN_A_ROW = 6
_MOST_NAMED = 30


@dataclass(frozen=True)
class MaskStatistics:
    """Sums over n masks of C classes.

    Attributes:
        pixels: (C,) int64, labelled pixels of each class.
        images: (C,) int64, masks in which it occurs.
        ignored: pixels that do not count.
        places: (C, rows, columns) float64, share of the masks that have the class at each place of ``GRID``, 0..1.
        count: n.
    """

    pixels: np.ndarray
    images: np.ndarray
    ignored: int
    places: np.ndarray
    count: int

    @property
    def shares(self) -> np.ndarray:
        """(C,) shares of the pixels that count, 0..1."""
        return self.pixels / max(int(self.pixels.sum()), 1)


def count_masks(masks: Iterable[np.ndarray], classes: int) -> MaskStatistics:
    """Add masks up.

    Args:
        masks: (H, W) uint8 each, of any sizes, class indices below ``classes`` or 255.
        classes: C.
    """
    rows, columns = GRID
    pixels, images = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    places = np.zeros(classes * rows * columns, np.int64)
    base = np.arange(rows * columns).reshape(GRID)
    ignored = count = 0
    for mask in masks:
        found = np.bincount(mask.ravel(), minlength=IGNORED + 1)
        pixels += found[:classes]
        images += found[:classes] > 0
        ignored += int(found[IGNORED])
        small = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
        known = small < classes
        places[small[known].astype(np.int64) * base.size + base[known]] += 1
        count += 1
    shares = places.reshape(classes, rows, columns) / max(count, 1)
    return MaskStatistics(pixels, images, ignored, shares, count)


def plot_masks(statistics: MaskStatistics, names: Sequence[str], path: Path) -> Path:
    """Draw shares of pixels and of pictures per class, and where the most frequent classes lie.

    Args:
        statistics: of the masks.
        names: class names.
        path: the PNG file.
    """
    shown = np.argsort(-statistics.pixels, kind="stable")[:_MOST_MAPS]
    shown = shown[statistics.pixels[shown] > 0]
    lines = math.ceil(len(shown) / _MAPS_IN_A_ROW)
    figure = new_figure(13, 4.4 + 2.1 * lines)
    above, *below = figure.subfigures(
        1 + bool(lines), 1, squeeze=False, height_ratios=(4.4, 2.1 * lines)[: 1 + bool(lines)]
    ).flat
    pixels, images = above.subplots(1, 2)
    total = int(statistics.pixels.sum()) + statistics.ignored
    left_out = statistics.ignored / max(total, 1)
    _draw_shares(pixels, statistics.shares, names, f"Share of the labelled pixels ({left_out:.1%} are ignored)")
    present = statistics.images / max(statistics.count, 1)
    _draw_shares(images, present, names, f"Share of {statistics.count:,} pictures that have the class")
    for part in below:
        _draw_places(part, statistics.places[shown], [names[c] for c in shown], lines)
    return save_figure(figure, path)


def _draw_shares(axes: Axes, shares: np.ndarray, names: Sequence[str], title: str) -> None:
    index = np.arange(len(names))
    bars = axes.bar(index, 100 * shares, color=mask_palette(names)[index] / 255.0, edgecolor="#888888", linewidth=0.5)
    axes.set(title=title, ylabel="%")
    axes.title.set_fontsize(10)
    if len(names) > _MOST_NAMED:
        axes.set_xlabel("class index")
        return
    axes.set_xticks(index, names, rotation=90, fontsize=8)
    axes.bar_label(bars, [f"{100 * share:.3g}" for share in shares], fontsize=7, padding=2)
    axes.margins(y=0.12)


def _draw_places(figure: Figure, places: np.ndarray, names: Sequence[str], lines: int) -> None:
    """Draw a map per class, from never (dark) to its own greatest share of the pictures (yellow)."""
    figure.suptitle(
        "Where they lie, and the greatest share of the pictures that have the class at one place", fontsize=10
    )
    # As even as possible: seven maps are four and three, not six and one.
    width = math.ceil(len(names) / lines)
    grid = figure.subplots(lines, width, squeeze=False).ravel()
    for axes, place, name in zip(grid, places, names, strict=False):
        axes.imshow(place, cmap="viridis", vmin=0, interpolation="nearest", aspect="auto")
        axes.set_title(f"{name}, up to {place.max():.0%}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    for axes in grid[len(names) :]:
        axes.axis("off")
