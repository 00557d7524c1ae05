"""Dynamic soft labels: the batched assignment against the written formula, and what must not change it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import models.assigners.candidates as candidates
import models.assigners.cheapest_points as cheapest_points
from models.anchor_points import AnchorPoints, anchor_points
from models.assigners.dynamic_soft_label import assign_dynamic_soft_labels, weigh_all_pairs
from models.assigners.scored_points import ScoredPoints
from models.losses.box_targets import BoxTargets
from tests.models.assigners.comparison import assert_as_expected
from tests.models.assigners.slow_dynamic_soft_label import Doubt, SlowImage, assign_slowly

STRIDES = (8, 16, 32)
PYRAMIDS = [(8,), (64,), (32, 64), STRIDES, (8, 16, 32, 64)]
HEIGHT, WIDTH, CLASSES = 64, 96, 3


@dataclass
class Given:
    """Predictions and labels of a batch."""

    boxes: Tensor
    classes: Tensor
    labels: BoxTargets
    points: AnchorPoints

    def assign(self) -> ScoredPoints:
        return assign_dynamic_soft_labels(self.boxes, self.classes, self.labels, self.points)

    def to(self, device: str) -> Given:
        labels = self.labels.to(torch.device(device))
        return Given(self.boxes.to(device), self.classes.to(device), labels, grid(STRIDES, device))


def grid(strides: tuple[int, ...] = STRIDES, device: str = "cpu") -> AnchorPoints:
    shapes = [(math.ceil(HEIGHT / s), math.ceil(WIDTH / s)) for s in strides]
    return anchor_points(shapes, strides, torch.device(device))


def targets(boxes: Tensor, classes: Tensor, valid: Tensor) -> BoxTargets:
    return BoxTargets(boxes, classes, valid, torch.tensor([float(len(boxes))]))


def sixteenths(values: Tensor) -> Tensor:
    """Round, so that sums and differences have no rounding of their own and the formula decides alone."""
    return (values * 16).round() / 16


def made_up(
    counts: list[int],
    seed: int,
    least: float = 0.5,
    most: float = 60.0,
    rows: int | None = None,
    strides: tuple[int, ...] = STRIDES,
) -> Given:
    """Return a batch with so many objects per image, in rows anywhere among rows of padding.

    About two thirds of the points predict a box like that of one of the objects; a few boxes are turned inside out.
    """
    draw = torch.Generator().manual_seed(seed)
    points = grid(strides)
    images, room = len(counts), max(counts, default=0) if rows is None else rows
    centre = torch.rand(images, room, 2, generator=draw) * torch.tensor([WIDTH, HEIGHT]) * 1.1 - 3
    sides = (torch.rand(images, room, 2, generator=draw) * math.log(most / least) + math.log(least)).exp()
    objects = sixteenths(torch.cat((centre - sides / 2, centre + sides / 2), -1))
    objects[..., 2:] = torch.maximum(objects[..., 2:], objects[..., :2] + 0.125)
    valid = torch.zeros(images, room, dtype=torch.bool)
    for i, count in enumerate(counts):
        valid[i, torch.randperm(room, generator=draw)[:count]] = True
    distances = (torch.rand(images, len(points), 4, generator=draw) * 3 - 0.2) * points.strides
    boxes = torch.cat((points.corners - distances[..., :2], points.corners + distances[..., 2:]), -1)
    if room:
        pick = torch.randint(0, room, (images, len(points)), generator=draw)
        near = objects.gather(1, pick[..., None].expand(-1, -1, 4))
        near = near + torch.randn(near.shape, generator=draw) * 0.1 * (near[..., 2:] - near[..., :2]).repeat(1, 1, 2)
        boxes = torch.where(torch.rand(images, len(points), 1, generator=draw) < 0.67, near, boxes)
    return Given(
        sixteenths(boxes),
        torch.randn(images, len(points), CLASSES, generator=draw) * 2,
        targets(objects, torch.randint(0, CLASSES, (images, room), generator=draw), valid),
        points,
    )


def check_against_formula(batch: Given) -> int:
    """Compare every image; return how many points are positive.

    Raises:
        Doubt: rounding may decide somewhere.
    """
    points, labels = batch.points, batch.labels
    positive, matched, quality = batch.assign().dense()
    total = 0
    for i in range(len(batch.boxes)):
        rows = labels.valid[i].nonzero()[:, 0]
        expected = assign_slowly(
            SlowImage(
                batch.boxes[i].double().tolist(),
                batch.classes[i].double().tolist(),
                points.corners.tolist(),
                points.strides[:, 0].tolist(),
                labels.boxes[i, rows].double().tolist(),
                labels.classes[i, rows].tolist(),
            ),
        )
        found = (positive[i], matched[i], quality[i])
        total += assert_as_expected(found, rows, expected, 1e-6)
    return total


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.sampled_from(PYRAMIDS),
    st.sampled_from([(0.5, 60.0), (0.2, 6.0), (20.0, 200.0)]),
)
def test_it_is_the_written_formula(
    counts: list[int], seed: int, strides: tuple[int, ...], sizes: tuple[float, float]
) -> None:
    try:
        check_against_formula(made_up(counts, seed, *sizes, rows=max(counts) + 1, strides=strides))
    except Doubt:
        assume(False)


def test_objects_of_many_points_compete() -> None:
    """The formula is asked where it matters: several points per object, most of them contested."""
    for seed in range(20):
        batch = made_up([4, 6], seed, 24.0, 48.0)
        pairs = weigh_all_pairs(batch.boxes, batch.classes, batch.labels, batch.points)
        try:
            positives = check_against_formula(batch)
        except Doubt:
            continue
        assert pairs.count.max() > 4 and positives < int(pairs.count.sum())
        return
    pytest.fail("every seed has near ties")


def test_five_hundred_objects() -> None:
    for seed in range(20):
        try:
            assert check_against_formula(made_up([500], seed, 12.0, 40.0)) > 50
            return
        except Doubt:
            continue
    pytest.fail("every seed has near ties")


def test_objects_smaller_than_a_cell() -> None:
    batch = made_up([3], 3)
    batch.labels.boxes[0] = torch.tensor([[7.0, 7.0, 9.0, 9.0], [31.5, 15.5, 33.0, 17.0], [2.0, 2.0, 4.0, 4.0]])
    _, matched, _ = batch.assign().dense()
    assert check_against_formula(batch) == int((matched >= 0).sum()) > 0


def test_no_point_inside_any_object() -> None:
    """The published program takes any point then; its box overlaps nothing, so that its target would be 0."""
    batch = made_up([2, 1], 5)
    batch.labels.boxes[0] = torch.tensor([[2.0, 2.0, 4.0, 4.0], [8.0, 8.0, 16.0, 16.0]])
    batch.labels.boxes[1] = torch.tensor([10.0, 10.0, 40.0, 40.0])
    positive = batch.assign().dense()[0]
    assert not positive[0].any() and positive[1].any()
    batch.labels.boxes[1] = torch.tensor([1.0, 1.0, 7.0, 7.0])
    assert not batch.assign().dense()[0].any()


def test_an_object_without_a_point_takes_the_cheapest_of_another_that_is_near() -> None:
    """Validity is a matter of points and not of pairs, up to a cost of 1e8."""
    batch = made_up([2], 7)
    batch.labels.boxes[0, 0] = torch.tensor([30.0, 20.0, 70.0, 60.0])
    batch.labels.boxes[0, 1] = torch.tensor([25.0, 25.0, 28.0, 28.0])
    assert check_against_formula(batch) > 1 and int((batch.assign().dense()[1] == 1).sum()) == 1


@pytest.mark.parametrize("x", [110.0, 2000.0])
def test_an_object_without_a_point_within_eleven_strides_has_none(x: float) -> None:
    """The published program takes any point then: one outside all objects, or one of another that costs more."""
    batch = made_up([2], 7, strides=(8,))
    batch.labels.boxes[0, 0] = torch.tensor([1.0, 1.0, 23.0, 15.0])
    batch.labels.boxes[0, 1] = torch.tensor([x, 9.0, x + 2, 11.0])
    # The first object wants one point alone, that at (8, 8), so that the one at (16, 8) is free.
    batch.boxes[0] = torch.tensor([300.0, 300.0, 301.0, 301.0])
    batch.boxes[0, 13] = batch.labels.boxes[0, 0]
    assert check_against_formula(batch) == 1
    assert batch.assign().dense()[1][0].tolist() == [-1] * 13 + [0] + [-1] * 82


def test_an_object_takes_no_more_points_than_there_are_inside() -> None:
    """Overlaps of all points count for the number, but those outside all objects are never taken."""
    batch = made_up([1], 9)
    batch.labels.boxes[0, 0] = torch.tensor([7.0, 7.0, 9.0, 9.0])
    batch.boxes[0] = torch.tensor([7.0, 7.0, 9.0, 9.0])
    pairs = weigh_all_pairs(batch.boxes, batch.classes, batch.labels, batch.points)
    assert int(pairs.count[0, 0]) == 13 and int(pairs.candidate.sum()) == 1
    positive, _, quality = batch.assign().dense()
    assert int(positive.sum()) == 1 and float(quality.sum()) == 1


@pytest.mark.parametrize("rows", [0, 3])
def test_without_objects_nothing_is_positive(rows: int) -> None:
    batch = made_up([0, 0], 0, rows=rows)
    positive, matched, quality = batch.assign().dense()
    assert positive.shape == (2, len(batch.points)) and not positive.any()
    assert (matched == -1).all() and (quality == 0).all()


def test_without_images() -> None:
    batch = made_up([2], 0)
    labels = targets(batch.labels.boxes[:0], batch.labels.classes[:0], batch.labels.valid[:0])
    empty = Given(batch.boxes[:0], batch.classes[:0], labels, batch.points)
    assert empty.assign().dense()[0].shape == (0, len(batch.points))


def test_pieces_of_objects_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = made_up([40, 17, 0], 11, 2.0, 30.0)
    whole = batch.assign().dense()
    for most in (1, 3000):
        monkeypatch.setattr(cheapest_points, "MOST_PAIRS", most)
        for ours, expected in zip(batch.assign().dense(), whole, strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("count", [1, 3, 60])
def test_sizes_that_follow_from_shapes_alone_change_nothing(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where nobody waits for the number of candidates."""
    batch = made_up([count, count // 2], 13, 2.0, 40.0)
    exact = batch.assign().dense()
    monkeypatch.setattr(candidates, "_columns", lambda mask, possible: possible)
    for ours, expected in zip(batch.assign().dense(), exact, strict=True):
        assert torch.equal(ours, expected)


def test_padding_rows_and_the_order_of_images_change_nothing() -> None:
    """Padding rows hold boxes here that would win contested points if they were asked."""
    batch = made_up([4, 0, 7], 17)
    found, labels = batch.assign().dense(), batch.labels
    wider = targets(
        torch.cat((labels.boxes, labels.boxes), 1),
        torch.cat((labels.classes, labels.classes), 1),
        torch.cat((labels.valid, torch.zeros_like(labels.valid)), 1),
    )
    for ours, expected in zip(replace(batch, labels=wider).assign().dense(), found, strict=True):
        assert torch.equal(ours, expected)
    order = torch.tensor([2, 0, 1])
    moved = targets(labels.boxes[order], labels.classes[order], labels.valid[order])
    turned = Given(batch.boxes[order], batch.classes[order], moved, batch.points)
    for ours, expected in zip(turned.assign().dense(), found, strict=True):
        assert torch.equal(ours, expected[order])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 2**31))
def test_slots_hold_every_positive_point_once(counts: list[int], seed: int) -> None:
    batch = made_up(counts, seed)
    found = batch.assign()
    positive, matched, _ = found.dense()
    assert found.point.shape == found.used.shape and found.used.shape[1] <= 13 * max(counts)
    for i in range(len(counts)):
        points = found.point[i][found.used[i]]
        assert len(points.unique()) == len(points) and sorted(points.tolist()) == positive[i].nonzero()[:, 0].tolist()
        assert batch.labels.valid[i][matched[i][positive[i]]].all()
        assert (found.score[i][~found.used[i]] == 0).all()


def test_of_two_equal_objects_the_first_gets_the_points() -> None:
    batch = made_up([3], 0)
    batch.labels.boxes[0, :2] = torch.tensor([20.0, 20.0, 52.0, 44.0])
    batch.labels.classes[0, :2] = 1
    _, matched, _ = batch.assign().dense()
    assert (matched == 0).any() and not (matched == 1).any()


def test_of_equal_costs_the_first_point_wins() -> None:
    """Four corners around the centre of an object, all equally far and equal in what they predict."""
    batch = made_up([1], 0, strides=(8,))
    batch.labels.boxes[0, 0] = torch.tensor([36.0, 28.0, 52.0, 44.0])
    batch.boxes[0], batch.classes[0] = torch.tensor([36.0, 28.0, 52.0, 37.0]), 0.5
    batch.boxes[0, 5:] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    batch.boxes[0, [53, 54, 65, 66]] = torch.tensor([36.0, 28.0, 52.0, 30.0])
    # Five overlaps of 9/16 and four of 2/16 make three points.
    assert batch.assign().dense()[0][0].nonzero()[:, 0].tolist() == [53, 54, 65]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e30, -1e30])
def test_wild_predictions_give_indices_that_exist(value: float) -> None:
    for part in ("boxes", "classes"):
        batch = made_up([5, 2], 19)
        getattr(batch, part)[0, ::2] = value
        found = batch.assign()
        assert found.point.min() >= 0 and found.point.max() < len(batch.points)
        assert found.object.min() >= 0 and found.object.max() < 5
        # The other image does not notice.
        assert torch.equal(found.dense()[1][1], made_up([5, 2], 19).assign().dense()[1][1])


def test_reduced_precision_around_it_has_no_say() -> None:
    batch = made_up([6, 9], 23)
    with torch.autocast("cpu", torch.bfloat16):
        found = batch.assign().dense()
    for ours, expected in zip(found, batch.assign().dense(), strict=True):
        assert torch.equal(ours, expected)


def test_it_asks_the_device_for_nothing() -> None:
    batch = made_up([6, 9], 29)
    found = batch.to("meta").assign()
    assert found.used.device.type == "meta" and found.used.shape == (2, 9 * 13)
    assert found.dense()[0].shape == (2, len(batch.points))
