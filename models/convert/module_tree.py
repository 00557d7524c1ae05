"""Walks the records that a pickled network leaves behind: children, tensors by name, plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.convert.records import MOST_NAME, Inert, StoredTensor

MOST_LEVELS = 50
"""Modules within one another; official networks have about ten."""
MOST_ENTRIES = 100_000
"""Modules and tensors of a network, one that lies in several places counted in each; official ones have about 5,000."""
MOST_VALUES = 20_000
"""Values of a YAML and 64 characters of its texts; the longest official one has about 1,000."""
CHARACTERS_PER_VALUE = 64
MOST_NUMBER = 2**63


def dotted(prefix: str, name: Any) -> str:
    """Return the name of a module or tensor within the one that ``prefix`` names.

    Raises:
        ValueError: it is none that a line of text can show.
    """
    if not isinstance(name, str) or not name.isprintable() or len(prefix) + len(name) >= MOST_NAME:
        raise ValueError(f"the name of a module or tensor is no line of up to {MOST_NAME} characters")
    return f"{prefix}.{name}" if prefix else name


def children(module: Inert) -> dict[str, Inert]:
    """Return the modules directly inside a module, by name."""
    found = _mapping(module, "_modules").items()
    return {name: child for name, child in found if isinstance(name, str) and isinstance(child, Inert)}


def descendants(module: Inert) -> Iterator[tuple[str, Inert]]:
    """Yield a module and all within it with their dotted names, in the order of a state dict.

    Raises:
        ValueError: they are too many or too deep, as where modules contain one another, or a name is too long.
    """
    waiting, left = [("", module, 0)], MOST_ENTRIES
    while waiting:
        prefix, part, level = waiting.pop()
        left -= 1 + sum(len(_mapping(part, key)) for key in ("_modules", "_parameters", "_buffers"))
        left -= len(_non_persistent(part))
        if left < 0:
            raise ValueError(f"it has more than {MOST_ENTRIES:,} modules and tensors")
        if level > MOST_LEVELS:
            raise ValueError(f"modules lie more than {MOST_LEVELS} levels deep")
        yield prefix, part
        inner = [(dotted(prefix, name), child, level + 1) for name, child in children(part).items()]
        waiting += reversed(inner)


def stored_tensors(module: Inert) -> dict[str, StoredTensor]:
    """Return the tensors that a state dict of the module would hold, by name.

    Raises:
        ValueError: see ``descendants``.
    """
    found: dict[str, StoredTensor] = {}
    for prefix, part in descendants(module):
        skipped = {name for name in _non_persistent(part) if isinstance(name, str)}
        own = {**_mapping(part, "_parameters"), **_mapping(part, "_buffers")}
        for name, value in own.items():
            if isinstance(value, StoredTensor) and name not in skipped:
                found[dotted(prefix, name)] = value
    return found


def plain(value: Any) -> Any:
    """Return a value that a YAML could hold, tuples as lists. What lies in several places is copied into each.

    Raises:
        ValueError: it is none, is too long with everything written out, or lies too deep.
    """
    left = MOST_VALUES

    def copied(value: Any, level: int) -> Any:
        nonlocal left
        left -= 1 + (len(value) // CHARACTERS_PER_VALUE if isinstance(value, str) else 0)
        if left < 0:
            raise ValueError(f"its YAML has more than {MOST_VALUES:,} values")
        if level > MOST_LEVELS:
            raise ValueError(f"values lie more than {MOST_LEVELS} levels deep")
        if isinstance(value, list | tuple):
            return [copied(entry, level + 1) for entry in value]
        if isinstance(value, dict):
            return {copied(key, level + 1): copied(entry, level + 1) for key, entry in value.items()}
        if isinstance(value, int) and not -MOST_NUMBER <= value < MOST_NUMBER:
            raise ValueError("a number in its YAML has more than 64 bits")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(f"it holds a {value.kind if isinstance(value, Inert) else type(value).__name__}")

    return copied(value, 0)


def _non_persistent(module: Inert) -> list[Any]:
    """Return the names of buffers that a state dict leaves out; older files have no such list."""
    listed = module.state.get("_non_persistent_buffers_set")
    return listed if isinstance(listed, list) else []


def _mapping(module: Inert, key: str) -> Mapping[Any, Any]:
    value = module.state.get(key)
    return value if isinstance(value, dict) else {}
