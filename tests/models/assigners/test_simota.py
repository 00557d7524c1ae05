"""SimOTA: the batched assignment against the written formula, and what must not change it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import models.assigners.candidates as candidates
import models.assigners.cheapest_points as cheapest_points
from models.anchor_points import AnchorPoints, anchor_points
from models.assigners.simota import SIMOTA_RULES, Assignment, Labels, assign_simota, weigh_all_pairs
from tests.models.assigners.comparison import assert_as_expected
from tests.models.assigners.slow_simota import Doubt, SlowImage, assign_slowly

STRIDES = (8, 16, 32)
HEIGHT, WIDTH, CLASSES = 64, 96, 3
RULES = sorted(SIMOTA_RULES)


@dataclass
class Given:
    """Predictions and labels of a batch."""

    boxes: Tensor
    objectness: Tensor
    classes: Tensor
    labels: Labels

    def assign(self, rule: str, pair_cost: FurtherCost | None = None, points: AnchorPoints | None = None) -> Assignment:
        return assign_simota(
            self.boxes, self.objectness, self.classes, self.labels, points or grid(), SIMOTA_RULES[rule], pair_cost
        )


@dataclass
class FurtherCost:
    """A cost that is known for all objects and points: (B, G, A)."""

    values: Tensor

    def at(self, points: Tensor) -> Callable[[slice], Tensor]:
        objects = self.values.shape[1]
        chosen = self.values.gather(2, points[:, None].expand(-1, objects, -1))
        return lambda some: chosen[:, some]


def grid(device: str = "cpu") -> AnchorPoints:
    return anchor_points([(HEIGHT // s, WIDTH // s) for s in STRIDES], STRIDES, torch.device(device))


def made_up(counts: list[int], seed: int, least: float = 0.5, most: float = 60.0, rows: int | None = None) -> Given:
    """Return a batch with so many objects per image, in rows anywhere among rows of padding.

    About two thirds of the points predict a box like that of one of the objects.
    """
    draw = torch.Generator().manual_seed(seed)
    points = grid()
    images, room = len(counts), max(counts, default=0) if rows is None else rows
    size = torch.tensor([WIDTH, HEIGHT])
    centre = torch.rand(images, room, 2, generator=draw) * size * 1.1 - size * 0.05
    sides = torch.rand(images, room, 2, generator=draw) * (math.log(most) - math.log(least)) + math.log(least)
    objects = torch.cat((centre, sides.exp()), -1)
    valid = torch.zeros(images, room, dtype=torch.bool)
    for i, count in enumerate(counts):
        valid[i, torch.randperm(room, generator=draw)[:count]] = True
    boxes = torch.cat((points.centres, points.strides * 3, points.strides * 2), 1).repeat(images, 1, 1)
    boxes[..., 2:] *= torch.rand(boxes[..., 2:].shape, generator=draw) + 0.5
    if room:
        pick = torch.randint(0, room, (images, len(points)), generator=draw)
        near = objects.gather(1, pick[..., None].expand(-1, -1, 4)).clone()
        noise = torch.randn(near.shape, generator=draw) * 0.2
        near[..., :2] += noise[..., :2] * near[..., 2:]
        near[..., 2:] *= noise[..., 2:].exp()
        boxes = torch.where(torch.rand(images, len(points), 1, generator=draw) < 0.67, near, boxes)
    return Given(
        boxes,
        torch.randn(images, len(points), generator=draw) * 2,
        torch.randn(images, len(points), CLASSES, generator=draw) * 2,
        Labels(objects, torch.randint(0, CLASSES, (images, room), generator=draw), valid),
    )


def check_against_formula(batch: Given, rule: str, further: Tensor | None = None) -> int:
    """Compare every image; return how many points are positive.

    Raises:
        Doubt: rounding may decide somewhere.
    """
    points, labels = grid(), batch.labels
    cost = None if further is None else FurtherCost(further)
    positive, matched, overlap = batch.assign(rule, cost).dense()
    total = 0
    for i in range(len(batch.boxes)):
        rows = labels.valid[i].nonzero()[:, 0]
        expected = assign_slowly(
            SlowImage(
                batch.boxes[i].double().tolist(),
                batch.objectness[i].double().tolist(),
                batch.classes[i].double().tolist(),
                points.centres.double().tolist(),
                points.strides[:, 0].double().tolist(),
                labels.boxes[i, rows].double().tolist(),
                labels.classes[i, rows].tolist(),
                torch.zeros(len(rows), len(points)).tolist() if further is None else further[i, rows].double().tolist(),
            ),
            SIMOTA_RULES[rule],
        )
        found = (positive[i], matched[i], overlap[i])
        total += assert_as_expected(found, rows, expected, 1e-5)
    return total


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.sampled_from(RULES),
    st.booleans(),
    st.sampled_from([(0.5, 60.0), (0.2, 6.0), (20.0, 200.0)]),
)
def test_it_is_the_written_formula(
    counts: list[int], seed: int, rule: str, with_further: bool, sizes: tuple[float, float]
) -> None:
    batch = made_up(counts, seed, *sizes, rows=max(counts) + 1)
    further = None
    if with_further:
        draw = torch.Generator().manual_seed(seed + 1)
        further = torch.rand(*batch.labels.valid.shape, len(grid()), generator=draw) * 8
    try:
        check_against_formula(batch, rule, further)
    except Doubt:
        assume(False)


@pytest.mark.parametrize("rule", RULES)
def test_five_hundred_objects(rule: str) -> None:
    for seed in range(20):
        try:
            assert check_against_formula(made_up([500], seed, 12.0, 40.0), rule) > 50
            return
        except Doubt:
            continue
    pytest.fail("every seed has near ties")


@pytest.mark.parametrize("rule", RULES)
def test_objects_smaller_than_a_cell(rule: str) -> None:
    assert check_against_formula(made_up([6, 1], 3, 0.05, 3.0), rule) >= 7


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rows", [0, 3])
def test_without_objects_nothing_is_positive(rule: str, rows: int) -> None:
    found = made_up([0, 0], 0, rows=rows).assign(rule)
    positive, matched, overlap = found.dense()
    assert positive.shape == (2, len(grid())) and not positive.any() and (matched == -1).all() and (overlap == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_without_images(rule: str) -> None:
    batch = made_up([2], 0)
    parts = (batch.boxes[:0], batch.objectness[:0], batch.classes[:0])
    labels = Labels(batch.labels.boxes[:0], batch.labels.classes[:0], batch.labels.valid[:0])
    assert Given(*parts, labels).assign(rule).dense()[0].shape == (0, len(grid()))


@pytest.mark.parametrize("rule", RULES)
def test_an_object_far_outside_has_no_candidates_and_matches_nothing(rule: str) -> None:
    batch = made_up([1, 1], 5)
    batch.labels.boxes[0, 0] = torch.tensor([5000.0, 5000.0, 20.0, 20.0])
    positive = batch.assign(rule).dense()[0]
    assert not positive[0].any() and positive[1].any()


@pytest.mark.parametrize("rule", RULES)
def test_no_image_has_a_candidate(rule: str) -> None:
    batch = made_up([2, 1], 5)
    batch.labels.boxes[:] = torch.tensor([-5000.0, 20.0, 20.0, 20.0])
    found = batch.assign(rule)
    assert not found.used.any() and not found.dense()[0].any()


def test_an_object_without_own_points_takes_the_cheapest_of_another() -> None:
    """As the published programs do: k is at least 1, and candidates are those of the whole image."""
    batch = made_up([2], 7)
    batch.labels.boxes[0, 0] = torch.tensor([48.0, 32.0, 40.0, 40.0])
    batch.labels.boxes[0, 1] = torch.tensor([5000.0, 5000.0, 20.0, 20.0])
    _, matched, overlap = batch.assign("official").dense()
    assert int((matched[0] == 1).sum()) == 1 and float(overlap[0][matched[0] == 1]) == 0


@pytest.mark.parametrize("rule", RULES)
def test_pieces_of_objects_change_nothing(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = made_up([40, 17, 0], 11, 2.0, 30.0)
    whole = batch.assign(rule).dense()
    for most in (1, 3000):
        monkeypatch.setattr(cheapest_points, "MOST_PAIRS", most)
        for ours, expected in zip(batch.assign(rule).dense(), whole, strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 3, 60])
def test_sizes_that_follow_from_shapes_alone_change_nothing(
    rule: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where nobody waits for the number of candidates."""
    batch = made_up([count, count // 2], 13, 2.0, 40.0)
    exact = batch.assign(rule).dense()
    monkeypatch.setattr(candidates, "_columns", lambda mask, possible: possible)
    pairs = weigh_all_pairs(*(batch.boxes, batch.objectness, batch.classes), batch.labels, grid(), SIMOTA_RULES[rule])
    assert pairs.point.shape[1] == (min(count * 27, len(grid())) if rule == "official" else len(grid()))
    for ours, expected in zip(batch.assign(rule).dense(), exact, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("rule", RULES)
def test_padding_rows_and_the_order_of_images_change_nothing(rule: str) -> None:
    batch = made_up([4, 0, 7], 17)
    positive, matched, overlap = batch.assign(rule).dense()
    labels = batch.labels
    junk = torch.full((3, 5, 4), 30.0)
    wider = Labels(
        torch.cat((labels.boxes, junk), 1),
        torch.cat((labels.classes, torch.ones(3, 5, dtype=torch.int64)), 1),
        torch.cat((labels.valid, torch.zeros(3, 5, dtype=torch.bool)), 1),
    )
    for ours, expected in zip(
        replace(batch, labels=wider).assign(rule).dense(), (positive, matched, overlap), strict=True
    ):
        assert torch.equal(ours, expected)
    order = torch.tensor([2, 0, 1])
    turned = Given(
        batch.boxes[order],
        batch.objectness[order],
        batch.classes[order],
        Labels(labels.boxes[order], labels.classes[order], labels.valid[order]),
    )
    for ours, expected in zip(turned.assign(rule).dense(), (positive, matched, overlap), strict=True):
        assert torch.equal(ours, expected[order])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 2**31), st.sampled_from(RULES))
def test_slots_hold_every_positive_point_once(counts: list[int], seed: int, rule: str) -> None:
    batch = made_up(counts, seed)
    found = batch.assign(rule)
    positive, matched, _ = found.dense()
    assert found.point.shape == found.used.shape and found.used.shape[1] <= 10 * max(counts)
    for i in range(len(counts)):
        points = found.point[i][found.used[i]]
        assert len(points.unique()) == len(points) and sorted(points.tolist()) == positive[i].nonzero()[:, 0].tolist()
        assert batch.labels.valid[i][matched[i][positive[i]]].all()
        assert (found.iou[i][~found.used[i]] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_equal_costs_go_to_the_lower_point_and_the_lower_object(rule: str) -> None:
    batch = made_up([2], 0)
    batch.labels.boxes[0] = torch.tensor([48.0, 32.0, 16.0, 16.0])
    batch.labels.classes[0] = 1
    batch.boxes[0] = torch.tensor([48.0, 40.0, 16.0, 16.0])
    batch.objectness[0], batch.classes[0] = 0.5, 0.5
    positive, matched, _ = batch.assign(rule).dense()
    # Ten overlaps of a third make three points, and they are those of the first rows of the finest level.
    cost = weigh_all_pairs(batch.boxes, batch.objectness, batch.classes, batch.labels, grid(), SIMOTA_RULES[rule])
    cheapest = cost.cost[0, 0] == cost.cost[0, 0].min()
    assert positive[0].nonzero()[:, 0].tolist() == cost.point[0][cheapest][:3].tolist()
    assert (matched[0][positive[0]] == 0).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e30, -1e30])
def test_wild_predictions_give_indices_that_exist(rule: str, value: float) -> None:
    for part in ("boxes", "objectness", "classes"):
        batch = made_up([5, 2], 19)
        getattr(batch, part)[0, ::2] = value
        found = batch.assign(rule)
        assert found.point.min() >= 0 and found.point.max() < len(grid())
        assert found.object.min() >= 0 and found.object.max() < 5
        # The other image does not notice.
        assert torch.equal(found.dense()[1][1], made_up([5, 2], 19).assign(rule).dense()[1][1])


def test_reduced_precision_around_it_has_no_say() -> None:
    batch = made_up([6, 9], 23)
    with torch.autocast("cpu", torch.bfloat16):
        found = batch.assign("mm").dense()
    for ours, expected in zip(found, batch.assign("mm").dense(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("rule", RULES)
def test_it_asks_the_device_for_nothing(rule: str) -> None:
    batch = made_up([6, 9], 29)
    labels = Labels(*(part.to("meta") for part in (batch.labels.boxes, batch.labels.classes, batch.labels.valid)))
    moved = Given(batch.boxes.to("meta"), batch.objectness.to("meta"), batch.classes.to("meta"), labels)
    further = FurtherCost(torch.zeros(2, 9, len(grid()), device="meta"))
    found = moved.assign(rule, further, grid("meta"))
    assert found.used.device.type == "meta" and found.used.shape == (2, 90)
    assert found.dense()[0].shape == (2, len(grid()))
