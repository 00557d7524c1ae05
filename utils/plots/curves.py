"""Pictures of curves over confidence and recall, and bars per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.metrics.average_precision import CONFIDENCES
from utils.plots.figure import legend_label, new_figure, save_figure
from utils.plots.palette import class_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 20
_MEAN_COLOUR = "black"


def _draw_classes(axes: Axes, x: np.ndarray, curves: np.ndarray, labels: Sequence[str]) -> None:
    """Draw one line per class: named and coloured while they are few, thin and grey when they are many."""
    if len(curves) <= _MOST_NAMED:
        for curve, label, colour in zip(curves, labels, class_palette() / 255.0, strict=False):
            axes.plot(x, curve, linewidth=1.2, label=legend_label(label), color=colour)
    elif len(curves):
        axes.plot(x, curves.T, linewidth=0.6, color="0.75")


def _finish(axes: Axes, x_label: str, y_label: str, title: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid(alpha=0.25)
    axes.figure.legend(loc="outside right upper", fontsize=8, frameon=False)


def plot_precision_recall(
    curves: np.ndarray, ap50: np.ndarray, names: Sequence[str], path: Path, measure: str = "IoU"
) -> Path:
    """Draw precision over recall at overlap 0.50.

    Args:
        curves: (C, S) enveloped precision at S even steps of recall from 0 to 1.
        ap50: (C,) area under each curve.
        names: C class names.
        path: the PNG file.
        measure: of the overlap, for the heading.
    """
    recalls = np.linspace(0, 1, curves.shape[1])
    figure = new_figure(9, 6)
    axes = figure.subplots()
    labels = [f"{name} {value:.3f}" for name, value in zip(names, ap50, strict=True)]
    _draw_classes(axes, recalls, curves, labels)
    mean = curves.mean(0) if len(curves) else np.zeros_like(recalls)
    area = float(ap50.mean()) if len(ap50) else 0.0
    axes.plot(recalls, mean, linewidth=3, color=_MEAN_COLOUR, label=f"all classes {area:.3f}")
    _finish(axes, "recall", "precision", f"Precision over recall at {measure} 0.50")
    return save_figure(figure, path)


def plot_confidence_curve(curves: np.ndarray, names: Sequence[str], y_label: str, path: Path) -> Path:
    """Draw a metric over confidence and mark the best point of its mean.

    Args:
        curves: (C, 1000) values at 1000 confidences in 0..1.
        names: C class names.
        y_label: what the curves are.
        path: the PNG file.
    """
    figure = new_figure(9, 6)
    axes = figure.subplots()
    _draw_classes(axes, CONFIDENCES, curves, names)
    mean = curves.mean(0) if len(curves) else np.zeros_like(CONFIDENCES)
    best = int(mean.argmax())
    label = f"all classes {mean[best]:.2f} at {CONFIDENCES[best]:.3f}"
    axes.plot(CONFIDENCES, mean, linewidth=3, color=_MEAN_COLOUR, label=label)
    axes.plot(CONFIDENCES[best], mean[best], "o", color=_MEAN_COLOUR)
    _finish(axes, "confidence", y_label, f"{y_label[:1].upper()}{y_label[1:]} over confidence at IoU 0.50")
    return save_figure(figure, path)


def plot_class_bars(
    values: np.ndarray,
    present: np.ndarray,
    names: Sequence[str],
    title: str,
    path: Path,
    others: np.ndarray | None = None,
    others_label: str = "",
) -> Path:
    """Draw one bar per class, the best on top; classes that do not occur are named without a bar.

    Args:
        values: (C,) 0..1.
        present: (C,) bool, False where a class has no value.
        names: C class names.
        title: heading.
        path: the PNG file.
        others: (C,) of another measure, 0..1, drawn as dots; what is below 0 is not known and left out.
        others_label: its name.
    """
    order = np.lexsort((values, present))
    figure = new_figure(8, max(2.5, 0.28 * len(names) + 1))
    axes = figure.subplots()
    rows = np.arange(len(order))
    bars = axes.barh(rows, np.where(present, values, 0)[order], color=class_palette()[order % 256] / 255.0)
    texts = [f"{values[c]:.3f}" if present[c] else "does not occur" for c in order]
    if others is None:
        axes.bar_label(bars, texts, padding=3, fontsize=8)
    else:
        # Beside the bars, where dots would lie on them.
        for row, text, is_present in zip(rows, texts, present[order], strict=True):
            axes.text(1.03 if is_present else 0.01, row, text, va="center", fontsize=8)
        known = others[order] >= 0
        dots = axes.plot(others[order][known], rows[known], "o", color="black", markersize=4, zorder=3)
        figure.legend(dots, [others_label], loc="outside lower right", fontsize=8, frameon=False)
    axes.set_yticks(rows, [names[c] for c in order], fontsize=8)
    axes.set(xlim=(0, 1.12), ylim=(-0.6, len(order) - 0.4), title=title)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    return save_figure(figure, path)
