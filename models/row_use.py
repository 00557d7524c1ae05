"""Which heads use which rows of a model: what they share and what each has for itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import nn

from models.layers.per_head import PerHead
from models.spec import PER_TASK, ModelSpec

if TYPE_CHECKING:
    from models.graph import Graph


def needed_rows(spec: ModelSpec, wanted: Iterable[int]) -> set[int]:
    """Return the wanted rows and every row that they depend on."""
    needed: set[int] = set()
    waiting = list(wanted)
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            waiting += spec.rows[index].sources
    return needed


def rows_by_head(spec: ModelSpec, head_rows: Mapping[str, int]) -> dict[str, set[int]]:
    """Return the rows that each head depends on, its own row among them.

    Args:
        spec: the model.
        head_rows: row index of every head.
    """
    return {name: needed_rows(spec, [index]) for name, index in head_rows.items()}


def users_of_rows(spec: ModelSpec, head_rows: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return for every row the names of the heads that depend on it, in the order of the heads."""
    used = rows_by_head(spec, head_rows)
    return [tuple(name for name in head_rows if row.index in used[name]) for row in spec.rows]


def own_rows(graph: Graph) -> dict[str, set[int]]:
    """Return for every head the rows that it uses and no other head does."""
    users = users_of_rows(graph.spec, graph.head_rows)
    return {name: {index for index, names in enumerate(users) if names == (name,)} for name in graph.head_rows}


def shared_rows(graph: Graph) -> set[int]:
    """Return the rows that more than one head uses."""
    return {index for index, names in enumerate(users_of_rows(graph.spec, graph.head_rows)) if len(names) > 1}


def last_shared_rows(graph: Graph) -> set[int]:
    """Return the shared rows with shared parameters behind which the heads part.

    A shared row is one of them when a head's own row reads it, straight or through shared rows without parameters, such
    as a concatenation.
    """
    shared, users = shared_rows(graph), parameter_users(graph)
    learning = {int(name.split(".")[1]) for name, names in users.items() if len(names) > 1}
    waiting = [s for rows in own_rows(graph).values() for index in rows for s in graph.spec.rows[index].sources]
    last: set[int] = set()
    seen: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index not in shared or index in seen:
            continue
        seen.add(index)
        if index in learning:
            last.add(index)
        else:
            waiting += graph.spec.rows[index].sources
    return last


def parameter_users(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return for every parameter, by name, the heads whose outputs depend on it.

    Those are the heads that use its row; a norm that a shared row has for one head alone is used by that head alone.
    Rows that no head uses are left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    for index, names in enumerate(users_of_rows(graph.spec, graph.head_rows)):
        found |= _users_within(graph.model[index], f"model.{index}", names)
    return {name: users for name, users in found.items() if users}


def _users_within(module: nn.Module, prefix: str, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the users of the parameters of a module that the heads ``names`` run."""
    found = {f"{prefix}.{leaf}": names for leaf, _ in module.named_parameters(recurse=False)}
    for child_name, child in module.named_children():
        single = PerHead.head_of(child_name) if isinstance(module, PerHead) else None
        found |= _users_within(child, f"{prefix}.{child_name}", names if single is None else (single,))
    return found


def parameter_factors(graph: Graph, factors: Mapping[str, float]) -> dict[str, float]:
    """Return the learning-rate factor of every parameter that one head alone uses, by the parameter's name.

    Args:
        graph: the model.
        factors: factor of every head, such as ``head_values(graph, hyp["lr_factors"], "lr_factors")``.

    Returns:
        Parameters whose factor is 1, and those that several heads use, are left out.
    """
    users = parameter_users(graph)
    single = {name: factors.get(names[0], 1.0) for name, names in users.items() if len(names) == 1}
    return {name: factor for name, factor in single.items() if factor != 1}


def runs_of_rows(spec: ModelSpec, head_rows: Mapping[str, int]) -> list[int]:
    """Return how often each row runs when all heads are asked for.

    Once; but where shared rows have a norm for every head, once for every head that uses it. A row that no head uses
    counts once, too, although it never runs.
    """
    if spec.values.get("bn") != PER_TASK:
        return [1] * len(spec.rows)
    return [max(len(names), 1) for names in users_of_rows(spec, head_rows)]
