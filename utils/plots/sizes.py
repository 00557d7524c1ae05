"""Picture of a model at several input sizes: accuracy, time and cost over the size, a row of panels per head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.plots.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COSTS = {"tokens": "tokens of an input", "gflops": "GFLOPs of an input"}
_STAGES = {"inference_ms": "inference", "postprocess_ms": "postprocess"}


def plot_sizes(records: Sequence[Mapping[str, Any]], metrics: Mapping[str, str], folder: Path) -> Path:
    """Draw ``sizes.png``.

    Args:
        records: one per head and size: ``head``, ``size``, ``inference_ms``, ``postprocess_ms``, ``tokens``, ``gflops``
            and metrics 0..1; what is missing or None is left out.
        metrics: the metrics to show, with their names in the picture.
        folder: where to; must exist.
    """
    heads = list(dict.fromkeys(record["head"] for record in records))
    costs = [name for name in _COSTS if any(record.get(name) is not None for record in records)]
    figure = new_figure(4.2 * (2 + len(costs)), 3.4 * len(heads))
    grid = figure.subplots(len(heads), 2 + len(costs), squeeze=False)
    for head, panels in zip(heads, grid, strict=True):
        own = sorted((record for record in records if record["head"] == head), key=lambda record: record["size"])
        _draw(panels[0], own, metrics, f"{head}: accuracy")
        panels[0].set_ylim(bottom=0)
        _draw(panels[1], own, _STAGES, f"{head}: ms per image")
        panels[1].set_ylim(bottom=0)
        for axes, name in zip(panels[2:], costs, strict=True):
            _draw(axes, own, {name: _COSTS[name]}, f"{head}: {_COSTS[name]}")
            axes.set_ylim(bottom=0)
    return save_figure(figure, folder / "sizes.png")


def _draw(axes: Axes, records: Sequence[Mapping[str, Any]], lines: Mapping[str, str], title: str) -> None:
    """Draw one panel: a line of dots for each of some keys that a record has."""
    for key, label in lines.items():
        known = [(record["size"], record[key]) for record in records if record.get(key) is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", markersize=4, linewidth=1.5, label=label)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("size, pixels", fontsize=9)
    axes.set_xticks(sorted({record["size"] for record in records}))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if len(lines) > 1:
        # Below the panel: within it there is a line wherever the legend lies.
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(lines), columnspacing=1)
