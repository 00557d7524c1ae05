"""Tables of classes and their colours as sets have them beside their masks, such as CamVid's ``label_colors.txt``."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from data.annotations import MaskClasses
from data.label_bytes import read_label_text
from utils.errors import DataError

Colour = tuple[int, int, int]

MOST_BYTES = 100_000
"""Of a table; a mask has at most 255 classes."""

_LEVELS = range(256)
_WANTED = "write one class per line, `name,red,green,blue` or `red green blue name`, with numbers 0..255"


def read_colour_table(path: str | Path) -> MaskClasses:
    """Read a table of classes and colours.

    A line has a name and three numbers 0..255 in front of or behind it, separated by commas, semicolons or white space.
    The first line may be a heading. Empty lines and those that begin with ``#`` are skipped.

    Raises:
        DataError: the file cannot be read, a line is no class with its colour, or a name or colour is there twice.
    """
    lines = read_label_text(Path(path), MOST_BYTES, _WANTED).splitlines()
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()[:1] not in ("", "#")]
    found = [(number, _parse(line)) for number, line in rows]
    # A heading has no number at all.
    if found and found[0][1] is None and not re.search(r"\d", rows[0][1]):
        del found[0]
    wrong = next((number for number, entry in found if entry is None), None)
    if wrong is not None:
        raise DataError(f"{path}, line {wrong}: is no class with its colour; {_WANTED}")
    if not found:
        raise DataError(f"{path}: lists no class; {_WANTED}")
    names = [entry[0] for _, entry in found if entry]
    colours = tuple(entry[1] for _, entry in found if entry)
    check_colours(path, names, colours)
    return MaskClasses(names, colours)


def check_colours(where: str | Path, names: Sequence[str], colours: Sequence[Colour]) -> None:
    """Make sure that no name and no colour is there twice; ``where`` begins the message.

    Raises:
        DataError: one is.
    """
    seen: dict[Colour, str] = {}
    for name, colour in zip(names, colours, strict=True):
        if colour in seen:
            raise DataError(f"{where}: '{seen[colour]}' and '{name}' have the colour {_shown(colour)}; tell them apart")
        seen[colour] = name
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise DataError(f"{where}: the class '{repeated}' is there twice; give every class its own name")


def _shown(colour: Colour) -> str:
    return " ".join(map(str, colour))


def _parse(line: str) -> tuple[str, Colour] | None:
    """Return name and colour of a line, or None."""
    separator = next((mark for mark in ",;" if mark in line), None)
    cells = next(csv.reader([line], delimiter=separator)) if separator else line.split()
    cells = [cell.strip() for cell in cells if cell.strip()]
    for colour, name in ((cells[-3:], cells[:-3]), (cells[:3], cells[3:])):
        if name and len(colour) == 3 and all(cell.isascii() and cell.isdigit() and len(cell) <= 3 for cell in colour):
            levels = [int(cell) for cell in colour]
            if all(level in _LEVELS for level in levels):
                return " ".join(name), (levels[0], levels[1], levels[2])
    return None
