"""Masks whose pixels are the colours of classes. Black is ignored where no class has it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.formats.colour_table import Colour, check_colours
from data.formats.mask_files import mirrored
from data.formats.mask_png import IGNORE, check_mask, read_colour_png, write_colour_png
from utils.errors import DataError

_BLACK = (0, 0, 0)


class ColourMasks:
    """A PNG of colours, which the set lists; see ``MaskFormat``. One with a palette is read by its colours."""

    name = "mask_colour"
    names: tuple[str, ...] = ()

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, see ``mirrored``."""
        return mirrored(image, images, masks, ".png")

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 class indices; see ``read_colours``."""
        return read_colours(path, _colours(path, classes))

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write the colour of every pixel's class; see ``write_colours``."""
        write_colours(path, mask, _colours(path, classes))


def read_colours(path: Path, colours: tuple[Colour, ...]) -> np.ndarray:
    """Return (H, W) uint8, for every pixel the index of its colour, 255 for black where that is none of the colours.

    Raises:
        DataError: the file cannot be read, or has another colour; the message names it and one pixel.
    """
    pixels = read_colour_png(path)
    packed = (pixels[..., 0].astype(np.int32) << 16) | (pixels[..., 1].astype(np.int32) << 8) | pixels[..., 2]
    mask = _index_of_colour(colours)[packed]
    strange = (mask == IGNORE) & (packed != 0)
    if strange.any():
        y, x = (int(place[0]) for place in np.nonzero(strange))
        colour = " ".join(str(part) for part in pixels[y, x])
        raise DataError(
            f"{path}: the mask has the colour {colour} (pixel {x}, {y}), which is that of no class; add it to the "
            "table of colours, or mend the mask"
        )
    return mask


def write_colours(path: Path, mask: np.ndarray, colours: tuple[Colour, ...]) -> None:
    """Write the colour of every pixel's class, black where no class counts; the folder must exist.

    Raises:
        DataError: a pixel's class has no colour, or a class is black and there are pixels without a class.
    """
    check_mask(mask, len(colours), [IGNORE], path)
    if _BLACK in colours and (mask == IGNORE).any():
        raise DataError(f"{path}: black is a class and cannot stand for pixels without one; give the class a colour")
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = np.array(colours, np.uint8)
    write_colour_png(path, table[mask])


def _colours(path: Path, classes: MaskClasses) -> tuple[Colour, ...]:
    if len(classes.colours) != len(classes.names):
        raise DataError(
            f"{path}: a mask of colours needs one colour per class, but there are {len(classes.colours)} for "
            f"{len(classes.names)} classes; list them under `colours`"
        )
    check_colours(path, classes.names, classes.colours)
    return tuple(classes.colours)


@functools.lru_cache(maxsize=4)
def _index_of_colour(colours: tuple[Colour, ...]) -> np.ndarray:
    """Return (2^24,) uint8: the index of every colour, 255 where it is none of the colours."""
    table = np.full(1 << 24, IGNORE, np.uint8)
    for index, (red, green, blue) in enumerate(colours):
        table[red << 16 | green << 8 | blue] = index
    table.flags.writeable = False
    return table
