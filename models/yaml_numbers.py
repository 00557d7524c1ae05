"""Numbers of a model YAML: which are possible, and the sentence for those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils.errors import ModelError
from utils.yaml_text import is_number

MOST_IN_A_LIST = 100
LARGEST_NUMBER = 100_000
"""Far beyond every network, as is the length of a list."""


def oversize(value: Any) -> str:
    """Return what is too large in a value; empty where nothing is."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        if len(value) > MOST_IN_A_LIST:
            return f"has a list of {len(value):,} entries, where {MOST_IN_A_LIST} is the most"
        return next((fault for entry in value if (fault := oversize(entry))), "")
    if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
        return f"has the number {shown_number(value)}, where {LARGEST_NUMBER:,} is the largest"
    return ""


def shown_number(number: float) -> str:
    """Return a number for a message; Python refuses to write out integers of thousands of digits."""
    if isinstance(number, float):
        return f"{number:g}"
    return f"{number:,}" if abs(number) < 2**63 else "of more than 64 bits"


def positive_number(values: Mapping[str, Any], key: str, default: float, source: str) -> float:
    """Return the number above 0 of a key, or ``default`` without it.

    Raises:
        ModelError: it is something else, or larger than any network has.
    """
    value = values.get(key, default)
    if not is_number(value) or not value > 0:
        raise ModelError(f"{source}: '{key}' must be a number above 0, but it is {value!r}")
    if fault := oversize(value):
        raise ModelError(f"{source}: '{key}' {fault}")
    return value


def whole_number(values: Mapping[str, Any], key: str, default: int, source: str) -> int:
    """Return the whole number above 0 of a key, or ``default`` without it.

    Raises:
        ModelError: see ``positive_number``.
    """
    value = positive_number(values, key, default, source)
    if value != int(value):
        raise ModelError(f"{source}: '{key}' must be a whole number, but it is {value!r}")
    return int(value)
