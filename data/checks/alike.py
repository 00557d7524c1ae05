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


def look_alikes(signs: np.ndarray) -> np.ndarray:
    """Return (p, 2) positions i < j of all pictures that look alike, in order.

    Args:
        signs: (n,) uint64.
    """
    pairs = []
    # Three differences leave one of four bands untouched, so only pictures that share a band are compared.
    for band in range(_BANDS):
        part = (signs >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order], prepend=np.uint64(1 << 20)))
        for members in np.split(order, starts[1:]):
            if len(members) > 1:
                different = np.bitwise_count(signs[members, None] ^ signs[members])
                rows, columns = np.nonzero(np.triu(different <= MOST_DIFFERENT, 1))
                pairs.append(np.sort(np.stack([members[rows], members[columns]], 1), axis=1))
    return np.unique(np.concatenate(pairs), axis=0) if pairs else np.zeros((0, 2), np.int64)


def alike_findings(
    splits: Mapping[str, Sequence[str]], ids: Mapping[str, str], signs: Mapping[str, int], key: str
) -> list[Finding]:
    """Return a finding for every two pictures of one task that look alike and do not hold the same bytes.

    Args:
        splits: images of each split.
        ids: contents, from ``data.checks.copies``.
        signs: from ``signs_of``.
        key: of the task.
    """
    listed = [(file, split) for split, files in splits.items() for file in files if file in signs]
    numbers = np.array([signs[file] for file, _ in listed], np.uint64)
    found = []
    for i, j in look_alikes(numbers).tolist():
        (first, its_split), (second, other_split) = listed[i], listed[j]
        if ids[first] == ids[second]:
            continue
        sentence = f"{second}: looks like {first}"
        if its_split == other_split:
            found.append(Finding("image-near-duplicate", f"{key} {its_split}", sentence, (first, second)))
        else:
            where = f"{key} {its_split} and {other_split}"
            found.append(Finding("split-near-leak", where, f"{sentence}, which {its_split} has", (first, second)))
    return found
