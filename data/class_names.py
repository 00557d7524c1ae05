"""Class names as a data YAML gives them: a list, or a mapping from index to name, held against their count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import DataError

MOST_MASK_CLASSES = 255
"""A pixel of a mask is one byte, and one of its values means ignored."""


def checked_names(path: Path, names: Any, count: Any, key: str, count_key: str) -> list[str]:
    """Return the names by index.

    Args:
        path: of the YAML, for messages.
        names: what the YAML holds under ``key``.
        count: what it holds under ``count_key``, None where that is absent.
        key: such as ``detect.names``.
        count_key: such as ``detect.nc``.

    Raises:
        DataError: the names are missing, no texts, not numbered 0, 1, 2 ..., repeated, or not as many as ``count``.
    """
    if names is None or names == [] or names == {}:
        raise DataError(f"{path}: `{key}` is missing; list the class names in the order of their indices")
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise DataError(f"{path}: the keys of `{key}` must be 0..{len(names) - 1}; number the classes so")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"{path}: `{key}` is {names!r}; give a list, or a mapping from index to name")
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise DataError(f"{path}: `{key}` holds {name!r}, which is no text; put the name in quotes")
    names = [str(name) for name in names]
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise DataError(f"{path}: `{key}` holds '{repeated}' twice; give every class its own name")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count != len(names)):
        raise DataError(
            f"{path}: `{count_key}` is {count!r}, but `{key}` has {len(names)} entries; make them agree or "
            f"drop `{count_key}`"
        )
    return names


def checked_mask_names(path: Path, names: Any, count: Any, key: str, count_key: str) -> list[str]:
    """Return the names by index as ``checked_names`` does, for classes that a mask can hold.

    Raises:
        DataError: as there, or there are more than 255.
    """
    checked = checked_names(path, names, count, key, count_key)
    if len(checked) > MOST_MASK_CLASSES:
        raise DataError(f"{path}: `{key}` has {len(checked)} entries, a mask holds at most {MOST_MASK_CLASSES}")
    return checked
