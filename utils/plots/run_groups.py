"""Picture of several groups of training runs side by side, such as two recipes with some seeds each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f3fbf", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P")


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
    figure = new_figure(4.6 * len(columns) + 0.4, 3.6)
    grid = figure.subplots(1, len(columns), squeeze=False)
    for axes, column in zip(grid[0], columns, strict=True):
        for number, (name, values) in enumerate(groups.items()):
            _draw_group(axes, x, values[column], name, number)
        axes.set_title(column, fontsize=10)
        axes.set_xlabel(x_label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    return save_figure(figure, path)


def _draw_group(axes: Axes, x: np.ndarray, runs: np.ndarray, name: str, number: int) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    for run in runs:
        known = np.isfinite(run)
        axes.plot(x[known], run[known], linewidth=0.8, alpha=0.35, color=color)
    known = np.isfinite(runs).all(0)
    label = name if len(runs) == 1 else f"{name}, mean of {len(runs)}"
    axes.plot(x[known], runs[:, known].mean(0), marker=marker, markersize=4, linewidth=1.8, color=color, label=label)
