"""Picture of several groups of training runs side by side, such as two recipes with some seeds each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.figure import legend_label, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f3fbf", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#17a2b8", "#e07b00", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_IN_A_ROW = 5
MOST_MARKERS = 25
"""Markers of a line; of long runs only some points have one."""


def plot_run_groups(
    x: np.ndarray, groups: Mapping[str, Mapping[str, np.ndarray]], columns: Sequence[str], x_label: str, path: Path
) -> Path:
    """Draw a panel per column: each group's mean as a line of dots, and each of its runs as a thin line.

    Args:
        x: (points,) what the horizontal axis shows.
        groups: name -> column -> (runs, points) values, NaN where a run has none.
        columns: what to show, in order.
        x_label: title of the horizontal axis.
        path: the PNG file to write.
    """
    rows = math.ceil(len(columns) / MOST_IN_A_ROW)
    # As even as possible: six panels are three and three, not five and one.
    width = math.ceil(len(columns) / rows)
    lines = math.ceil(len(groups) / width)
    figure = new_figure(4.6 * width + 0.4, 3.3 * rows + 0.25 * lines + 0.1)
    grid = figure.subplots(rows, width, squeeze=False).ravel()
    for axes, column in zip(grid, columns, strict=False):
        for number, (name, values) in enumerate(groups.items()):
            _draw_group(axes, x, values[column], name, number)
        axes.set_title(column, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    for axes in grid[max(len(columns) - width, 0) : len(columns)]:
        axes.set_xlabel(x_label, fontsize=9)
    for axes in grid[len(columns) :]:
        axes.axis("off")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=width, fontsize=9, frameon=False)
    return save_figure(figure, path)


def _draw_group(axes: Axes, x: np.ndarray, runs: np.ndarray, name: str, number: int) -> None:
    # Where colours begin again, each has another marker than before.
    color, marker = COLORS[number % len(COLORS)], MARKERS[(number + number // len(COLORS)) % len(MARKERS)]
    for run in runs:
        known = np.isfinite(run)
        axes.plot(x[known], run[known], linewidth=0.8, alpha=0.35, color=color)
    known = np.isfinite(runs).all(0)
    label = name if len(runs) == 1 else f"{name}, mean of {len(runs)}"
    axes.plot(
        x[known],
        runs[:, known].mean(0),
        marker=marker,
        markersize=4,
        markevery=max(int(known.sum()) // MOST_MARKERS, 1),
        linewidth=1.8,
        color=color,
        label=legend_label(label),
    )
