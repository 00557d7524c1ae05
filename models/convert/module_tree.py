"""Walks the records that a pickled network leaves behind: children, tensors by name, plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.convert.pickle_machine import Inert, StoredTensor

MOST_LEVELS = 50
"""Modules within one another; official networks have about ten."""


def children(module: Inert) -> dict[str, Inert]:
    """Return the modules directly inside a module, by name."""
    return {str(name): child for name, child in _mapping(module, "_modules").items() if isinstance(child, Inert)}


def descendants(module: Inert, prefix: str = "", level: int = 0) -> Iterator[tuple[str, Inert]]:
    """Yield a module and all within it with their dotted names, in the order of a state dict.

    Raises:
        ValueError: modules contain one another without end.
    """
    if level > MOST_LEVELS:
        raise ValueError(f"modules lie more than {MOST_LEVELS} levels deep")
    yield prefix, module
    for name, child in children(module).items():
        yield from descendants(child, f"{prefix}.{name}" if prefix else name, level + 1)


def stored_tensors(module: Inert) -> dict[str, StoredTensor]:
    """Return the tensors that a state dict of the module would hold, by name."""
    found: dict[str, StoredTensor] = {}
    for prefix, part in descendants(module):
        skipped = part.state.get("_non_persistent_buffers_set") or ()
        own = {**_mapping(part, "_parameters"), **_mapping(part, "_buffers")}
        for name, value in own.items():
            if isinstance(value, StoredTensor) and name not in skipped:
                found[f"{prefix}.{name}" if prefix else str(name)] = value
    return found


def plain(value: Any, level: int = 0) -> Any:
    """Return a value that a YAML could hold, tuples as lists.

    Raises:
        ValueError: it is none, or lies too deep.
    """
    if level > MOST_LEVELS:
        raise ValueError(f"values lie more than {MOST_LEVELS} levels deep")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(entry, level + 1) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry, level + 1) for key, entry in value.items()}
    raise ValueError(f"it holds a {value.kind if isinstance(value, Inert) else type(value).__name__}")


def _mapping(module: Inert, key: str) -> Mapping[Any, Any]:
    value = module.state.get(key)
    return value if isinstance(value, dict) else {}
