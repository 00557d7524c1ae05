"""The picture of a search can be drawn at any time of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from utils.plots.search import plot_search
from utils.search.space import SearchKey

KEYS = [SearchKey("lr0", 0.01, 1e-5, 0.1, True), SearchKey("decay", 0, 0, 0.02, False)]


def row(trial: int, state: str, fitness: float | None) -> dict[str, Any]:
    return {"trial": trial, "state": state, "fitness": fitness, "lr0": 0.001 * trial, "decay": 0.001 * trial}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "rows",
    [
        [row(1, "failed", None)],
        [row(10, "complete", 0.5)],
        [row(1, "complete", 0.5), row(2, "pruned", 0.1), row(3, "failed", None), row(4, "pruned", None)],
        [row(i, "complete", i / 40) for i in range(1, 40)],
    ],
)
def test_every_state_of_a_search_has_a_picture(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    picture = cv2.imread(str(plot_search(rows, KEYS, tmp_path / "evolve.png")))
    assert picture.shape[1] > picture.shape[0] > 200


def test_more_keys_make_more_rows_of_panels(tmp_path: Path) -> None:
    rows = [row(1, "complete", 0.5)]
    small = cv2.imread(str(plot_search(rows, KEYS, tmp_path / "a.png")))
    large = cv2.imread(str(plot_search(rows, KEYS * 4, tmp_path / "b.png")))
    assert large.shape[0] > 1.5 * small.shape[0]
