"""Picture of a training run: one panel per column of its results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.figure import new_figure, save_figure
from utils.results_csv import read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 6
_SMOOTH_POINTS = 3.0
_X_COLUMNS = ("epoch", "step")
_MEASURED = ("train", "val")
"""Groups of noisy numbers, which come first and get a smoothed curve; rates, weights and times are what they are."""


def plot_results(csv_path: str | Path) -> Path:
    """Draw ``results.png`` beside a ``results.csv``, a panel per column.

    Columns named ``train/...`` and ``val/...`` come first, in rows of their own; all others share the last rows.

    Args:
        csv_path: a table with a header; the x axis is its column ``epoch`` (or ``step``, or the row number). Blank
            cells are gaps.

    Returns:
        The path of the picture.

    Raises:
        DataError: the file is missing, empty, or holds something that is not a number.
    """
    csv_path = Path(csv_path)
    columns = read_results(csv_path)
    x = np.arange(len(next(iter(columns.values()))), dtype=np.float64)
    for name in reversed(_X_COLUMNS):
        x = columns.pop(name, x)
    groups: dict[str, list[str]] = {name: [] for name in (*_MEASURED, "")}
    for name in columns:
        group = name.partition("/")[0]
        groups[group if group in _MEASURED and "/" in name else ""].append(name)
    # As even as possible: seven panels are four and three, not six and one.
    width = max(math.ceil(len(group) / max(math.ceil(len(group) / _MOST_COLUMNS), 1)) for group in groups.values())
    width = max(width, 1)
    lines = [group[i : i + width] for group in groups.values() for i in range(0, len(group), width)]
    figure = new_figure(3 * width + 0.5, 2.5 * max(len(lines), 1) + 0.5)
    grid = figure.subplots(max(len(lines), 1), width, squeeze=False)
    for row, line in zip(grid, lines, strict=False):
        for axes, name in zip(row, line, strict=False):
            _draw_panel(axes, x, columns[name], name)
            if name not in groups[""]:
                _draw_trend(axes, x, columns[name])
        for axes in row[len(line) :]:
            axes.axis("off")
    if not lines:
        grid[0, 0].axis("off")
    return save_figure(figure, csv_path.with_suffix(".png"))


def _draw_panel(axes: Axes, x: np.ndarray, y: np.ndarray, name: str) -> None:
    known = np.isfinite(y)
    axes.plot(x[known], y[known], marker=".", markersize=4, linewidth=1, color="#8fb0e8")
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)


def _draw_trend(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    known = np.isfinite(y)
    if known.sum() > 2:
        axes.plot(x[known], _smooth(y[known]), linewidth=2, color="#1f3fbf")


def _smooth(y: np.ndarray) -> np.ndarray:
    """Average each point with its neighbours by a Gaussian; beyond the ends the curve goes on turned about them."""
    reach = min(round(3 * _SMOOTH_POINTS), len(y) - 1)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / _SMOOTH_POINTS))
    return np.convolve(np.pad(y, reach, mode="reflect", reflect_type="odd"), kernel / kernel.sum(), mode="valid")
