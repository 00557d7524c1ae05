"""The ``kpt`` block of a data YAML: names, mirror partners, sigmas and links of an object's keypoints.

kpt:
  names: [nose, left_eye, right_eye]
  flip: [[left_eye, right_eye]]            # pairs of names or indices; or one index per keypoint: [0, 2, 1]
  sigmas: [0.026, 0.025, 0.025]
  skeleton: [[nose, left_eye], [0, 2]]     # pairs of names or indices
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.keypoints import KeypointSpec, default_keypoints
from utils.errors import DataError, did_you_mean

KEYS = ("names", "flip", "sigmas", "skeleton")
_SIDES = ("left", "right")
_EXAMPLE = "kpt: {names: [nose, left_eye, right_eye], flip: [[left_eye, right_eye]], sigmas: [0.03, 0.03, 0.03]}"


def read_keypoints(path: Path, prefix: str, block: Any, count: Any) -> KeypointSpec | None:
    """Return what a task's keypoints are, or None where its YAML says nothing about them.

    Args:
        path: of the YAML, for messages.
        prefix: of the task's keys, such as ``pose.``.
        block: what the YAML holds under ``kpt``, None where that is absent.
        count: what it holds under ``keypoints``, likewise.

    Raises:
        DataError: a value is missing or wrong, or both are given and disagree; one sentence names file and key.
    """
    if count is not None and not (_is_whole(count) and count > 0):
        raise DataError(f"{path}: `{prefix}keypoints` is {count!r}; give the number of keypoints per object")
    if block is None:
        return None if count is None else default_keypoints(count)
    spec = _Block(path, f"{prefix}kpt").read(block)
    if count is not None and count != len(spec):
        raise DataError(
            f"{path}: `{prefix}keypoints` is {count}, but `{prefix}kpt.names` has {len(spec)} entries; drop "
            f"`{prefix}keypoints`"
        )
    return spec


class _Block:
    """Reads one block; knows the file and the key for messages."""

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key
        self.names: list[str] = []

    def read(self, block: Any) -> KeypointSpec:
        if not isinstance(block, Mapping):
            raise DataError(f"{self.path}: `{self.key}` is {block!r}; write, for instance, `{_EXAMPLE}`")
        for name in block:
            if name not in KEYS:
                raise DataError(f"{self.path}: unknown key `{self.key}.{name}`.{did_you_mean(name, KEYS)}")
        self.names = self._names(block.get("names"))
        flip = self._flip(block.get("flip"))
        sigmas = self._sigmas(block.get("sigmas"))
        skeleton = tuple(self._pairs(block.get("skeleton", []), "skeleton"))
        return KeypointSpec(tuple(self.names), flip, sigmas, skeleton)

    def _names(self, names: Any) -> list[str]:
        if not isinstance(names, list) or not names:
            raise self._wrong("names", names, "list the keypoints in the order of the label files")
        for name in names:
            if isinstance(name, bool) or not isinstance(name, str | int | float):
                raise self._wrong("names", name, "each name is a text; put it in quotes")
        names = [str(name) for name in names]
        repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if repeated is not None:
            raise DataError(
                f"{self.path}: `{self.key}.names` holds '{repeated}' twice; give every keypoint its own name"
            )
        return names

    def _flip(self, flip: Any) -> tuple[int, ...]:
        if flip is None:
            self._require_no_sides()
            flip = []
        if not isinstance(flip, list):
            raise self._wrong("flip", flip, "give pairs of names that trade places, or one index per keypoint")
        if flip and not any(isinstance(entry, list) for entry in flip):
            return self._index_list(flip)
        order = list(range(len(self.names)))
        for first, second in self._pairs(flip, "flip"):
            for end in (first, second):
                if order[end] != end:
                    raise DataError(
                        f"{self.path}: `{self.key}.flip` names '{self.names[end]}' in two pairs; a keypoint trades "
                        "places with one other"
                    )
            order[first], order[second] = second, first
        return tuple(order)

    def _index_list(self, flip: list[Any]) -> tuple[int, ...]:
        count = len(self.names)
        if len(flip) != count:
            raise self._wrong_length("flip", len(flip))
        for index, partner in enumerate(flip):
            if not _is_whole(partner) or not 0 <= partner < count:
                raise self._wrong("flip", partner, f"each entry is an index in 0..{count - 1}")
            if flip[partner] != index:
                raise DataError(
                    f"{self.path}: `{self.key}.flip` sends keypoint {index} to {partner}, but {partner} to "
                    f"{flip[partner]!r}; two keypoints that trade places name each other"
                )
        return tuple(flip)

    def _require_no_sides(self) -> None:
        """Refuse names of a left and a right side without ``flip``: mirrored pictures would teach them wrongly."""
        for name in self.names:
            twin = name.replace(*_SIDES)
            if twin != name and twin in self.names:
                raise DataError(
                    f"{self.path}: `{self.key}.flip` is missing, but there are '{name}' and '{twin}'; give the pairs "
                    "that trade places in a mirrored picture, or [] if none do"
                )

    def _sigmas(self, sigmas: Any) -> tuple[float, ...]:
        if sigmas is None:
            return (1.0 / len(self.names),) * len(self.names)
        if not isinstance(sigmas, list):
            raise self._wrong("sigmas", sigmas, "give one number above 0 per keypoint")
        if len(sigmas) != len(self.names):
            raise self._wrong_length("sigmas", len(sigmas))
        for sigma in sigmas:
            is_number = isinstance(sigma, int | float) and not isinstance(sigma, bool)
            if not is_number or not 0 < sigma < math.inf:
                raise self._wrong("sigmas", sigma, "each sigma is a number above 0")
        return tuple(float(sigma) for sigma in sigmas)

    def _pairs(self, pairs: Any, key: str) -> list[tuple[int, int]]:
        if not isinstance(pairs, list):
            raise self._wrong(key, pairs, "give a list of pairs of keypoints")
        found = []
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._wrong(key, pair, "each entry is a pair of two keypoints, such as [0, 1]")
            first, second = (self._index(end, key) for end in pair)
            if first == second:
                raise self._wrong(key, pair, "a pair has two different keypoints")
            found.append((first, second))
        return found

    def _index(self, end: Any, key: str) -> int:
        """Return the index of a keypoint that is given by its name or its index."""
        if isinstance(end, str | float) and str(end) in self.names:
            return self.names.index(str(end))
        if _is_whole(end):
            # A number that is a name is meant as a name only where it cannot be an index.
            if 0 <= end < len(self.names):
                return end
            if str(end) in self.names:
                return self.names.index(str(end))
        raise DataError(
            f"{self.path}: `{self.key}.{key}` names the keypoint {end!r}, which is none of the {len(self.names)} in "
            f"`{self.key}.names`; give a name of that list, or an index in 0..{len(self.names) - 1}."
            f"{did_you_mean(end, self.names)}"
        )

    def _wrong(self, key: str, value: Any, mend: str) -> DataError:
        return DataError(f"{self.path}: `{self.key}.{key}` is {value!r}; {mend}")

    def _wrong_length(self, key: str, length: int) -> DataError:
        return DataError(
            f"{self.path}: `{self.key}.{key}` has {length} entries, but `{self.key}.names` has {len(self.names)}; give "
            "one per keypoint"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
