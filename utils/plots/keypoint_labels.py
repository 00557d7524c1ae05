"""Picture of the keypoints of a data set: how often each is labelled and seen, and where it lies within its box."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.keypoints import KeypointSpec
from utils.plots.figure import new_figure, save_figure
from utils.plots.skeletons import keypoint_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

_MOST_OBJECTS = 1000
_FARTHEST = 0.25
"""How far beyond their box keypoints are shown, as a share of its sides."""


def labelled_shares(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of objects for which each keypoint is labelled, and seen, (K,) each, 0..1.

    Args:
        keypoints: (m, K, 3) x y visibility; objects without any labelled keypoint do not count.
    """
    marks = keypoints[..., 2]
    marks = marks[(marks > 0).any(1)]
    objects = max(len(marks), 1)
    return (marks > 0).sum(0) / objects, (marks == 2).sum(0) / objects


def plot_keypoints(keypoints: np.ndarray, boxes: np.ndarray, spec: KeypointSpec, path: Path) -> Path:
    """Draw bars of labelled and seen keypoints, how many an object has, and where they lie within the boxes.

    Args:
        keypoints: (m, K, 3) x y as shares of the image, 0..1, and visibility 0, 1 or 2.
        boxes: (m, 4) x1 y1 x2 y2 as shares of the image.
        spec: what the keypoints are.
        path: the PNG file.
    """
    figure = new_figure(13, 4.6)
    bars, numbers, places = figure.subplots(1, 3, width_ratios=(1.4, 1, 1.2))
    colours = np.array(keypoint_colours(spec)) / 255.0
    _draw_bars(bars, keypoints, spec, colours)
    _draw_numbers(numbers, keypoints)
    _draw_places(places, keypoints, boxes, spec, colours)
    return save_figure(figure, path)


def _draw_bars(axes: Axes, keypoints: np.ndarray, spec: KeypointSpec, colours: np.ndarray) -> None:
    labelled, seen = labelled_shares(keypoints)
    index = np.arange(len(spec))
    axes.bar(index, 100 * labelled, color=colours, alpha=0.35)
    axes.bar(index, 100 * seen, color=colours, edgecolor="#444444", linewidth=0.5)
    axes.set_xticks(index, spec.names, rotation=90, fontsize=8)
    axes.set(ylim=(0, 100), ylabel="% of the objects with keypoints")
    axes.set_title("Labelled (pale: hidden)", fontsize=10)


def _draw_numbers(axes: Axes, keypoints: np.ndarray) -> None:
    labelled = (keypoints[..., 2] > 0).sum(1)
    counts = np.bincount(labelled, minlength=keypoints.shape[1] + 1)
    axes.bar(np.arange(len(counts)), counts, color="#8fb0e8", edgecolor="#444444", linewidth=0.5)
    axes.set(xlabel="labelled keypoints", ylabel="objects")
    axes.set_title(f"Keypoints of {len(keypoints):,} objects", fontsize=10)


def _draw_places(axes: Axes, keypoints: np.ndarray, boxes: np.ndarray, spec: KeypointSpec, colours: np.ndarray) -> None:
    """Draw a fixed sample of keypoints where they lie within their box, and the median pose with its links."""
    has_some = np.flatnonzero((keypoints[..., 2] > 0).any(1))
    pick = has_some[np.linspace(0, len(has_some) - 1, min(len(has_some), _MOST_OBJECTS)).astype(int)]
    corners = boxes[pick, None, :2]
    sides = np.maximum(boxes[pick, None, 2:] - corners, 1e-9)
    inside = (keypoints[pick, :, :2] - corners) / sides
    inside[keypoints[pick, :, 2] == 0] = np.nan
    for k in range(len(spec)):
        axes.scatter(inside[:, k, 0], inside[:, k, 1], s=4, color=colours[k], alpha=0.35, linewidths=0)
    labelled = np.isfinite(inside[..., 0]).any(0)
    middle = np.full((len(spec), 2), np.nan)
    middle[labelled] = np.nanmedian(inside[:, labelled], axis=0)
    for link in spec.skeleton:
        axes.plot(*middle[list(link)].T, color="#222222", linewidth=1.2)
    axes.scatter(*middle.T, s=26, color=colours, edgecolors="#222222", zorder=3)
    axes.add_patch(_unit_square())
    axes.set(xlim=(-_FARTHEST, 1 + _FARTHEST), ylim=(1 + _FARTHEST, -_FARTHEST))
    axes.set(xlabel="share of the box's width", ylabel="share of its height")
    axes.set_title(f"Places in {len(pick):,} boxes, and the median", fontsize=10)


def _unit_square() -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, fill=False, edgecolor="#888888", linestyle="--")
