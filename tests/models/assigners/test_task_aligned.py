"""Task-aligned assignment: the batched one against the written formula, and what must not change it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import models.assigners.candidates as candidates
import models.assigners.task_aligned as task_aligned
from models.anchor_points import anchor_points
from models.assigners.scored_points import ScoredPoints
from models.assigners.task_aligned import TASK_ALIGNED_RULES, assign_task_aligned
from tests.models.assigners.made_up_predictions import SHAPES, Given, check_against_formula, made_up, same
from tests.models.assigners.slow_scored import Doubt, Found, SlowImage, plain_iou, task_aligned_slowly

RULES = sorted(TASK_ALIGNED_RULES)
# Points that an object may claim, the two powers, the small number, and whether the overlap is CIoU.
PUBLISHED = {"yolov8": (10, 0.5, 6.0, 1e-9, True), "yolov6": (13, 1.0, 6.0, 1e-7, False)}


def assign(batch: Given, rule: str) -> ScoredPoints:
    return assign_task_aligned(batch.boxes, batch.logits, batch.labels, batch.points, TASK_ALIGNED_RULES[rule])


def check(batch: Given, rule: str) -> int:
    def formula(image: SlowImage) -> Found:
        return task_aligned_slowly(image, *PUBLISHED[rule])

    return check_against_formula(batch, assign(batch, rule), formula)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.sampled_from(RULES),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([(2.0, 60.0), (0.5, 12.0), (20.0, 200.0)]),
)
def test_it_is_the_written_formula(
    counts: list[int], seed: int, rule: str, levels: str, sizes: tuple[float, float]
) -> None:
    try:
        check(made_up(counts, seed, *sizes, rows=max(counts) + 1, levels=levels), rule)
    except Doubt:
        assume(False)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 500])
def test_one_and_five_hundred_objects(rule: str, count: int) -> None:
    for seed in range(40):
        try:
            assert check(made_up([count], seed, 12.0, 40.0), rule) > (60 if count > 1 else 0)
            return
        except (Doubt, AssertionError):
            if seed == 39:
                raise


@pytest.mark.parametrize("rule", RULES)
def test_objects_smaller_than_a_cell_have_the_points_that_they_hold(rule: str) -> None:
    batch = made_up([3], 3)
    batch.labels.boxes[0] = torch.tensor([[10.0, 10, 13, 13], [17, 17, 23, 23], [40.5, 30, 41, 31]])
    batch.labels.classes[0] = 1
    batch.boxes[0] = torch.tensor([17.0, 17, 23, 22])
    positive, matched, score = assign(batch, rule).dense()
    # The first one holds the centre 12, 12, but nobody predicts it.
    assert positive[0].nonzero()[:, 0].tolist() == [2 * 12 + 2] and int(matched[0, 26]) == 1
    assert 0.5 < float(score[0, 26]) < 1
    assert check(batch, rule) == 1


@pytest.mark.parametrize("rule", RULES)
def test_points_on_an_edge_lie_outside(rule: str) -> None:
    """The edges of the object go through centres of cells on all four sides."""
    batch = made_up([1], 3, levels="one level")
    batch.labels.boxes[0] = batch.boxes[0] = torch.tensor([12.0, 12.0, 36.0, 28.0])
    positive = assign(batch, rule).dense()[0]
    assert positive[0].nonzero()[:, 0].tolist() == [2 * 12 + 2, 2 * 12 + 3]
    assert check(batch, rule) == 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rows", [0, 3])
def test_without_objects_nothing_is_positive(rule: str, rows: int) -> None:
    positive, matched, score = assign(made_up([0, 0], 0, rows=rows), rule).dense()
    assert positive.shape == (2, 126) and not positive.any() and (matched == -1).all() and (score == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_without_images(rule: str) -> None:
    assert assign(made_up([2], 0).of_images([]), rule).dense()[0].shape == (0, 126)


@pytest.mark.parametrize("rule", RULES)
def test_a_contested_point_may_go_to_an_object_that_did_not_claim_it(rule: str) -> None:
    """The object that the predicted box overlaps most gets it, though the point lies outside of it."""
    batch = made_up([3], 1, levels="one level")
    batch.labels.boxes[0] = torch.tensor([[8.0, 8, 32, 32], [8, 8, 32, 30], [22, 8, 42, 32]])
    batch.labels.classes[0] = 0
    batch.boxes[0] = torch.tensor([200.0, 200, 201, 201])
    batch.boxes[0, 2 * 12 + 2] = torch.tensor([18.0, 8, 42, 32])
    assert check(batch, rule) == 1
    assert int(assign(batch, rule).dense()[1][0, 26]) == 2


@pytest.mark.parametrize("rule", RULES)
def test_of_two_equal_objects_the_first_gets_all(rule: str) -> None:
    batch = made_up([4], 5)
    batch.labels.boxes[0, 1:3], batch.labels.classes[0, 1:3] = batch.labels.boxes[0, 0], batch.labels.classes[0, 0]
    matched = assign(batch, rule).dense()[1]
    assert (matched == 0).any() and not ((matched == 1) | (matched == 2)).any()


@pytest.mark.parametrize("rule", RULES)
def test_equal_points_count_in_their_order(rule: str) -> None:
    batch = made_up([1], 0)
    batch.labels.boxes[0, 0] = torch.tensor([0.0, 0, 96, 64])
    batch.boxes[0], batch.logits[0] = torch.tensor([10.0, 10, 80, 50]), 0.5
    positive, _, score = assign(batch, rule).dense()
    assert positive[0].nonzero()[:, 0].tolist() == list(range(PUBLISHED[rule][0]))
    assert torch.equal(score[0][positive[0]], score[0][0].expand(PUBLISHED[rule][0]))


@pytest.mark.parametrize("rule", RULES)
def test_the_best_point_has_the_best_overlap_as_its_score(rule: str) -> None:
    batch = made_up([1], 9)
    found = assign(batch, rule)
    _, matched, score = found.dense()
    if rule == "yolov6":
        overlaps = [plain_iou(box, batch.labels.boxes[0, 0].tolist()) for box in batch.boxes[0].tolist()]
        best = max(overlap for a, overlap in enumerate(overlaps) if matched[0, a] == 0)
        assert float(score.max()) == pytest.approx(best, rel=1e-4)
    assert float(score[found.dense()[0]].min()) > 0 and float(score.max()) <= 1


@pytest.mark.parametrize("rule", RULES)
def test_pieces_of_objects_change_nothing(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = made_up([40, 17, 0], 11, 4.0, 50.0)
    whole = assign(batch, rule)
    for most in (1, 3000):
        monkeypatch.setattr(task_aligned, "MOST_PAIRS", most)
        assert same(assign(batch, rule), whole)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 3, 60])
def test_sizes_that_follow_from_shapes_alone_change_nothing(
    rule: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where nobody waits for the number of candidates."""
    batch = made_up([count, count // 2], 13, 4.0, 40.0)
    exact = assign(batch, rule)
    monkeypatch.setattr(candidates, "_columns", lambda mask, possible: possible)
    found = assign(batch, rule)
    assert found.point.shape[1] == count * PUBLISHED[rule][0] and same(found, exact)


@pytest.mark.parametrize("rule", RULES)
def test_no_object_holds_a_point(rule: str) -> None:
    batch = made_up([2, 1], 5)
    batch.labels.boxes[:] = torch.tensor([-50.0, 20.0, -30.0, 40.0])
    found = assign(batch, rule)
    assert not found.used.any() and not found.dense()[0].any()


@pytest.mark.parametrize("rule", RULES)
def test_padding_rows_and_the_order_of_images_change_nothing(rule: str) -> None:
    batch = made_up([4, 0, 7], 17)
    whole = assign(batch, rule)
    assert whole.used.any()
    assert same(assign(batch.with_padding(5), rule), whole)
    assert same(assign(batch.of_images([2, 0, 1]), rule), whole, [2, 0, 1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 2**31), st.sampled_from(RULES))
def test_slots_hold_every_positive_point_once(counts: list[int], seed: int, rule: str) -> None:
    batch = made_up(counts, seed)
    found = assign(batch, rule)
    positive, matched, _ = found.dense()
    assert found.point.shape == found.used.shape and found.used.shape[1] <= PUBLISHED[rule][0] * max(counts)
    for i in range(len(counts)):
        points = found.point[i][found.used[i]]
        assert len(points.unique()) == len(points) and sorted(points.tolist()) == positive[i].nonzero()[:, 0].tolist()
        assert batch.labels.valid[i][matched[i][positive[i]]].all()
        assert (found.score[i][~found.used[i]] == 0).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e30, -1e30])
def test_wild_predictions_give_indices_that_exist(rule: str, value: float) -> None:
    for part in ("boxes", "logits"):
        batch = made_up([5, 2], 19)
        getattr(batch, part)[0, ::2] = value
        found = assign(batch, rule)
        assert found.point.min() >= 0 and found.point.max() < 126
        assert found.object.min() >= 0 and found.object.max() < 5
        # The other image does not notice.
        assert same(assign(batch.of_images([1]), rule), assign(made_up([5, 2], 19).of_images([1]), rule))


def test_reduced_precision_around_it_has_no_say() -> None:
    batch = made_up([6, 9], 23)
    with torch.autocast("cpu", torch.bfloat16):
        found = assign(batch, "yolov8")
    assert same(found, assign(batch, "yolov8"))


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, torch.Tensor) and not any(entry.alias_info for entry in func._schema.returns):
                self.numel = max(self.numel, part.numel())
        return result


@pytest.mark.parametrize("rule", RULES)
def test_it_asks_the_device_for_nothing_and_its_memory_is_bounded(rule: str) -> None:
    """500 objects and 8400 points on a device without values: sizes follow from shapes."""
    images, objects, classes = 4, 500, 80
    shapes = [(80, 80), (40, 40), (20, 20)]
    batch = made_up([2], 0)
    batch.points = anchor_points(shapes, [8, 16, 32])
    batch.boxes, batch.logits = torch.zeros(1, 8400, 4), torch.zeros(1, 8400, classes)
    batch = batch.with_padding(objects - 2).of_images([0] * images).on_meta()
    with Largest() as largest:
        found = assign(batch, rule)
    assert found.used.device.type == "meta" and found.dense()[0].shape == (images, 8400)
    # The candidates' logits are as many as those of all points at most; no tensor of pairs is larger.
    assert largest.numel <= max(task_aligned.MOST_PAIRS, batch.logits.numel())
