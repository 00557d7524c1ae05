"""Assignment by anchor ratio against a slow loop that follows the rule sentence by sentence, and its corner cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.assigners.anchor_ratio import LevelMatches, assign_by_anchor_ratio

ANCHORS = torch.tensor([[1.25, 1.625], [2.0, 3.75], [4.125, 2.875]])
ROWS, COLUMNS = 6, 9


def assign(boxes: list[list[float]], images: list[int] | None = None, anchors: torch.Tensor = ANCHORS) -> LevelMatches:
    """Assign boxes in cells of a grid of 6 rows and 9 columns."""
    table = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    image = torch.tensor(images if images is not None else [0] * len(table), dtype=torch.int64)
    return assign_by_anchor_ratio(table, torch.arange(len(table)), image, anchors, (ROWS, COLUMNS), 2, 4.0)


def by_the_rule(boxes: list[list[float]], images: list[int]) -> list[tuple[int, int, int, int, int]]:
    """Return image, anchor, row, column and object of every match, in the published order."""
    matches = []
    for shift in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5)):
        for a, (aw, ah) in enumerate(ANCHORS.tolist()):
            for t, (x, y, w, h) in enumerate(boxes):
                if max(w / aw, aw / w, h / ah, ah / h) >= 4.0:
                    continue
                ax, ay = COLUMNS - x, ROWS - y
                claims = {
                    (0.0, 0.0): True,
                    (0.5, 0.0): x % 1 < 0.5 and x > 1,
                    (0.0, 0.5): y % 1 < 0.5 and y > 1,
                    (-0.5, 0.0): ax % 1 < 0.5 and ax > 1,
                    (0.0, -0.5): ay % 1 < 0.5 and ay > 1,
                }
                if claims[shift]:
                    column = min(max(math.trunc(x - shift[0]), 0), COLUMNS - 1)
                    row = min(max(math.trunc(y - shift[1]), 0), ROWS - 1)
                    matches.append((images[t], a, row, column, t))
    return matches


# Sixteenths of a cell are exact in float32, so both sides decide equally at the borders.
position = st.integers(0, 16 * COLUMNS).map(lambda n: n / 16)
height_position = st.integers(0, 16 * ROWS).map(lambda n: n / 16)
side = st.integers(1, 400).map(lambda n: n / 16)
box = st.tuples(position, height_position, side, side).map(list)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 1)), max_size=6))
def test_matches_are_those_of_the_rule(objects: list[tuple[list[float], int]]) -> None:
    boxes, images = [b for b, _ in objects], [i for _, i in objects]
    found = assign(boxes, images)
    ours = list(
        zip(*(getattr(found, k).tolist() for k in ("image", "anchor", "row", "column", "classes")), strict=True)
    )
    expected = by_the_rule(boxes, images)
    assert ours == expected
    for i, (_, a, row, column, t) in enumerate(expected):
        x, y, w, h = boxes[t]
        assert found.boxes[i].tolist() == pytest.approx([x - column, y - row, w, h])
        assert found.anchors[i].tolist() == ANCHORS[a].tolist()
    last = {match[:4]: i for i, match in enumerate(expected)}
    assert found.deciding.tolist() == [i for i, match in enumerate(expected) if last[match[:4]] == i]


@pytest.mark.parametrize("axis", [0, 1])
def test_every_sixteenth_of_a_cell_along_one_axis(axis: int) -> None:
    """Exactly 1 cell from an end, exactly half a cell, and exactly on a border are among them."""
    steps = 16 * (COLUMNS, ROWS)[axis] + 1
    boxes = [[n / 16, 2.75, 2.0, 3.0] if axis == 0 else [2.75, n / 16, 2.0, 3.0] for n in range(steps)]
    found = assign(boxes)
    ours = list(
        zip(*(getattr(found, k).tolist() for k in ("image", "anchor", "row", "column", "classes")), strict=True)
    )
    assert ours == by_the_rule(boxes, [0] * steps)


def test_no_objects() -> None:
    found = assign([])
    assert len(found) == 0 and found.boxes.shape == (0, 4) and found.deciding.shape == (0,)


def test_a_box_without_area_matches_nothing_and_is_no_nan() -> None:
    assert len(assign([[3.0, 3.0, 0.0, 0.0], [3.0, 3.0, 2.0, 0.0]])) == 0


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (COLUMNS, ROWS), (COLUMNS, 0.0), (0.0, ROWS), (1.0, 1.0)])
def test_centres_on_the_border_stay_on_the_grid(x: float, y: float) -> None:
    found = assign([[x, y, 2.0, 3.0]])
    assert len(found) > 0
    assert found.row.min() >= 0 and found.row.max() < ROWS
    assert found.column.min() >= 0 and found.column.max() < COLUMNS
    assert torch.equal(found.boxes[:, 0] + found.column, torch.full((len(found),), x))


def test_a_centre_in_the_middle_of_a_cell_takes_no_neighbour() -> None:
    assert set(zip(*(assign([[3.5, 2.5, 2.0, 3.0]]).__dict__[k].tolist() for k in ("row", "column")), strict=True)) == {
        (2, 3)
    }


def test_a_ratio_of_exactly_four_is_no_match() -> None:
    anchors = torch.tensor([[1.0, 1.0]])
    assert len(assign([[3.5, 2.5, 4.0, 1.0]], anchors=anchors)) == 0
    assert len(assign([[3.5, 2.5, 3.999, 1.0]], anchors=anchors)) == 1
    assert len(assign([[3.5, 2.5, 0.25, 1.0]], anchors=anchors)) == 0


def test_the_last_of_two_objects_in_a_cell_decides() -> None:
    found = assign([[3.5, 2.5, 2.0, 3.0], [3.5, 2.5, 2.1, 3.1]])
    assert 2 * len(found.deciding) == len(found)
    assert set(found.classes[found.deciding].tolist()) == {1}
