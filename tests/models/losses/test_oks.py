"""Object keypoint similarity: by its formulas, its bounds, its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from models.losses.oks import keypoint_similarity, oks_tolerance, pairwise_keypoint_similarity

SIGMAS = torch.tensor([0.026, 0.079, 0.107], dtype=torch.float64)
BOX = torch.tensor([50.0, 40.0, 30.0, 60.0], dtype=torch.float64)


def objects(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return predicted and labelled keypoints, visibility and tolerances."""
    draw = torch.Generator().manual_seed(seed)
    labelled = torch.rand(2, count, 3, 2, generator=draw, dtype=torch.float64) * 60
    predicted = labelled + torch.randn(labelled.shape, generator=draw, dtype=torch.float64) * 4
    visible = (torch.rand(2, count, 3, generator=draw) < 0.6).double()
    boxes = torch.rand(2, count, 4, generator=draw, dtype=torch.float64) * 50 + 10
    return predicted, labelled, visible, oks_tolerance(boxes, SIGMAS, "diagonal")


@pytest.mark.parametrize(
    ("form", "squares"), [("diagonal", 2 * (30**2 + 60**2)), ("area", 2 * 4 * 0.53 * 30 * 60)], ids=["diagonal", "area"]
)
def test_by_its_formula(form: str, squares: float) -> None:
    labelled = torch.tensor([[40.0, 30.0], [50.0, 50.0], [1.0, 1.0]], dtype=torch.float64)
    predicted = labelled + torch.tensor([[1.0, 0.0], [3.0, 4.0], [50.0, 0.0]], dtype=torch.float64)
    visible = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    found = keypoint_similarity(predicted, labelled, visible, oks_tolerance(BOX, SIGMAS, form))
    expected = (math.exp(-1 / (0.026**2 * squares)) + math.exp(-25 / (0.079**2 * squares))) / 2
    assert float(found) == pytest.approx(expected)


def test_perfect_is_1_and_nothing_visible_is_0() -> None:
    _, labelled, _, tolerance = objects(4, 0)
    assert torch.allclose(
        keypoint_similarity(labelled, labelled, torch.ones(2, 4, 3), tolerance), torch.ones(2, 4).double()
    )
    assert not keypoint_similarity(labelled, labelled, torch.zeros(2, 4, 3), tolerance).any()


def test_pairs_are_the_single_ones() -> None:
    predicted, labelled, visible, tolerance = objects(4, 1)
    pairs = pairwise_keypoint_similarity(predicted, labelled, visible, tolerance)
    for g in range(4):
        for p in range(4):
            single = keypoint_similarity(predicted[:, p], labelled[:, g], visible[:, g], tolerance[:, g])
            assert torch.allclose(pairs[:, g, p], single)


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_gradient_matches_finite_differences_also_at_the_label_itself(offset: float) -> None:
    _, labelled, visible, tolerance = objects(3, 2)
    place = (labelled + offset).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: keypoint_similarity(x, labelled, visible, tolerance), place)


def test_a_box_without_area_gives_numbers() -> None:
    box = torch.zeros(4)
    for form in ("diagonal", "area"):
        place = torch.ones(3, 2, requires_grad=True)
        found = keypoint_similarity(place, torch.zeros(3, 2), torch.ones(3), oks_tolerance(box, SIGMAS.float(), form))
        found.backward()
        assert found == 0 and torch.isfinite(place.grad).all()
