"""Distances as distributions: the mean, the loss by its formula, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses.distribution_focal import distribution_focal, expected_distances


def random_logits(rows: int, bins: int) -> torch.Tensor:
    return torch.randn(rows, 4, bins, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2


def test_the_mean_is_taken_side_by_side() -> None:
    logits = random_logits(5, 7)
    found = expected_distances(logits.flatten(1), 7)
    for row in range(5):
        for side in range(4):
            weights = [math.exp(x) for x in logits[row, side].tolist()]
            mean = sum(i * w for i, w in enumerate(weights)) / sum(weights)
            assert float(found[row, side]) == pytest.approx(mean, rel=1e-12)
    assert expected_distances(torch.zeros(2, 3, 64, dtype=torch.float16), 16).dtype == torch.float32
    assert torch.allclose(expected_distances(torch.zeros(2, 3, 64), 16), torch.tensor(7.5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 20), min_size=4, max_size=4), st.sampled_from([2, 8, 16]))
def test_it_is_the_written_formula(distances: list[float], bins: int) -> None:
    logits = random_logits(1, bins)
    found = distribution_focal(logits, torch.tensor([distances], dtype=torch.float64))
    for side, distance in enumerate(distances):
        y = min(max(distance, 0.0), bins - 1 - 0.01)
        weights = [math.exp(x) for x in logits[0, side].tolist()]
        entropy = [-math.log(w / sum(weights)) for w in weights]
        low = math.floor(y)
        expected = entropy[low] * (low + 1 - y) + entropy[low + 1] * (y - low)
        assert float(found[0, side]) == pytest.approx(expected, rel=1e-9)


def test_gradients_match_finite_differences() -> None:
    logits = random_logits(6, 16).requires_grad_()
    distances = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 18 - 1
    assert torch.autograd.gradcheck(lambda x: distribution_focal(x, distances), logits)
    assert torch.autograd.gradcheck(lambda x: expected_distances(x.flatten(1), 16), logits)


def test_the_least_loss_is_where_the_mean_is_the_distance() -> None:
    distances = torch.tensor([[0.0, 3.25, 7.5, 14.9]], dtype=torch.float64)
    logits = torch.full((1, 4, 16), -40.0, dtype=torch.float64)
    for side, distance in enumerate(distances[0].tolist()):
        low = int(distance)
        logits[0, side, low] = math.log(max(low + 1 - distance, 1e-12))
        logits[0, side, low + 1] = math.log(max(distance - low, 1e-12))
    assert torch.allclose(expected_distances(logits.flatten(1), 16), distances, atol=1e-6)
    (gradient,) = torch.autograd.grad(distribution_focal(logits.requires_grad_(), distances).sum(), logits)
    assert gradient.abs().max() < 1e-6
