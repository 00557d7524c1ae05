"""What a project calls the tensors of a network, beside our names: a table by rows and parts of the head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from models.graph import Graph

LEVEL = "{level}"
ANY = "*"


@dataclass(frozen=True)
class NameTable:
    """How a project names the tensors of a network that is a graph of ours.

    Attributes:
        project: who writes these names, for messages.
        family: what the networks are called, for messages.
        rows: what a row of ours is called, by its number; by ``number.repeat`` for a row of several blocks.
        head: what the parts of the head row are called, by our path of the part, in which ``*`` is any word and ``{0}``
            its place there. ``{level}`` marks tensors that the levels share: the project writes them for every level.
        parts: names of parts within a block, by the block and our name of the part; all others are called alike.
        not_weights: pattern of the names of constants, which are left out.
    """

    project: str
    family: str
    rows: Mapping[str, str]
    head: Mapping[str, str]
    parts: Mapping[type[nn.Module], Mapping[str, str]]
    not_weights: re.Pattern[str] | None = None

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor of that name is computed, not learnt."""
        return self.not_weights is not None and self.not_weights.fullmatch(name) is not None

    def published_names(self, graph: Graph) -> dict[str, str]:
        """Return the project's name of every tensor of a graph, by ours; of a shared one, its name at the first level.

        Raises:
            KeyError: the graph has a row with tensors that the project's network has not; the argument is the row.
        """
        return {name: names[0] for name, names in self._all_names(graph).items()}

    def copied_names(self, graph: Graph) -> dict[str, str]:
        """Return where the project writes a shared tensor again: the first level's name by that of another level."""
        return {copy: names[0] for names in self._all_names(graph).values() for copy in names[1:]}

    def _all_names(self, graph: Graph) -> dict[str, list[str]]:
        heads = {str(row): len(graph.spec.rows[row].sources) for row in graph.head_rows.values()}
        return {name: self._published(graph, name, heads) for name in graph.state_dict()}

    def _published(self, graph: Graph, name: str, heads: Mapping[str, int]) -> list[str]:
        _, row, *rest = name.split(".")
        inner: nn.Module = graph.model[int(row)]
        path = self._head_path(rest) if row in heads else None
        if path is not None:
            words = [word for word, part in zip(rest, path.split("."), strict=False) if part == ANY]
            found = self.head[path].format(*words, level=LEVEL)
            used = path.count(".") + 1
            inner, rest = _inside(inner, rest[:used]), rest[used:]
        elif f"{row}.{rest[0]}" in self.rows:
            found, inner, rest = self.rows[f"{row}.{rest[0]}"], inner.get_submodule(rest[0]), rest[1:]
        elif row in self.rows:
            found = self.rows[row]
        else:
            raise KeyError(int(row))
        for part in rest:
            named = next((table for kind, table in self.parts.items() if isinstance(inner, kind)), {})
            found = f"{found}.{named.get(part, part)}"
            inner = _inside(inner, [part])
        return [found.replace(LEVEL, str(level)) for level in range(heads.get(row, 1) if LEVEL in found else 1)]

    def _head_path(self, parts: list[str]) -> str | None:
        """Return the entry of ``head`` that a path begins with."""
        for path in self.head:
            wanted = path.split(".")
            if len(parts) >= len(wanted) and all(w in (ANY, p) for w, p in zip(wanted, parts, strict=False)):
                return path
        return None


def _inside(module: nn.Module, path: list[str]) -> nn.Module:
    """Return what lies at a path within a module, which may end at a tensor."""
    for part in path:
        module = getattr(module, part, module) if isinstance(module, nn.Module) else module
    return module


def run(row: int, prefix: str, count: int, first: int = 1) -> dict[str, str]:
    """Return the names of a row of ``count`` blocks that lie one after another from ``prefix.first`` on."""
    return {f"{row}.{i}": f"{prefix}.{first + i}" for i in range(count)}
