"""Quality focal loss: its formula, its gradient, and the sum without a map of targets."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.losses.quality_focal import quality_focal, sum_of_quality_focal


@settings(max_examples=100, deadline=None)
@given(st.floats(-30, 30), st.floats(0, 1))
def test_it_is_the_written_formula(logit: float, quality: float) -> None:
    probability = 1 / (1 + math.exp(-logit))
    entropy = quality * math.log1p(math.exp(-logit)) + (1 - quality) * math.log1p(math.exp(logit))
    found = quality_focal(torch.tensor(logit, dtype=torch.float64), quality)
    # torch's softplus leaves out exp(-logit) above 20, which is 2e-9.
    assert float(found) == pytest.approx(entropy * abs(quality - probability) ** 2, rel=1e-8, abs=1e-12)


def test_gradients_match_finite_differences() -> None:
    logits = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    quality = torch.linspace(0, 1, 25, dtype=torch.float64)[
        torch.randperm(25, generator=torch.Generator().manual_seed(0))
    ]
    assert torch.autograd.gradcheck(lambda x: quality_focal(x, quality), logits)
    assert torch.autograd.gradcheck(lambda x: quality_focal(x, 0.0), logits)


def sums(draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return logits, and in slots points, classes, qualities and which are used; the same as a map of targets."""
    logits = torch.randn(2, 7, 3, generator=draw, dtype=torch.float64)
    point = torch.stack([torch.randperm(7, generator=draw)[:5] for _ in range(2)])
    classes = torch.randint(0, 3, (2, 5), generator=draw)
    quality = torch.rand(2, 5, generator=draw, dtype=torch.float64)
    used = torch.rand(2, 5, generator=draw) < 0.6
    goal = torch.zeros_like(logits)
    for i in range(2):
        for s in range(5):
            if used[i, s]:
                goal[i, point[i, s], classes[i, s]] = quality[i, s]
    return logits, point, classes, quality, used, goal


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_that_of_a_map_of_targets(seed: int) -> None:
    logits, point, classes, quality, used, goal = sums(torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    own = logits.flatten(1).gather(1, point * 3 + classes)
    found = sum_of_quality_focal(logits, own, quality, used)
    expected = quality_focal(logits, goal).sum()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (found, expected))
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_it_is_nothing_where_the_guess_is_right() -> None:
    quality = torch.tensor([0.0, 0.25, 0.5, 1.0])
    logits = torch.logit(quality.clamp(1e-6, 1 - 1e-6))
    assert float(quality_focal(logits, quality).abs().max()) < 1e-10
