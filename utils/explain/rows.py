"""Which row of a model is meant, and whether it has a map that can be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from models.graph import Graph
from models.heads.base import Head
from models.layers.vit import TokenNorm
from models.row_kinds import Kind
from models.row_use import needed_rows
from utils.errors import UsageError, did_you_mean

_NUMBER = re.compile(r"-?[0-9]+")


def choose_row(graph: Graph, asked: str, heads: Sequence[str]) -> int:
    """Return the index of the row that ``--explain`` names.

    Args:
        graph: the model.
        asked: number of a row as in the model's table, from the end if it is negative, or its name.
        heads: those that run.

    Raises:
        UsageError: there is no such row, it has no map, or none of the heads depends on places of it.
    """
    row = _row_of(graph, asked)
    trace = graph.trace[row]
    told = f"--explain {asked}: row {row} ({graph.spec.rows[row].module})"
    before = f"name a row before it, such as {_last_map(graph, row)}"
    if row in graph.head_rows.values():
        raise UsageError(f"{told} is a head, which has no map; {before}")
    if trace.kind not in (Kind.MAP, Kind.TOKENS):
        raise UsageError(f"{told} gives {trace.kind}, not a map of the picture; {before}")
    if trace.kind is Kind.MAP and (len(trace.shapes[0]) != 4 or max(trace.shapes[0][-2:]) == 1):
        raise UsageError(f"{told} gives one value for the whole picture and no map; {before}")
    users = [head for head in heads if row in needed_rows(graph.spec, [graph.head_rows[head]])]
    if not users:
        of_others = _last_map(graph, graph.head_rows[heads[0]])
        raise UsageError(
            f"{told} is not used by {', '.join(heads)}; name a row that it depends on, such as {of_others}"
        )
    if not any(reads_places(graph, row, head) for head in users):
        of_patches = _last_map(graph, graph.head_rows[users[0]])
        raise UsageError(
            f"{told} gives {users[0]} its detection tokens, which are no places of the picture; name a row before it, "
            f"such as {of_patches}"
        )
    return row


def reads_places(graph: Graph, row: int, head: str) -> bool:
    """Return whether a head's answers follow from places of a row's map.

    A head that reads detection tokens knows nothing of the patches that stand beside them behind the last block.

    Args:
        graph: the model, whose blocks may be fused.
        row: index of a row of maps or tokens.
        head: name.
    """
    used = needed_rows(graph.spec, [graph.head_rows[head]])
    return row in used and _places_are_read(graph, row, used)


def _places_are_read(graph: Graph, row: int, used: set[int]) -> bool:
    """Return whether one of the rows in use reads more of a row than the tokens behind its patches."""
    if graph.trace[row].kind is not Kind.TOKENS:
        return True
    for reader in (each for each in used if row in graph.spec.rows[each].sources):
        module = graph.model[reader]
        if isinstance(module, TokenNorm):
            if _places_are_read(graph, reader, used):
                return True
        elif not (isinstance(module, Head) and module.reads_suffix_alone):
            return True
    return False


def _row_of(graph: Graph, asked: str) -> int:
    count = len(graph.spec.rows)
    if _NUMBER.fullmatch(asked):
        number = int(asked)
        if not -count <= number < count:
            raise UsageError(f"--explain {asked}: the rows of {graph.spec.source} are 0 to {count - 1}")
        return number % count
    names = {row.name: row.index for row in graph.spec.rows if row.name} | graph.head_rows
    if asked not in names:
        known = f"the named ones are {', '.join(names)}" if names else "none of its rows has a name"
        raise UsageError(
            f"--explain {asked}: {graph.spec.source} has no row of that name, {known}; give the number of a row, 0 to "
            f"{count - 1}.{did_you_mean(asked, names)}"
        )
    return names[asked]


def _last_map(graph: Graph, reader: int) -> int:
    """Return the last row with a map whose places count for another row, such as a head's."""
    used = needed_rows(graph.spec, [reader])
    maps = [row for row in used - {reader} if graph.trace[row].kind in (Kind.MAP, Kind.TOKENS)]
    return max((row for row in maps if _places_are_read(graph, row, used)), default=0)
