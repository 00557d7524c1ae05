"""Hungarian matching: costs and pairs against a plain loop, layers at once, odd input, waiting for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.assigners.hungarian import CostWeights, Matches, match, pair_costs
from tests.pretend_device import PretendDevice, Remote

WEIGHTS = CostWeights(classes=1.0, box=5.0, giou=2.0)


def pair_cost_slowly(class_cost: float, box: list[float], other: list[float], weights: CostWeights) -> float:
    """Return the cost of one pair, boxes as centre x, centre y, width, height, in double precision."""
    (x, y, w, h), (u, v, s, t) = box, other
    distance = abs(x - u) + abs(y - v) + abs(w - s) + abs(h - t)
    left, right = max(x - w / 2, u - s / 2), min(x + w / 2, u + s / 2)
    top, bottom = max(y - h / 2, v - t / 2), min(y + h / 2, v + t / 2)
    shared = max(right - left, 0.0) * max(bottom - top, 0.0)
    union = w * h + s * t - shared
    hull = (max(x + w / 2, u + s / 2) - min(x - w / 2, u - s / 2)) * (
        max(y + h / 2, v + t / 2) - min(y - h / 2, v - t / 2)
    )
    giou = shared / union - (hull - union) / hull
    return weights.box * distance + weights.classes * class_cost - weights.giou * giou


def some_boxes(draw: torch.Generator, *shape: int) -> Tensor:
    """Return boxes of 1 % of a picture's side or more."""
    centre = torch.rand(*shape, 2, generator=draw)
    return torch.cat((centre, torch.rand(*shape, 2, generator=draw) * 0.8 + 0.01), -1)


def pairs_of(found: Matches, image: int) -> dict[int, int]:
    """Return object -> query of one image."""
    own = found.image == image
    return dict(zip(found.object[own].tolist(), found.query[own].tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(1, 20), st.integers(0, 6), st.integers(0, 2**31))
def test_costs_and_pairs_are_those_of_a_plain_loop(images: int, queries: int, most: int, seed: int) -> None:
    """Also with no images, no objects, more objects than queries or far less, and padding between the objects."""
    draw = torch.Generator().manual_seed(seed)
    boxes, objects = some_boxes(draw, images, queries), some_boxes(draw, images, most)
    class_costs = -torch.rand(images, queries, most, generator=draw)
    valid = torch.rand(images, most, generator=draw) < 0.7
    costs = pair_costs(class_costs, boxes, objects, WEIGHTS)
    (found,) = match([costs], valid)
    assert costs.shape == (images, queries, most)
    for i in range(images):
        rows = valid[i].nonzero()[:, 0].tolist()
        slow = np.array(
            [
                [
                    pair_cost_slowly(float(class_costs[i, q, m]), boxes[i, q].tolist(), objects[i, m].tolist(), WEIGHTS)
                    for m in rows
                ]
                for q in range(queries)
            ]
        ).reshape(queries, len(rows))
        np.testing.assert_allclose(costs[i][:, rows].numpy(), slow, rtol=1e-4, atol=1e-4)
        pairs = pairs_of(found, i)
        assert len(pairs) == min(queries, len(rows)) == len(set(pairs.values()))
        assert set(pairs) <= set(rows)
        best = slow[linear_sum_assignment(slow)].sum()
        # Float32 may turn a near tie round, which does not change the sum by more than that.
        assert sum(slow[query, rows.index(thing)] for thing, query in pairs.items()) == pytest.approx(best, abs=1e-3)


def test_layers_with_queries_of_their_own_are_matched_as_if_each_were_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    valid = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    costs = [torch.rand(3, queries, 3, generator=draw) for queries in (4, 9, 2)]
    together = match(costs, valid)
    for found, cost in zip(together, costs, strict=True):
        (alone,) = match([cost], valid)
        for own, other in zip(vars(found).values(), vars(alone).values(), strict=True):
            assert own.dtype == torch.int64 and torch.equal(own, other)
    assert [len(found.image) for found in together] == [5, 5, 4]


def test_costs_that_are_no_numbers_lose_against_all_others() -> None:
    valid = torch.ones(1, 2, dtype=torch.bool)
    cost = torch.tensor([[[torch.nan, 0.3], [3.0, torch.inf], [-torch.inf, 5.0]]])
    (found,) = match([cost], valid)
    assert pairs_of(found, 0) == {0: 1, 1: 0}
    (found,) = match([torch.full((1, 3, 2), torch.nan)], valid)
    assert len(found.query) == 2


def test_boxes_without_area_have_finite_costs() -> None:
    nothing = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.1, 0.1]]])
    costs = pair_costs(torch.zeros(1, 2, 2), nothing, nothing, WEIGHTS)
    assert costs.isfinite().all() and costs[0, 1, 1] == pytest.approx(-WEIGHTS.giou)


def test_a_matching_of_several_layers_waits_once_for_the_device() -> None:
    valid, costs = torch.tensor([[True, False, True]]), [torch.rand(1, 4, 3), torch.rand(1, 6, 3)]
    expected = match(costs, valid)
    with PretendDevice() as device:
        found = match([Remote(cost) for cost in costs], Remote(valid))
        assert len(device.copies) == 1
        assert all(isinstance(layer.query, Remote) for layer in found)
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own.query.here, other.query) and torch.equal(own.object.here, other.object)


def test_the_pretended_device_notices_who_waits() -> None:
    values = torch.tensor([1.0, 0.0, 2.0])
    with PretendDevice() as device:
        far = Remote(values)
        (far + 1).sum()
        far[torch.tensor([0, 2])]
        assert device.copies == []
        far.cpu()
        float(far.sum())
        far[far > 0]
        far.nonzero()
    assert len(device.copies) == 4
