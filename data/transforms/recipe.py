"""Numbers of a recipe (a plain dict with YOLOv5's keys), read with their range checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from utils.errors import ModelError

Recipe = Mapping[str, Any]


def recipe_number(hyp: Recipe, key: str, default: float, low: float, high: float) -> float:
    """Return ``hyp[key]`` as a float, or ``default`` where the recipe lacks the key.

    Args:
        hyp: the recipe.
        key: name of the number.
        default: value of an absent key.
        low: least allowed value.
        high: greatest allowed value.

    Raises:
        ModelError: the value is no finite number between ``low`` and ``high``.
    """
    value = hyp.get(key, default)
    if not _is_number(value) or not low <= value <= high:
        raise ModelError(f"recipe key '{key}' is {value!r}: give a number from {low:g} to {high:g}")
    return float(value)


def recipe_numbers(hyp: Recipe, key: str, default: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    """Return ``hyp[key]`` as as many floats as ``default`` has, all between ``low`` and ``high``.

    Raises:
        ModelError: the value is no list of that many finite numbers in that range.
    """
    values = hyp.get(key, default)
    fits = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == len(default)
    if not fits or not all(_is_number(value) and low <= value <= high for value in values):
        raise ModelError(f"recipe key '{key}' is {values!r}: give {len(default)} numbers from {low:g} to {high:g}")
    return tuple(float(value) for value in values)


def recipe_range(hyp: Recipe, key: str, default: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return ``hyp[key]``, the least and the greatest of what is drawn, both between ``low`` and ``high``.

    Raises:
        ModelError: the value is no list of two finite numbers in that range, the smaller one first.
    """
    least, greatest = recipe_numbers(hyp, key, default, low, high)
    if least > greatest:
        raise ModelError(f"recipe key '{key}' is {hyp[key]!r}: give the smaller number first")
    return least, greatest


def recipe_whole_numbers(hyp: Recipe, key: str, low: int, high: int, count: int | None = None) -> list[int]:
    """Return ``hyp[key]``, a list of whole numbers between ``low`` and ``high``.

    Args:
        hyp: the recipe.
        key: name of the list, which is there.
        low: least allowed number.
        high: greatest allowed number.
        count: how many numbers there have to be; None for one or more.

    Raises:
        ModelError: the value is no such list.
    """
    values = hyp[key]
    listed = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    fits = listed and (count is None or len(values) == count)
    if not fits or not all(_is_number(value) and value == int(value) and low <= value <= high for value in values):
        number = "one or more" if count is None else str(count)
        raise ModelError(f"recipe key '{key}' is {values!r}: give {number} whole numbers from {low} to {high}")
    return [int(value) for value in values]


def recipe_flip_pairs(hyp: Recipe) -> tuple[tuple[int, int], ...]:
    """Return ``hyp['flip_pairs']``, the keypoints that trade places in a mirrored image, or no pairs.

    Raises:
        ModelError: the value is no list of pairs of different keypoint indices, each index at most once.
    """
    pairs = hyp.get("flip_pairs") or ()
    listed = isinstance(pairs, Sequence) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs)
    indices = [index for pair in pairs for index in pair] if listed else []
    if not listed or not all(type(index) is int and index >= 0 for index in indices):
        raise ModelError(f"recipe key 'flip_pairs' is {pairs!r}: give pairs of keypoint indices like [[1, 2], [3, 4]]")
    if len(set(indices)) != len(indices):
        raise ModelError(f"recipe key 'flip_pairs' is {pairs!r}: name every keypoint at most once")
    return tuple((left, right) for left, right in pairs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
