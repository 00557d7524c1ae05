"""A seeded draw of pictures for validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.errors import DataError, UsageError


def check_draw(val_share: float | None, seed: int) -> None:
    """Make sure that a share can be drawn; None stands for no draw.

    Raises:
        UsageError: the share is not between 0 and 1, or the seed is below 0.
    """
    if val_share is not None and not 0 < val_share < 1:
        raise UsageError(f"--val-share {val_share} is no share; give a number between 0 and 1, such as 0.2")
    if seed < 0:
        raise UsageError(f"--seed {seed} is below 0; give 0 or more")


def draw_for_val(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the names that stay and those drawn, at least one of each, both sorted.

    Raises:
        DataError: there are fewer than two.
    """
    if len(names) < 2:
        raise DataError(f"{names[0]}: the only picture; --val-share needs two or more")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    drawn = set(np.random.default_rng(seed).choice(len(names), count, replace=False).tolist())
    ordered = sorted(names)
    return (
        [name for i, name in enumerate(ordered) if i not in drawn],
        [name for i, name in enumerate(ordered) if i in drawn],
    )
