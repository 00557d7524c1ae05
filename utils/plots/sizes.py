"""Pictures of models at several input sizes: accuracy, time and cost over the size, and accuracy over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.plots.figure import legend_label, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COSTS = {"tokens": "tokens of an input", "gflops": "GFLOPs of an input"}
_STAGES = {"inference_ms": "inference", "postprocess_ms": "postprocess"}


def plot_sizes(records: Sequence[Mapping[str, Any]], metrics: Mapping[str, str], folder: Path) -> Path:
    """Draw ``sizes.png``, a row of panels for each head of each model.

    Args:
        records: one per head and size: ``model`` where there are several, ``head``, ``size``, ``inference_ms``,
            ``postprocess_ms``, ``tokens``, ``gflops`` and metrics 0..1; what is missing or None is left out.
        metrics: the metrics to show, with their names in the picture.
        folder: where to; must exist.
    """
    heads = list(dict.fromkeys(_name_of(record) for record in records))
    costs = [name for name in _COSTS if any(record.get(name) is not None for record in records)]
    figure = new_figure(4.2 * (2 + len(costs)), 3.4 * len(heads))
    grid = figure.subplots(len(heads), 2 + len(costs), squeeze=False)
    for head, panels in zip(heads, grid, strict=True):
        own = sorted((record for record in records if _name_of(record) == head), key=lambda record: record["size"])
        _draw(panels[0], own, metrics, f"{head}: accuracy")
        panels[0].set_ylim(bottom=0)
        _draw(panels[1], own, _STAGES, f"{head}: ms per image")
        panels[1].set_ylim(bottom=0)
        for axes, name in zip(panels[2:], costs, strict=True):
            _draw(axes, own, {name: _COSTS[name]}, f"{head}: {_COSTS[name]}")
            axes.set_ylim(bottom=0)
    return save_figure(figure, folder / "sizes.png")


def plot_trade_off(records: Sequence[Mapping[str, Any]], metrics: Mapping[str, str], folder: Path) -> Path:
    """Draw ``study.png``: what models reach in how much time, a panel per head and a line per model, a dot per size.

    Args:
        records: one per model, head and size, as for ``plot_sizes``.
        metrics: those that records may have, with their names in the picture; a head is shown by its AP, else by the
            first of them that it has.
        folder: where to; must exist.
    """
    heads = list(dict.fromkeys(record["head"] for record in records))
    figure = new_figure(6.4 * len(heads), 4.8)
    for axes, head in zip(figure.subplots(1, len(heads), squeeze=False)[0], heads, strict=True):
        own = [record for record in records if record["head"] == head]
        metric = next((name for name in ("AP", *metrics) if any(name in record for record in own)), None)
        for model in dict.fromkeys(record["model"] for record in own):
            known = [record for record in own if record["model"] == model and metric in record]
            known.sort(key=lambda record: record["size"])
            spent = [sum(record[stage] for stage in _STAGES) for record in known]
            reached = [record[metric] for record in known]
            [line] = axes.plot(spent, reached, marker="o", markersize=4, label=legend_label(model))
            for x, y, record in zip(spent, reached, known, strict=True):
                look = {"textcoords": "offset points", "xytext": (4, -9), "fontsize": 7, "color": line.get_color()}
                axes.annotate(str(record["size"]), (x, y), **look)
        axes.set_title(f"{head}: {metrics.get(metric, 'nothing measured')} over time, sizes in pixels", fontsize=10)
        axes.set_xlabel("ms per image, network and suppression", fontsize=9)
        # Room for the last size, which stands beside its dot.
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="lower right")
    return save_figure(figure, folder / "study.png")


def _name_of(record: Mapping[str, Any]) -> str:
    return f"{record['model']}: {record['head']}" if record.get("model") else record["head"]


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
