"""Looks at every image file once: is it there, can it be read, and what shape has it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data.checks.finding import Finding
from data.images import image_size
from data.scan import in_threads
from utils.errors import DataError

LEAST_SIDE = 32
"""Pixels; a shorter side is less than one cell of the coarsest level of most models."""
MOST_ASPECT = 8.0
"""Times as long as wide; letterboxed to a square, seven eighths of the input are padding then."""


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        size: height and width, upright; (0, 0) where it cannot be read.
        bytes: of the file, 0 where it is not there.
        fault: why it cannot be read, or an empty text.
    """

    size: tuple[int, int]
    bytes: int
    fault: str = ""


def look_at_pictures(files: Iterable[str]) -> dict[str, Picture]:
    """Return what is known of every file, each looked at once."""
    names = list(dict.fromkeys(files))
    return dict(zip(names, in_threads(_look, names, "looking at images"), strict=True))


def _look(file: str) -> Picture:
    try:
        size = os.stat(file).st_size
    except OSError:
        size = 0
    try:
        return Picture(image_size(file), size)
    except DataError as error:
        return Picture((0, 0), size, str(error))


def picture_findings(images: Iterable[str], pictures: Mapping[str, Picture], where: str) -> list[Finding]:
    """Return what is wrong with the image files of one split, ``where``."""
    found = []
    for file in images:
        picture = pictures[file]
        if picture.fault:
            check = "image-unreadable" if os.path.lexists(file) else "image-missing"
            found.append(Finding(check, where, picture.fault))
            continue
        height, width = picture.size
        shape = f"{file}: {width} x {height} pixels (width x height)"
        if min(height, width) < LEAST_SIDE:
            found.append(Finding("image-small", where, f"{shape}, a side below {LEAST_SIDE}", (file,)))
        if max(height, width) > MOST_ASPECT * min(height, width):
            sentence = f"{shape}, more than {MOST_ASPECT:g} times as long as wide"
            found.append(Finding("image-long", where, sentence, (file,)))
    return found
