"""Aligned text tables for results."""

from __future__ import annotations

from collections.abc import Sequence

MANY_CLASSES = 20
"""Above this many classes a table shows one row per class only when asked to be verbose."""

UNKNOWN = "-"
"""What a cell holds that cannot be measured."""


def format_table(header: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> str:
    """Return rows under a header, the first column flush left, the others flush right.

    Args:
        header: one title per column.
        rows: cells; floats are shown with three decimals, integers as they are.
    """
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def _cell(value: str | int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
