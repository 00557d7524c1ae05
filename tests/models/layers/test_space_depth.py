"""Contract and Expand: which pixel goes where, and that each undoes the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.space_depth import Contract, Expand
from models.registry import Scale


@pytest.mark.parametrize("s", [1, 2, 3])
def test_contract_by_index(s: int) -> None:
    x = torch.randn(2, 3, 2 * s, 4 * s)
    y = Contract(s)(x)
    assert y.shape == (2, 3 * s * s, 2, 4)
    for row in range(s):
        for column in range(s):
            first = (row * s + column) * 3
            assert torch.equal(y[:, first : first + 3], x[:, :, row::s, column::s])


@given(s=st.integers(1, 3), c=st.integers(1, 4), h=st.integers(1, 4), w=st.integers(1, 4))
def test_each_undoes_the_other(s: int, c: int, h: int, w: int) -> None:
    wide = torch.randn(2, c, h * s, w * s)
    assert torch.equal(Expand(s)(Contract(s)(wide)), wide)
    deep = torch.randn(2, c * s * s, h, w)
    assert torch.equal(Contract(s)(Expand(s)(deep)), deep)


def test_channels_of_rows_that_repeat() -> None:
    contract, expand = Contract.from_row([3], 2, [2], Scale()), Expand.from_row([48], 2, [2], Scale())
    assert (contract.out_channels, expand.out_channels) == (48, 3)
    x = torch.randn(1, 3, 8, 12)
    assert torch.equal(expand.module(contract.module(x)), x)


def test_sizes_and_channels_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="3 does not divide the size 8x9"):
        Contract(3)(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="10 channels do not divide into blocks of 2x2"):
        Expand.from_row([10], 1, [2], Scale())
    with pytest.raises(ValueError, match="above 0, but it is 0"):
        Contract(0)
