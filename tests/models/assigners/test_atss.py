"""ATSS: the batched assignment against the written formula, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import models.assigners.atss as atss
from models.anchor_points import anchor_points
from models.assigners.atss import assign_atss, nearest_points
from models.assigners.scored_points import ScoredPoints
from tests.models.assigners.made_up_predictions import SHAPES, Given, check_against_formula, made_up, same
from tests.models.assigners.slow_scored import Doubt, atss_slowly, nearest_slowly
from tests.models.assigners.test_task_aligned import Largest


def assign(batch: Given) -> ScoredPoints:
    return assign_atss(batch.boxes, batch.labels, batch.points)


def check(batch: Given) -> int:
    return check_against_formula(batch, assign(batch), atss_slowly)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([(2.0, 60.0), (0.5, 12.0), (20.0, 200.0)]),
)
def test_it_is_the_written_formula(counts: list[int], seed: int, levels: str, sizes: tuple[float, float]) -> None:
    try:
        check(made_up(counts, seed, *sizes, rows=max(counts) + 1, levels=levels))
    except Doubt:
        assume(False)


@pytest.mark.parametrize("count", [1, 500])
def test_one_and_five_hundred_objects(count: int) -> None:
    for seed in range(40):
        try:
            assert check(made_up([count], seed, 12.0, 40.0)) > (60 if count > 1 else 0)
            return
        except Doubt:
            continue
    pytest.fail("every seed has near ties")


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.tuples(*[st.integers(-60, 200)] * 2),
    st.tuples(*[st.integers(0, 40)] * 2),
    st.sampled_from([1, 4, 9]),
)
def test_the_nearest_points_are_those_of_a_search_among_all(
    levels: str, corner: tuple[int, int], size: tuple[int, int], count: int
) -> None:
    """Whole numbers, so that there are many points that are equally near: the lower ones count."""
    batch = made_up([1], 0, levels=levels)
    batch.labels.boxes[0, 0] = torch.tensor([*corner, corner[0] + size[0], corner[1] + size[1]]).float()
    found = nearest_points(batch.labels.boxes, batch.points, count)
    image = batch.slow(0, torch.tensor([0]))
    assert found[0, 0].tolist() == nearest_slowly(image, image.objects[0], count)


def test_objects_smaller_than_a_cell() -> None:
    """The one that holds a centre gets that point, the one between centres none."""
    batch = made_up([2], 3)
    batch.labels.boxes[0] = torch.tensor([[17.0, 17, 23, 23], [40.5, 30, 43, 33]])
    positive, matched, _ = assign(batch).dense()
    assert positive[0].nonzero()[:, 0].tolist() == [2 * 12 + 2] and int(matched[0, 26]) == 0
    assert check(batch) == 1


@pytest.mark.parametrize("rows", [0, 3])
def test_without_objects_nothing_is_positive(rows: int) -> None:
    positive, matched, score = assign(made_up([0, 0], 0, rows=rows)).dense()
    assert positive.shape == (2, 126) and not positive.any() and (matched == -1).all() and (score == 0).all()


def test_without_images() -> None:
    assert assign(made_up([2], 0).of_images([])).dense()[0].shape == (0, 126)


def test_a_level_without_points_is_left_out() -> None:
    batch = made_up([2], 4, levels="two levels")
    wider = Given(batch.boxes, batch.logits, batch.labels, anchor_points([(4, 6), (2, 3), (0, 1)], [16, 32, 64]))
    assert same(assign(wider), assign(batch)) and assign(batch).used.any()


def test_predictions_have_a_say_in_scores_alone() -> None:
    batch, other = made_up([5, 3], 8), made_up([5, 3], 8)
    other.boxes = torch.zeros_like(other.boxes)
    other.logits = torch.zeros_like(other.logits)
    found, blind = assign(batch), assign(other)
    assert torch.equal(found.dense()[1], blind.dense()[1]) and found.used.any()
    assert (blind.score == 0).all() and (found.score > 0).any()


def test_of_two_equal_objects_the_first_gets_all() -> None:
    batch = made_up([4], 5)
    batch.labels.boxes[0, 1:3] = batch.labels.boxes[0, 0] = torch.tensor([20.0, 10.0, 70.0, 55.0])
    matched = assign(batch).dense()[1]
    assert (matched == 0).any() and not ((matched == 1) | (matched == 2)).any()


def test_pieces_of_objects_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for counts in ([3, 1, 0], [40, 17, 0]):
        batch = made_up(counts, 11, 10.0, 50.0)
        whole = assign(batch)
        for most in (1, 3000):
            monkeypatch.setattr(atss, "MOST_PAIRS", most)
            assert same(assign(batch), whole)
        monkeypatch.undo()


def test_padding_rows_and_the_order_of_images_change_nothing() -> None:
    batch = made_up([4, 0, 7], 17)
    whole = assign(batch)
    assert whole.used.any()
    assert same(assign(batch.with_padding(5)), whole)
    assert same(assign(batch.of_images([2, 0, 1])), whole, [2, 0, 1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 2**31))
def test_slots_hold_every_positive_point_once(counts: list[int], seed: int) -> None:
    batch = made_up(counts, seed)
    found = assign(batch)
    positive, matched, _ = found.dense()
    for i in range(len(counts)):
        points = found.point[i][found.used[i]]
        assert len(points.unique()) == len(points) and sorted(points.tolist()) == positive[i].nonzero()[:, 0].tolist()
        assert batch.labels.valid[i][matched[i][positive[i]]].all()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e30, -1e30])
def test_wild_predictions_change_no_index(value: float) -> None:
    batch = made_up([5, 2], 19)
    expected = assign(batch)
    batch.boxes[0, ::2] = value
    found = assign(batch)
    assert torch.equal(found.point, expected.point) and torch.equal(found.dense()[1], expected.dense()[1])


def test_it_asks_the_device_for_nothing_and_its_memory_is_bounded() -> None:
    images, objects = 4, 500
    batch = made_up([2], 0)
    batch.points = anchor_points([(80, 80), (40, 40), (20, 20)], [8, 16, 32])
    batch.boxes = torch.zeros(1, 8400, 4)
    batch = batch.with_padding(objects - 2).of_images([0] * images).on_meta()
    with Largest() as largest:
        found = assign(batch)
    assert found.used.device.type == "meta" and found.dense()[0].shape == (images, 8400)
    # Nothing has more than a few numbers for every pair of an object and one of its candidates.
    assert largest.numel <= max(2 * atss.MOST_PAIRS, images * objects * 27 * 4)
