"""Words on pictures: in a font that stays readable when it is small, with the letters of most alphabets."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

LEAST_SIZE = 8
"""Of a font in pixels; smaller letters cannot be told apart."""

_FONT = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
_DOTS = ".."
_REMEMBERED = 1024


@lru_cache(maxsize=_REMEMBERED)
def text_mask(text: str, size: int) -> np.ndarray:
    """Return how much of every pixel a line of text covers, (height, width) uint8; the array cannot be written to.

    All lines of one size have one height. The same words are drawn again and again in a video, so they are remembered.

    Args:
        text: a line; what cannot be printed becomes a space.
        size: of the font, pixels.
    """
    font = _font(size, text.isascii())
    ascent, descent = font.getmetrics()
    line = _printable(text)
    # Letters such as j begin left of their place.
    left, _, right, _ = font.getbbox(line, anchor="ls")
    begin = max(-left, 0)
    canvas = Image.new("L", (max(begin + ceil(right), 1), ascent + descent))
    ImageDraw.Draw(canvas).text((begin, ascent), line, fill=255, font=font, anchor="ls")
    mask = np.array(canvas)
    mask.flags.writeable = False
    return mask


def fitted_text(text: str, size: int, room: int) -> tuple[str, int]:
    """Return a text and a font size with which it fits into ``room`` pixels: smaller letters, then fewer of them.

    Args:
        text: a line.
        size: of the font, pixels; at least ``LEAST_SIZE`` is left of it.
        room: width in pixels.
    """
    # No letter is narrower than a pixel.
    text = text[: max(room, 1)]
    width = text_mask(text, size).shape[1]
    if width <= room:
        return text, size
    size = max(min(int(size * room / width), size), LEAST_SIZE)
    kept = len(text)
    while kept > 1 and text_mask(text, size).shape[1] > room:
        # The width of the rest is about in proportion; at least one letter goes.
        kept = min(kept - 1, max(int(kept * room / text_mask(text, size).shape[1]), 1))
        text = f"{text[:kept].rstrip()}{_DOTS}"
    return text, size


@lru_cache(maxsize=64)
def _font(size: int, is_ascii: bool) -> ImageFont.FreeTypeFont:
    # The font comes with matplotlib, which need not be imported for it.
    package = find_spec("matplotlib")
    # Setting letters from right to left, or joining them, takes several times as long.
    layout = ImageFont.Layout.BASIC if is_ascii or not features.check("raqm") else ImageFont.Layout.RAQM
    return ImageFont.truetype(str(Path(package.origin).parent / _FONT), size, layout_engine=layout)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
