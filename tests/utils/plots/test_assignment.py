"""Pictures of assignments: the colours of dots and boxes, and what has no match."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.samples import Batch
from models.assigners.assigned_points import AssignedPoints
from utils.plots.assignment import draw_assignment
from utils.plots.palette import class_colour

RED = (255, 51, 51)


def two_images() -> tuple[Batch, AssignedPoints]:
    """Return two grey images; of the first one's objects, both of class 0, the second has no match."""
    boxes = torch.tensor(
        [[[20.0, 40.0, 80.0, 90.0], [100.0, 40.0, 150.0, 90.0]], [[0.0, 0.0, 0.0, 0.0], [30.0, 50.0, 90.0, 110.0]]]
    )
    batch = Batch(
        images=torch.full((2, 3, 400, 400), 128, dtype=torch.uint8),
        boxes=boxes,
        classes=torch.zeros(2, 2, dtype=torch.int64),
        valid=torch.tensor([[True, True], [False, True]]),
    )
    assigned = AssignedPoints(
        torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), torch.tensor([[44.0, 60.0], [60.0, 76.0], [60.0, 76.0]])
    )
    return batch, assigned


def test_dots_have_the_colour_of_their_object_and_boxes_without_one_are_red() -> None:
    batch, assigned = two_images()
    picture = draw_assignment(batch, assigned, ["cell"])
    first, second = picture[4:404, 4:404], picture[4:404, 408:808]
    assert tuple(first[60, 44]) == tuple(first[76, 60]) == tuple(first[70, 20]) == class_colour(1)
    assert tuple(second[76, 60]) == tuple(second[80, 30]) == class_colour(2)
    assert tuple(first[70, 100]) == RED
    assert not (second.reshape(-1, 3) == RED).all(1).any()


def test_without_objects_the_images_stay_what_they_are() -> None:
    batch, _ = two_images()
    batch.valid[:] = False
    none = AssignedPoints(torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 2))
    assert set(np.unique(draw_assignment(batch, none, ["cell"]))) == {128, 255}


@pytest.mark.parametrize("row", [254, 255, 700])
def test_no_object_is_drawn_in_the_red_of_those_without_a_match(row: int) -> None:
    batch, assigned = two_images()
    batch.boxes = torch.zeros(2, row + 1, 4)
    batch.boxes[0, row] = torch.tensor([20.0, 40.0, 80.0, 90.0])
    batch.classes, batch.valid = torch.zeros(2, row + 1).long(), torch.zeros(2, row + 1, dtype=torch.bool)
    batch.valid[0, row] = True
    assigned = AssignedPoints(torch.tensor([0]), torch.tensor([row]), torch.tensor([[44.0, 60.0]]))
    picture = draw_assignment(batch, assigned, ["cell"])
    assert tuple(picture[64, 48]) == tuple(picture[74, 24]) != RED
