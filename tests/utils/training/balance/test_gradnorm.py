"""GradNorm: the slope, equal gradients at rest, heads that lag behind, and what must leave it alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from utils.training.balance import GradNorm

HEADS = ["a", "b", "c"]


def feed(
    balance: GradNorm, losses: dict[str, float], norms: dict[str, float], scale: float = 1.0, left_out: float = 0.0
) -> None:
    """Play a step in which the mean loss of each head has a gradient of the given norm in the watched parameter."""
    factors = balance.factors()
    gradients = {name: [torch.tensor([3.0, 4.0]) / 5 * norms[name] * factors[name] * scale, None] for name in losses}
    balance.combine(gradients, 0)
    given = {name: torch.tensor(value) for name, value in losses.items()}
    balance.update(given, torch.tensor(left_out), dict.fromkeys(losses, scale))


def make(alpha: float = 0.0, rate: float = 0.02) -> GradNorm:
    return GradNorm(HEADS, [True, False], rate, alpha)


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_the_slope_is_that_of_the_objective_by_the_logarithm(norms: list[float], goals: list[float]) -> None:
    logarithms = torch.zeros(3, dtype=torch.float64)
    own, targets = torch.tensor(norms, dtype=torch.float64), torch.tensor(goals, dtype=torch.float64) + 0.001234

    def objective(logs: Tensor) -> Tensor:
        return (torch.exp(logs) * own - targets).abs().sum()

    for i, slope in enumerate(GradNorm.slopes(own, targets)):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 1e-7
        found = (objective(logarithms + step) - objective(logarithms - step)) / 2e-7
        assert found.item() == pytest.approx(slope.item(), rel=1e-3)


def test_without_alpha_gradients_become_equally_long() -> None:
    balance, norms = make(), {"a": 1.0, "b": 5.0, "c": 0.2}
    for _ in range(600):
        feed(balance, {"a": 1.0, "b": 1.0, "c": 1.0}, norms)
    weighed = [balance.factors()[name].item() * norm for name, norm in norms.items()]
    assert max(weighed) < 1.15 * min(weighed)
    assert balance.weights().sum().item() == pytest.approx(3)
    # In closed form: proportional to 1 / norm, adding up to the number of heads.
    inverse = torch.tensor([1 / norm for norm in norms.values()])
    assert torch.allclose(balance.weights(), 3 * inverse / inverse.sum(), rtol=0.1)


def test_a_head_that_lags_behind_gets_the_longer_gradient() -> None:
    balance = make(alpha=1.0)
    norms = dict.fromkeys(HEADS, 1.0)
    feed(balance, dict.fromkeys(HEADS, 2.0), norms)
    for _ in range(500):
        feed(balance, {"a": 2.0, "b": 1.0, "c": 1.0}, norms)
    factors = torch.stack(list(balance.factors().values()))
    # Relative rates are 1.5, 0.75 and 0.75, and so are the targets in units of the mean norm.
    assert torch.allclose(factors, torch.tensor([1.5, 0.75, 0.75]), rtol=0.08)


def test_the_first_losses_are_kept_and_scales_do_not_matter() -> None:
    plain, scaled = make(alpha=1.5), make(alpha=1.5)
    for step in range(20):
        losses = {"a": 2.0 - 0.05 * step, "b": 1.0, "c": 3.0}
        feed(plain, losses, {"a": 1.0, "b": 4.0, "c": 2.0})
        feed(scaled, losses, {"a": 1.0, "b": 4.0, "c": 2.0}, scale=640.0)
    assert plain.first_losses.tolist() == [2.0, 1.0, 3.0]
    assert torch.allclose(plain.weights(), scaled.weights(), rtol=1e-4)
    assert not torch.allclose(plain.weights(), torch.ones(3), rtol=0.05)


def test_absent_heads_are_left_alone_and_the_sum_stays() -> None:
    balance = make()
    feed(balance, dict.fromkeys(HEADS, 1.0), {"a": 1.0, "b": 5.0, "c": 0.2})
    before = balance.weights()
    feed(balance, {"a": 1.0, "b": 1.0}, {"a": 5.0, "b": 1.0})
    after = balance.weights()
    assert after[2] == before[2] and after[0] < before[0] and after[1] > before[1]
    assert after.sum().item() == pytest.approx(3)


@pytest.mark.parametrize(
    ("loss", "norm", "left_out"),
    [(float("nan"), 1.0, 0.0), (1.0, float("inf"), 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 2.0, 1.0)],
)
def test_bad_values_and_left_out_steps_change_nothing(loss: float, norm: float, left_out: float) -> None:
    balance = make()
    feed(balance, dict.fromkeys(HEADS, loss), dict.fromkeys(HEADS, norm), left_out=left_out)
    assert torch.equal(balance.weights(), torch.ones(3))
    assert balance.first_losses.isnan().all()
    feed(balance, {"a": loss, "b": 1.0, "c": 1.0}, {"a": norm, "b": 2.0, "c": 1.0}, left_out=left_out)
    assert balance.weights()[0] == 1 and balance.weights().isfinite().all()


def test_a_single_head_in_a_step_keeps_its_factor() -> None:
    balance = make(alpha=1.5)
    feed(balance, {"b": 1.0}, {"b": 7.0})
    assert torch.equal(balance.weights(), torch.ones(3))


def test_tasks_of_unlike_size_learn_alike() -> None:
    """Two heads on a shared layer; the loss of one is a hundred times the other's, and so is its gradient."""
    torch.manual_seed(0)
    shared, heads = nn.Linear(8, 8), nn.ModuleDict({"a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})
    parameters = [*shared.parameters(), *heads.parameters()]
    balance = GradNorm(["a", "b"], [True, True, False, False, False, False], 0.05, 0.0)
    x = torch.randn(64, 8)
    goals = {"a": x[:, :1], "b": x[:, 1:2]}
    sizes = {"a": 1.0, "b": 100.0}
    ratios = []
    for step in range(200):
        factors, gradients, losses = balance.factors(), {}, {}
        for name in sizes:
            losses[name] = (heads[name](torch.tanh(shared(x))) - goals[name]).square().mean() * sizes[name]
            found = torch.autograd.grad(losses[name] * factors[name], parameters, allow_unused=True)
            gradients[name] = list(found)
        norms = [balance.norm(gradients[name]).item() for name in sizes]
        ratios.append(norms[1] / norms[0])
        for parameter, gradient in zip(parameters, balance.combine(gradients, step), strict=True):
            parameter.data -= 0.001 * gradient
        balance.update(losses, None, {"a": 1.0, "b": 1.0})
    assert ratios[0] > 20
    assert all(0.7 < ratio < 1.4 for ratio in ratios[-20:])


def test_state_goes_round() -> None:
    balance, fresh = make(alpha=1.5), make(alpha=1.5)
    losses, norms = {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 5.0, "c": 0.2}
    feed(balance, losses, norms)
    fresh.load_state_dict({name: tensor.clone() for name, tensor in balance.state_dict().items()})
    for each in (balance, fresh):
        feed(each, {"a": 0.5, "b": 1.9, "c": 2.0}, norms)
    assert torch.equal(balance.weights(), fresh.weights())
    assert set(balance.state_dict()) == {"learned_factors", "first_losses"}
