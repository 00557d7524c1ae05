"""Pictures of token statistics: colours by size, a panel per token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.images import read_image
from utils.plots import token_statistics
from utils.plots.token_statistics import plot_token_boxes, plot_token_classes, size_index

BLUE, GREEN, RED = range(3)


def test_sizes_are_split_as_the_reference_does() -> None:
    areas = np.array([0.0, 32**2, 32**2 + 1, 96**2 - 1, 96**2, 1e6])
    assert size_index(areas).tolist() == [BLUE, BLUE, GREEN, GREEN, RED, RED]


def dots(picture: np.ndarray, kind: int) -> np.ndarray:
    """Return (n, 2) y, x of pixels below the legend in which one channel is far above the others."""
    channel = (2, 1, 0)[kind]
    others = [c for c in range(3) if c != channel]
    strong = picture[..., channel].astype(int) - picture[..., others].max(-1) > 30
    strong[: len(strong) // 5] = False
    return np.argwhere(strong)


def test_centres_lie_where_they_are_in_the_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def cloud(x: float, y: float, side: float) -> np.ndarray:
        centres = np.array([x, y]) + 0.02 * rng.standard_normal((400, 2))
        return np.concatenate([centres, np.full((400, 2), side)], 1)

    boxes = [np.concatenate([cloud(0.2, 0.15, 20), cloud(0.8, 0.85, 200)]), cloud(0.5, 0.5, 50)]
    picture = read_image(plot_token_boxes([3, 7], boxes, tmp_path / "boxes.png"))
    small, medium, large = (dots(picture, kind).mean(0) for kind in (BLUE, GREEN, RED))
    assert small[0] < large[0] and small[1] < large[1] < medium[1]


def test_panels_are_laid_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_statistics._COLUMNS == 10
    monkeypatch.setattr(token_statistics, "_COLUMNS", 2)
    boxes = [np.empty((0, 4))] * 3
    one, three = (plot_token_boxes(list(range(n)), boxes[:n], tmp_path / f"{n}.png") for n in (1, 3))
    assert read_image(one).shape[:2] == (420, 330)
    assert read_image(three).shape[:2] == (750, 660)


def test_classes_are_drawn_beside_the_labels(tmp_path: Path) -> None:
    counts = np.array([[100, 0, 3], [300, 10, 0]])
    names = ["one", "two", "three"]
    picture = read_image(plot_token_classes(counts, np.array([0, 5000, 20]), names, tmp_path / "c.png"))
    assert len(dots(picture, BLUE)) > 100 and len(dots(picture, RED)) > 100
    empty = read_image(plot_token_classes(0 * counts, np.zeros(3), names, tmp_path / "e.png"))
    assert empty.shape[0] == picture.shape[0]
