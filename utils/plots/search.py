"""Picture of a hyperparameter search: fitness against each searched key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from utils.plots.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 5
_GIVEN_UP, _BEST, _START = "#9a9a9a", "#d62728", "#000000"


class PlottedKey(Protocol):
    """A searched key: its name, the value that the search began with, its limits, whether its axis is logarithmic."""

    name: str
    start: float
    low: float
    high: float
    log: bool


def plot_search(rows: Sequence[Mapping[str, Any]], keys: Sequence[PlottedKey], path: Path) -> Path:
    """Draw one panel per key, each trial a dot.

    Complete trials are coloured by their number, trials that were given up are grey crosses, a star marks the best and
    a dashed line the value that the search began with.

    Args:
        rows: trials with ``trial``, ``state``, ``fitness`` (None is left out) and a value for each key.
        keys: what was searched.
        path: the PNG file.
    """
    complete = [row for row in rows if row["state"] == "complete"]
    given_up = [row for row in rows if row["state"] == "pruned" and row["fitness"] is not None]
    width = min(max(len(keys), 1), _COLUMNS)
    height = max(math.ceil(len(keys) / width), 1)
    figure = new_figure(2.6 * width + 1.2, 2.3 * height + 0.9)
    grid = figure.subplots(height, width, squeeze=False, sharey=True)
    panels = list(grid.flat)
    dots = None
    for axes, key in zip(panels, keys, strict=False):
        _scatter(axes, given_up, key.name, marker="x", s=16, color=_GIVEN_UP, linewidths=0.9)
        dots = _scatter(axes, complete, key.name, s=20, c=[row["trial"] for row in complete], cmap="viridis")
        if complete:
            best = max(complete, key=lambda row: row["fitness"])
            title = f"{key.name} {best[key.name]:.4g}"
            _scatter(axes, [best], key.name, marker="*", s=130, color=_BEST, edgecolors="white", zorder=3)
        else:
            title = key.name
        _set_range(axes, key)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    for axes in panels[len(keys) :]:
        axes.axis("off")
    for row in grid:
        row[0].set_ylabel("fitness", fontsize=8)
    if dots is not None and complete:
        figure.colorbar(dots, ax=panels, label="trial", aspect=40, fraction=0.03, format="%d")
    figure.suptitle(
        f"{len(complete)} complete trials, {len(given_up)} given up (x); star: best, value in the title; dashed: start",
        fontsize=9,
    )
    return save_figure(figure, path, dpi=110)


def _set_range(axes: Axes, key: PlottedKey) -> None:
    """Show the whole range of a key and the value that the search began with."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.axvline(key.start, color=_START, linestyle="--", linewidth=0.8, alpha=0.5)
    if not key.log:
        margin = 0.03 * (key.high - key.low)
        axes.set_xlim(key.low - margin, key.high + margin)
        return
    factor = (key.high / key.low) ** 0.03
    # Limits first: until then a single dot on the start's line gives the axis no width.
    axes.set_xlim(key.low / factor, key.high * factor)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if key.high < 50 * key.low else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _scatter(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, **style: Any) -> Any:
    return axes.scatter([row[name] for row in rows], [row["fitness"] for row in rows], **style)
