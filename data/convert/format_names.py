"""The names of all formats on the command line; masks that share a name with objects end with ``_masks``."""

from __future__ import annotations

from data.formats.contract import MaskFormat, PictureFormat, SplitFormat
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS, SPLIT_FORMATS

_OBJECTS: dict[str, PictureFormat | SplitFormat] = {**PICTURE_FORMATS, **SPLIT_FORMATS}
_MASKS: dict[str, MaskFormat] = {
    f"{name}_masks" if name in _OBJECTS else name: format for name, format in MASK_FORMATS.items()
}


def format_names() -> tuple[list[str], list[str]]:
    """Return the names of the formats of objects, and of those of masks."""
    return list(_OBJECTS), list(_MASKS)


def find_format(name: str) -> PictureFormat | SplitFormat | MaskFormat:
    """Return the format of a name that ``format_names`` gives."""
    return {**_OBJECTS, **_MASKS}[name]
