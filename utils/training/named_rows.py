"""Rows of a model as people name them in options and recipes: by number, range, name or part of the YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable

from models.graph import Graph
from models.spec import SECTIONS


def row_names(graph: Graph) -> dict[str, list[int]]:
    """Return every name that stands for rows, with these: parts of the YAML, rows that have a name, and heads."""
    found: dict[str, list[int]] = {}
    first = 0
    for section in SECTIONS:
        count = len(graph.spec.values.get(section) or [])
        if count:
            found[section] = list(range(first, first + count))
        first += count
    found |= {row.name: [row.index] for row in graph.spec.rows if row.name}
    return found | {name: [row] for name, row in graph.head_rows.items()}


def rows_named(graph: Graph, entry: str) -> list[int] | None:
    """Return the rows that an entry stands for.

    Args:
        graph: the model.
        entry: a number counted from 0; a range such as ``0-4``, its last row included; the name of a row or of a head;
            or ``backbone``, ``neck`` or ``head``, the part of the YAML that lists them.

    Returns:
        None where no row has that name.

    Raises:
        ValueError: the range ends before it begins, or the model has no such row; one sentence.
    """
    names = row_names(graph)
    if entry in names:
        return names[entry]
    if (found := re.fullmatch(r"(\d+)(?:-(\d+))?", entry)) is None:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"the range is empty; write {last}-{first}")
    require_rows(graph, (last,))
    return list(range(first, last + 1))


def require_rows(graph: Graph, rows: Iterable[int]) -> None:
    """Make sure that a model has rows of these numbers.

    Raises:
        ValueError: it has not; one sentence.
    """
    if max(rows, default=-1) >= len(graph.model):
        raise ValueError(f"the model has only {len(graph.model)} rows, counted from 0")
