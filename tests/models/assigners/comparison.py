"""Holding what an assigner found in one image against its formula, computed slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import Tensor


def assert_as_expected(
    found: tuple[Tensor, Tensor, Tensor], rows: Tensor, expected: Mapping[int, tuple[int, float]], tolerance: float
) -> int:
    """Compare one image.

    Args:
        found: of its A points which are positive, their objects, and how well they fit.
        rows: the rows of its objects among those of padding.
        expected: by positive point the number of its object, and how well it fits.
        tolerance: of the fit.

    Returns:
        How many points are positive.
    """
    positive, matched, fit = found
    own = positive.nonzero()[:, 0].tolist()
    assert own == sorted(expected)
    for a in own:
        owner, value = expected[a]
        assert int(matched[a]) == int(rows[owner])
        assert float(fit[a]) == pytest.approx(value, abs=tolerance)
    assert (matched[~positive] == -1).all() and (fit[~positive] == 0).all()
    return len(own)
