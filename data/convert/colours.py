"""Colours of classes in masks that are colours, or that have a palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.formats.colour_table import Colour
from utils.plots.palette import class_colour

WITH_COLOURS = ("mask_colour", "mask_palette")
"""Formats in which a class has the colour that its set gives it."""

_MOST = 256


def class_colours(names: Sequence[str], known: Mapping[str, Colour]) -> tuple[Colour, ...]:
    """Return a colour for every class: its own, else the first of the palette that no class has.

    Args:
        names: of the classes, at most 255.
        known: red, green, blue of some of them.
    """
    taken = set(known.values())
    free = (colour for colour in map(class_colour, range(_MOST)) if colour not in taken)
    return tuple(known[name] if name in known else next(free) for name in names)
