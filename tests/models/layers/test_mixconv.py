"""MixConv2d: both ways to share channels, and its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.layers.mixconv import MixConv2d, split_into_equal_channels, split_into_equal_weights


@given(channels=st.integers(1, 300), groups=st.integers(1, 6))
def test_equal_channels_are_the_published_rule(channels: int, groups: int) -> None:
    """floor(linspace(0, groups - 1e-6, channels)) says which group a channel belongs to."""
    owner = np.floor(np.linspace(0, groups - 1e-6, channels)).astype(int)
    assert split_into_equal_channels(channels, groups) == np.bincount(owner, minlength=groups).tolist()


@given(channels=st.integers(1, 300), kernels=st.lists(st.sampled_from([1, 3, 5, 7, 9]), min_size=1, max_size=5))
def test_equal_weights_solve_the_published_equations(channels: int, kernels: list[int]) -> None:
    """The counts sum to the channels, and neighbours have equally many weights: c_i k_i^2 = c_(i+1) k_(i+1)^2."""
    counts = split_into_equal_weights(channels, kernels)
    assert sum(counts) == channels
    squares = np.square(kernels).astype(float)
    rows = [np.ones(len(kernels))]
    for i in range(len(kernels) - 1):
        row = np.zeros(len(kernels))
        row[i], row[i + 1] = squares[i], -squares[i + 1]
        rows.append(row)
    exact = np.linalg.lstsq(np.array(rows), np.array([channels, *[0] * (len(kernels) - 1)]), rcond=None)[0]
    # All are rounded; one of them also takes what rounding lost.
    errors = np.sort(np.abs(counts - exact))
    assert (errors[:-1] <= 0.5 + 1e-6).all() and errors[-1] <= 0.5 * len(kernels) + 1e-6


def test_known_splits() -> None:
    assert split_into_equal_channels(64, 2) == [32, 32]
    assert split_into_equal_weights(64, [1, 3]) == [58, 6]


@pytest.mark.parametrize("equal", [True, False])
def test_by_its_formula(equal: bool) -> None:
    block = MixConv2d(20, 20, [1, 3], 1, equal).eval()
    x = torch.randn(2, 20, 6, 7)
    parts = [F.conv2d(x, conv.weight, padding=k // 2) for conv, k in zip(block.m, (1, 3), strict=True)]
    mixed = F.leaky_relu(torch.cat(parts, 1) / (1 + block.bn.eps) ** 0.5, 0.1)
    assert torch.allclose(block(x), x + mixed, atol=1e-6)
    assert [conv.out_channels for conv in block.m] == ([10, 10] if equal else [18, 2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((8, 16), "adds its input"),
        ((8, 8, [1, 3], 2), "adds its input"),
        ((8, 8, [2, 3]), "odd numbers"),
        ((8, 8, []), "odd numbers"),
        ((4, 4, [1, 9], 1, False), "too few for the kernels"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MixConv2d(*arguments)
