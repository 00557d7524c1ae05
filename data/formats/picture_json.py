"""JSON label files of single pictures: read with a limit, and the checks that their formats share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.label_bytes import read_label_bytes
from utils.errors import DataError

MOST_BYTES = 64_000_000
"""Of one file; some tools put the picture itself into it."""

MOST_VALUES = 2_000_000

MOST_PIXELS = 1e9
"""Places beyond it are no pixels of any picture."""

TOO_FEW_POINTS = "outlines with fewer than three points"
LEAST_CORNERS = 3


def read_picture_json(
    path: Path, what: str, on_object: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """Return the outermost object of a JSON file.

    Args:
        path: of the file.
        what: it should be, for the error, such as ``a labelme file``.
        on_object: is given every object as soon as it is read, innermost first, and says what takes its place.

    Raises:
        DataError: the file cannot be read, is no regular file or larger than 64 MB, or holds no JSON object.
    """
    data = read_label_bytes(path, MOST_BYTES, f"give {what}, which has one picture")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        # In memory, each of them is many times what it is in the file.
        raise DataError(f"{path}: holds more than {MOST_VALUES // 10**6} million values; give {what}, of one picture")
    try:
        root = json.loads(data, object_hook=on_object)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; give {what}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: broken JSON at {place} ({error.msg}); write or copy it again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); write or copy it again") from None
    if not isinstance(root, dict):
        raise DataError(f"{path}: its outermost value is no JSON object; give {what}")
    return root


def listed_objects(root: dict[str, Any], key: str, where: str, what: str) -> list[dict[str, Any]]:
    """Return the list of JSON objects under a key.

    Args:
        root: the JSON object that has the key.
        key: of the list.
        where: names ``root`` in errors.
        what: the file should be, for the error.

    Raises:
        DataError: the key is missing, is no list, or an entry is no object.
    """
    entries = root.get(key)
    if not isinstance(entries, list):
        raise DataError(f"{where}: has no list `{key}`; give {what}")
    wrong = next((i for i, entry in enumerate(entries, 1) if not isinstance(entry, dict)), None)
    if wrong is not None:
        raise DataError(f"{where}: entry {wrong} of `{key}` is no JSON object; mend or remove it")
    return entries


def points_of(values: Any, place: str) -> np.ndarray:
    """Return a JSON list of x y pairs in pixels as (n, 2) float64.

    Raises:
        DataError: it is no such list, or a number is not finite or as large as no picture; ``place`` names it.
    """
    pairs = isinstance(values, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(is_place(value) for value in pair) for pair in values
    )
    if not pairs:
        raise DataError(f"{place} has points that are no list of pairs x, y in pixels; mend or remove it")
    return np.array(values, np.float64).reshape(-1, 2)


def is_place(value: Any) -> bool:
    """Return whether a JSON value can be a place or a length in pixels."""
    return type(value) in (int, float) and abs(value) < MOST_PIXELS


def check_size(root: dict[str, Any], keys: tuple[str, str], size: tuple[int, int], path: Path) -> None:
    """Check that the height and width that a file gives, if it does, are those of its picture.

    Args:
        root: the outermost object of the file.
        keys: of height and width.
        size: of the picture.
        path: of the file.

    Raises:
        DataError: they differ.
    """
    said = [root.get(key) for key in keys]
    if None not in said and said != list(size):
        raise DataError(
            f"{path}: says that its picture is {said[1]!r}x{said[0]!r}, but it is {size[1]}x{size[0]} (width x "
            "height); give the picture that was labelled, or label it again"
        )
