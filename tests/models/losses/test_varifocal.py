"""Varifocal loss: its formula and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses.varifocal import varifocal, varifocal_of_negatives


@settings(max_examples=80, deadline=None)
@given(st.floats(-12, 12), st.sampled_from([0.0, 1e-4, 0.3, 1.0]) | st.floats(0, 1))
def test_it_is_the_written_formula(logit: float, target: float) -> None:
    p = 1 / (1 + math.exp(-logit))
    entropy = -target * math.log(p) - (1 - target) * math.log(1 - p)
    expected = entropy * (target if target > 0 else 0.75 * p**2)
    x, t = torch.tensor([[logit], [target]], dtype=torch.float64)
    assert float(varifocal(x, t)) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    if target == 0:
        assert float(varifocal_of_negatives(x)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_gradients_match_finite_differences() -> None:
    """The weight of negatives is a part of the function."""
    draw = torch.Generator().manual_seed(0)
    logits = (torch.randn(40, generator=draw, dtype=torch.float64) * 3).requires_grad_()
    targets = torch.rand(40, generator=draw, dtype=torch.float64)
    targets[::2] = 0
    assert torch.autograd.gradcheck(lambda x: varifocal(x, targets), logits)
    assert torch.autograd.gradcheck(varifocal_of_negatives, logits)


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    logits = torch.tensor([-300.0, -90.0, 90.0, 300.0]).requires_grad_()
    for targets in (torch.zeros(4), torch.full((4,), 0.5)):
        value = varifocal(logits, targets)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
