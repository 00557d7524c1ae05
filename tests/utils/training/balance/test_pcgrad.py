"""Gradient surgery: against the paper's algorithm written down plainly, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from utils.training.balance import ProjectedGradients


def surgery(vectors: list[np.ndarray], orders: list[list[int]]) -> np.ndarray:
    """Return the sum of projected gradients as the paper's algorithm 1 has it, vector by vector."""
    total = np.zeros_like(vectors[0])
    for own, others in enumerate(orders):
        changed = vectors[own].copy()
        for other in others:
            product = changed @ vectors[other]
            if product < 0:
                changed -= product / (vectors[other] @ vectors[other]) * vectors[other]
        total += changed
    return total


def two(first: list[float], second: list[float]) -> dict[str, list[Tensor | None]]:
    return {"a": [torch.tensor(first)], "b": [torch.tensor(second)]}


def test_two_opposing_gradients_in_closed_form() -> None:
    balance = ProjectedGradients(["a", "b"], [True], 0)
    (combined,) = balance.combine(two([1.0, 0.0], [-1.0, 1.0]), 0)
    assert torch.allclose(combined, torch.tensor([0.5, 1.5]))
    (nothing,) = balance.combine(two([1.0, -2.0], [-3.0, 6.0]), 1)
    assert torch.allclose(nothing, torch.zeros(2), atol=1e-6)


def test_gradients_that_agree_are_added() -> None:
    (combined,) = ProjectedGradients(["a", "b"], [True], 0).combine(two([1.0, 2.0], [3.0, 0.5]), 5)
    assert torch.allclose(combined, torch.tensor([4.0, 2.5]))


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(0, 50))
def test_as_the_paper_has_it(seed: int, heads: int, step: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    names = [f"h{i}" for i in range(heads)]
    shapes = [(3, 2), (4,), (2, 1, 2, 2)]
    gradients = {name: [torch.randn(shape, generator=generator) for shape in shapes] for name in names}
    before = {name: [g.clone() for g in listed] for name, listed in gradients.items()}
    balance = ProjectedGradients(names, [True] * 3, seed)
    combined = torch.cat([g.flatten() for g in balance.combine(gradients, step)]).numpy()
    vectors = [torch.cat([g.flatten() for g in listed]).double().numpy() for listed in gradients.values()]
    np.testing.assert_allclose(combined, surgery(vectors, balance.orders(heads, step)), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(a, b) for name in names for a, b in zip(before[name], gradients[name], strict=True))
    if heads == 2:
        assert all(combined @ vector > -1e-4 for vector in vectors)


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_a_common_factor_goes_through(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = {name: [torch.randn(5, generator=generator)] for name in "abc"}
    balance = ProjectedGradients(list("abc"), [True], seed)
    (plain,) = balance.combine(gradients, 3)
    (scaled,) = balance.combine({name: [g * factor for g in listed] for name, listed in gradients.items()}, 3)
    assert torch.allclose(scaled, plain * factor, rtol=1e-3, atol=1e-4 * factor)


def test_parameters_of_one_head_and_missing_gradients() -> None:
    own = torch.tensor([7.0])
    gradients: dict[str, list[Tensor | None]] = {
        "a": [torch.tensor([1.0, 0.0]), own, None, torch.tensor([2.0]), None],
        "b": [torch.tensor([-1.0, 1.0]), None, torch.tensor([8.0]), None, None],
    }
    balance = ProjectedGradients(["a", "b"], [True, False, False, True, True], 0)
    combined = balance.combine(gradients, 0)
    assert combined[1] is own and combined[2].item() == 8 and combined[4] is None
    vectors = [np.array([1.0, 0.0, 2.0]), np.array([-1.0, 1.0, 0.0])]
    expected = surgery(vectors, [[1], [0]])
    assert torch.allclose(torch.cat([combined[0], combined[3]]), torch.tensor(expected, dtype=torch.float32))


def test_one_head_alone_keeps_its_gradients() -> None:
    gradients: dict[str, list[Tensor | None]] = {"b": [torch.tensor([1.0]), None]}
    combined = ProjectedGradients(["a", "b"], [True, True], 0).combine(gradients, 0)
    assert combined[0] is gradients["b"][0] and combined[1] is None


def test_the_order_is_a_function_of_seed_and_step() -> None:
    orders = [ProjectedGradients(list("abcd"), [True], seed).orders(4, step) for seed in (1, 2) for step in range(10)]
    again = [ProjectedGradients(list("abcd"), [True], seed).orders(4, step) for seed in (1, 2) for step in range(10)]
    assert orders == again
    assert len({str(order) for order in orders}) > 15
    for order in orders:
        assert [sorted(others) for others in order] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_gradients_that_are_not_finite_stay_visible() -> None:
    (combined,) = ProjectedGradients(["a", "b"], [True], 0).combine(two([float("nan"), 0.0], [1.0, 1.0]), 0)
    assert not combined.isfinite().all()


@pytest.mark.parametrize("surgical", [False, True])
def test_a_weak_task_is_not_trodden_down(surgical: bool) -> None:
    """Two losses over one weight vector: a step along the plain sum raises the weaker one's, surgery lowers both."""

    def losses(weights: Tensor) -> dict[str, Tensor]:
        return {"strong": 10 * (weights[0] - 1).square(), "weak": (weights - torch.tensor([-1.0, 1.0])).square().sum()}

    weights = torch.zeros(2, requires_grad=True)
    before = losses(weights)
    gradients = {name: list(torch.autograd.grad(loss, [weights])) for name, loss in before.items()}
    balance = ProjectedGradients(list(before), [surgical], 0)
    (combined,) = balance.combine(gradients, 0)
    after = losses(weights.detach() - 0.001 * combined)
    assert after["strong"] < before["strong"]
    assert (after["weak"] < before["weak"]) == surgical
