"""Reads the masks of a set one by one; what does not fit becomes a finding, the rest is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.checks.finding import Finding
from data.formats.mask_png import IGNORE
from data.label_bytes import open_regular
from data.mask_reading import MaskReader
from utils.errors import DataError

_COLOUR_TYPE_AT, _PALETTE = 25, 3


def examine_mask(
    reader: MaskReader, where: str, image: str, size: tuple[int, int], file: str
) -> tuple[np.ndarray, list[Finding]]:
    """Count the pixels of one mask.

    Args:
        reader: of the task's masks.
        where: task and split.
        image: the mask's picture.
        size: its height and width; (0, 0) where it cannot be read.
        file: the mask.

    Returns:
        (C + 1,) int64 pixels of each class and, last, those that do not count; zeros where the mask cannot be used.
        And what was found.
    """
    nothing = np.zeros(len(reader.data.names) + 1, np.int64)
    try:
        mask = reader.read(file)
    except DataError as error:
        return nothing, [Finding("mask-refused", where, str(error), (image,))]
    found = []
    try:
        # Its own size, so that the values are looked at where the size is wrong, too.
        reader.check(Path(file), Path(image), mask.shape)
    except DataError as error:
        found.append(Finding("mask-value", where, str(error), (image,)))
    if size not in ((0, 0), mask.shape):
        sentence = f"{file}: {mask.shape[1]}x{mask.shape[0]}, but {image} is {size[1]}x{size[0]} (width x height)"
        found.append(Finding("mask-size", where, sentence, (image,)))
    if found:
        return nothing, found
    pixels = np.bincount(mask.ravel(), minlength=IGNORE + 1)
    counts = np.append(pixels[: len(nothing) - 1], pixels[IGNORE])
    if not counts[:-1].any():
        found.append(Finding("mask-ignored", where, f"{file}: every pixel is ignored", (image,)))
    return counts, found


def palette_findings(where: str, files: list[str]) -> list[Finding]:
    """Return one finding for all masks that are palette pictures."""
    with_palette = [file for file in files if _has_palette(file)]
    if not with_palette:
        return []
    sentence = f"{where}: {len(with_palette)} of {len(files)} masks have a palette, the first {with_palette[0]}"
    return [Finding("mask-palette", where, sentence, count=len(with_palette))]


def _has_palette(file: str) -> bool:
    try:
        with open_regular(Path(file)) as opened:
            header = opened.read(_COLOUR_TYPE_AT + 1)
    except (OSError, DataError):
        return False
    return len(header) > _COLOUR_TYPE_AT and header[_COLOUR_TYPE_AT] == _PALETTE
