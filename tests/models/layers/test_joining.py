"""Rows that join rows: Concat, Sum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.layers.joining import Concat, Sum
from models.registry import Scale


def test_concat_sums_channels() -> None:
    built = Concat.from_row([3, 5, 8], 1, [1], Scale())
    assert built.out_channels == 16
    parts: list[Tensor] = [torch.zeros(1, c, 2, 2) for c in (3, 5, 8)]
    assert built.module(parts).shape[1] == 16


def test_plain_sum() -> None:
    parts = [torch.randn(2, 4, 3, 3) for _ in range(3)]
    kept = [part.clone() for part in parts]
    assert torch.allclose(Sum.from_row([4, 4, 4], 1, [], Scale()).module(parts), parts[0] + parts[1] + parts[2])
    assert all(torch.equal(part, before) for part, before in zip(parts, kept, strict=True))


def test_weighted_sum_starts_at_the_published_weights() -> None:
    block = Sum.from_row([4, 4, 4, 4], 1, [4, True], Scale()).module
    assert block.w.tolist() == [-0.5, -1.0, -1.5]
    parts = [torch.randn(1, 4, 2, 2) for _ in range(4)]
    factors = [1.0, *(2 / (1 + math.exp(i / 2)) for i in (1, 2, 3))]
    expected = torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum(0)
    assert torch.allclose(block(parts), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "number", "args", "words"),
    [
        ([4], 1, [], "two rows or more"),
        ([4, 8], 1, [], r"equal channels, but they have \[4, 8\]"),
        ([4, 4], 1, [3], "the number of rows, 2, but it is 3"),
        ([4, 4], 1, ["two"], "but it is 'two'"),
        ([4, 4], 1, [2, 1], "'weighted' should be bool"),
        ([4, 4], 2, [], "cannot be repeated"),
    ],
)
def test_sums_that_do_not_fit_are_refused(channels: list[int], number: int, args: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sum.from_row(channels, number, args, Scale())


@pytest.mark.parametrize("args", [[], [True], [2], [2, True]])
def test_number_of_rows_may_be_left_out(args: list[Any]) -> None:
    block = Sum.from_row([4, 4], 1, args, Scale()).module
    assert (block.w is not None) == (True in args)
