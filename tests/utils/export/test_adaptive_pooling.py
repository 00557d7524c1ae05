"""Averaging by matrices is adaptive average pooling, at every size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.export.adaptive_pooling import adaptive_average, averaging_matrix

SIZES = st.integers(1, 40)
BINS = st.integers(1, 9)


@settings(deadline=None)
@given(height=SIZES, width=SIZES, rows=BINS, columns=BINS)
def test_it_equals_adaptive_average_pooling(height: int, width: int, rows: int, columns: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 41 + width))
    expected = F.adaptive_avg_pool2d(x, (rows, columns))
    torch.testing.assert_close(adaptive_average(x, [rows, columns]), expected, rtol=1e-5, atol=1e-6)


def test_bins_overlap_where_they_do_not_divide_the_size() -> None:
    matrix = averaging_matrix(5, 3, torch.zeros(1))
    third = 1 / 3
    expected = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, third, third, third, 0], [0, 0, 0, 0.5, 0.5]])
    torch.testing.assert_close(matrix, expected)
