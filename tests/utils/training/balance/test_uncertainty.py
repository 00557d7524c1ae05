"""Uncertainty weighting: the slope, the point of rest, and what must leave it alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.training.balance import Uncertainty

HEADS = ["detect", "segment"]


def losses(*values: float, heads: list[str] = HEADS) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in zip(heads, values, strict=False)}


@given(st.floats(-3, 3), st.floats(0.01, 20))
def test_the_slope_is_that_of_the_objective(log_variance: float, loss: float) -> None:
    balance = Uncertainty(["a"], 0.1)
    balance.log_variances.fill_(log_variance)
    s = balance.log_variances.double().requires_grad_(True)
    (torch.exp(-s) * loss + s).sum().backward()
    assert balance.slopes(torch.tensor([loss])).item() == pytest.approx(s.grad.item(), rel=1e-4, abs=1e-4)
    step = 1e-4
    ends = [torch.exp(-(s.detach() + d)) * loss + s.detach() + d for d in (-step, step)]
    assert ((ends[1] - ends[0]) / (2 * step)).item() == pytest.approx(s.grad.item(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("values", [(0.1, 4.0), (1.0, 1.0), (30.0, 0.02)])
def test_factors_come_to_rest_at_one_over_the_loss(values: tuple[float, float]) -> None:
    balance = Uncertainty(HEADS, 0.05)
    for _ in range(600):
        balance.update(losses(*values))
    for factor, loss in zip(balance.factors().values(), values, strict=True):
        assert factor.item() == pytest.approx(1 / loss, rel=1e-3)
        assert factor.shape == () and not factor.requires_grad


def test_one_unusual_batch_moves_a_factor_a_little_only() -> None:
    balance = Uncertainty(HEADS, 0.05)
    balance.update(losses(1e6, 0.0))
    assert balance.log_variances.tolist() == pytest.approx([0.05, -0.05])


def test_a_loss_of_zero_does_not_drive_a_factor_to_infinity() -> None:
    balance = Uncertainty(HEADS, 1.0)
    for _ in range(50):
        balance.update(losses(0.0, 1e9))
    assert 0.0009 < balance.factors()["segment"].item() < 0.0011
    assert 900 < balance.factors()["detect"].item() < 1100


def test_absent_heads_bad_losses_and_left_out_steps_change_nothing() -> None:
    balance = Uncertainty(HEADS, 0.05)
    balance.update(losses(3.0))
    assert balance.log_variances[0] > 0 and balance.log_variances[1] == 0
    before = balance.log_variances.clone()
    balance.update(losses(float("nan"), float("inf")))
    balance.update(losses(3.0, 3.0), left_out=torch.ones(()))
    assert torch.equal(balance.log_variances, before)
    balance.update(losses(3.0, 3.0), left_out=torch.zeros(()))
    assert not torch.equal(balance.log_variances, before)


def test_learned_factors_are_the_inverse_noise_of_the_tasks() -> None:
    """Two tasks measure one slope, one with ten times the noise: its loss must count a hundredth."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, generator=generator)
    noise = {"detect": 0.3, "segment": 3.0}
    targets = {n: 2 * x + spread * torch.randn(2000, generator=generator) for n, spread in noise.items()}
    slope = torch.zeros((), requires_grad=True)
    optimizer, balance = torch.optim.SGD([slope], 0.05), Uncertainty(HEADS, 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        found = {name: (slope * x - y).square().mean() for name, y in targets.items()}
        factors = balance.factors()
        sum(factors[name] * loss for name, loss in found.items()).backward()
        optimizer.step()
        balance.update(found)
    assert slope.item() == pytest.approx(2, abs=0.03)
    for name, spread in noise.items():
        assert balance.factors()[name].item() == pytest.approx(spread**-2, rel=0.1)


def test_state_goes_round() -> None:
    balance = Uncertainty(HEADS, 0.05)
    balance.update(losses(3.0, 0.2))
    state = {name: tensor.clone() for name, tensor in balance.state_dict().items()}
    assert set(state) == {"log_variances"}
    fresh = Uncertainty(HEADS, 0.05)
    fresh.load_state_dict(state)
    for each in (balance, fresh):
        each.update(losses(0.7, 0.9))
    assert torch.equal(balance.log_variances, fresh.log_variances)
