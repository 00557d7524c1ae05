"""Pictures that look alike though their bytes differ: saved again, resized, or neighbouring frames of a film.

A picture is known by 64 signs, whether brightness rises from each to the next of nine columns in eight rows; pictures
that differ in at most three of them look alike (the difference hash of N. Krawetz, 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from data.checks.finding import Finding
from data.checks.pictures import Picture
from data.images import read_image, reduction_for
from data.scan import in_threads
from utils.errors import DataError

MOST_DIFFERENT = 3
_ROWS, _COLUMNS = 8, 9
_BANDS = 4
_MOST_COMPARED = 1 << 22
"""Pairs of pictures that are compared at a time."""
_LEAST_CONTRAST = 2.0
"""Grey levels; what is flatter than that, such as a black frame, would look like any other flat picture."""


def signs_of(pictures: Mapping[str, Picture]) -> dict[str, int]:
    """Return the 64 signs of every readable picture as a number; flat pictures have none."""
    files = [file for file, picture in pictures.items() if not picture.fault]
    found = in_threads(lambda file: _signs(file, pictures[file].size), files, "comparing what is seen")
    return {file: signs for file, signs in zip(files, found, strict=True) if signs is not None}


def _signs(file: str, size: tuple[int, int]) -> int | None:
    try:
        grey = cv2.cvtColor(read_image(file, reduction_for(size, 64)), cv2.COLOR_RGB2GRAY)
    except DataError:
        return None
    small = cv2.resize(grey.astype(np.float32), (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    if small.std() < _LEAST_CONTRAST:
        return None
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def first_look_alikes(known: np.ndarray, asked: np.ndarray, earlier: bool = False) -> np.ndarray:
    """Return (m,) int64: for each asked picture the first known one that looks like it, -1 without any.

    Args:
        known: (n,) uint64 signs.
        asked: (m,) uint64 signs.
        earlier: both are the same pictures, and only those before a picture count.
    """
    first = np.full(len(asked), len(known), np.int64)
    # Three differences leave one of four bands untouched, so only pictures that share a band are compared.
    for band in range(_BANDS):
        groups, others = _by_band(known, band), _by_band(asked, band)
        for value in groups.keys() & others.keys():
            own = groups[value]
            # In pieces: frames of a camera that stands still are all in one group.
            for rows in np.array_split(others[value], -(-len(others[value]) * len(own) // _MOST_COMPARED)):
                alike = np.bitwise_count(asked[rows, None] ^ known[own]) <= MOST_DIFFERENT
                if earlier:
                    alike &= own < rows[:, None]
                found = np.where(alike.any(1), own[alike.argmax(1)], len(known))
                first[rows] = np.minimum(first[rows], found)
    return np.where(first < len(known), first, -1)


def _by_band(signs: np.ndarray, band: int) -> dict[int, np.ndarray]:
    """Return the positions of all pictures, ascending, by one quarter of their signs."""
    part = (signs >> np.uint64(16 * band)) & np.uint64(0xFFFF)
    order = np.argsort(part, kind="stable")
    values, starts = np.unique(part[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(signs) else {}


def alike_findings(
    splits: Mapping[str, Sequence[str]], ids: Mapping[str, str], signs: Mapping[str, int], key: str
) -> list[Finding]:
    """Return a finding for every picture of one task that looks like an earlier one but holds other bytes.

    Args:
        splits: images of each split.
        ids: contents, from ``data.checks.copies``.
        signs: from ``signs_of``.
        key: of the task.
    """
    files = {split: [file for file in own if file in signs] for split, own in splits.items()}
    numbers = {split: np.array([signs[file] for file in own], np.uint64) for split, own in files.items()}
    found = []
    for second, names in files.items():
        for first in list(files)[: list(files).index(second) + 1]:
            earlier = first == second
            places = first_look_alikes(numbers[first], numbers[second], earlier).tolist()
            for file, place in zip(names, places, strict=True):
                if place < 0 or ids[file] == ids[files[first][place]]:
                    continue
                other = files[first][place]
                if earlier:
                    check, where, end = "image-near-duplicate", f"{key} {second}", ""
                else:
                    check, where, end = "split-near-leak", f"{key} {first} and {second}", f", which {first} has"
                found.append(Finding(check, where, f"{file}: looks like {other}{end}", (other, file)))
    return found
