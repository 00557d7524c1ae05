"""Inputs for checks: a choice that rounding could turn is noticed, and another input taken."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tests.tiny_ms_detr import tiny_ms_detr
from utils.export.clear_choice import CLEAR, STEP, choice_gap, with_clear_choices
from utils.export.exported_graph import ExportedGraph


def pixels(*first_row: int) -> np.ndarray:
    return np.broadcast_to(np.array(first_row, np.uint8), (1, 3, 2, len(first_row)))


def best_three(images: Tensor) -> Tensor:
    return images[:, 0, 0].float().topk(3, 1).indices


def test_the_gap_is_that_between_the_last_taken_and_the_first_left() -> None:
    assert math.isclose(choice_gap(best_three, pixels(200, 150, 90, 100, 40)), 10 / 200, rel_tol=1e-6)
    assert choice_gap(best_three, pixels(1, 2, 3)) == math.inf, "all are taken"
    assert choice_gap(lambda images: images.float().mean(), pixels(1, 2, 3, 4)) == math.inf, "nothing is chosen"


def test_the_narrowest_of_several_pictures_and_choices_counts() -> None:
    def twice(images: Tensor) -> None:
        torch.topk(images[:, 0, 0].float(), k=1, dim=-1)
        best_three(images)

    both = np.concatenate((pixels(100, 80, 60, 40), pixels(100, 80, 60, 59)))
    assert math.isclose(choice_gap(twice, both), 1 / 100, rel_tol=1e-6)


def test_an_input_whose_choice_is_a_tie_is_moved() -> None:
    def seen_through_a_slit(images: Tensor) -> Tensor:
        return images[:, 0, 0, :4].float().topk(2, 1).indices

    tied, plain = pixels(9, 5, 5, 1, *range(20, 20 + 3 * STEP)), pixels(*range(40))
    images = with_clear_choices(seen_through_a_slit, {"tied": tied, "plain": plain})
    assert choice_gap(seen_through_a_slit, tied) == 0
    assert choice_gap(seen_through_a_slit, images["tied"]) >= CLEAR
    np.testing.assert_array_equal(images["tied"], np.roll(tied, STEP, -1))
    np.testing.assert_array_equal(images["plain"], plain)


def test_where_nothing_helps_the_input_stays() -> None:
    same = pixels(*[7] * 12)
    assert (with_clear_choices(best_three, {"grey": same})["grey"] == same).all()


def test_the_choice_of_queries_is_seen() -> None:
    graph = tiny_ms_detr()
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96), np.uint8)
    gap = choice_gap(ExportedGraph(graph, graph.heads), noise)
    assert 0 < gap < 1
