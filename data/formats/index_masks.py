"""Masks of class indices: a PNG of one grey channel, or one with a palette, in which the classes can be seen."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data.annotations import MaskClasses
from data.formats.mask_files import mirrored, read_indices, written_values
from data.formats.mask_png import write_mask
from utils.errors import DataError
from utils.files import atomic_write

_LEVELS = 256


class GreyMasks:
    """One grey channel; see ``MaskFormat``. A palette is read as its indices."""

    name = "mask_png"
    names: tuple[str, ...] = ()

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, see ``mirrored``."""
        return mirrored(image, images, masks, ".png")

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 class indices, see ``read_indices``."""
        return read_indices(path, classes)

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write the indices as a grey PNG; see ``written_values`` for errors."""
        write_mask(path, written_values(path, mask, classes))


class PaletteMasks(GreyMasks):
    """Indices with a palette; what has no colour of its own is grey."""

    name = "mask_palette"

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write the indices with the colours of the classes as palette.

        Raises:
            DataError: the colours are not one per class; see ``written_values`` for others.
        """
        if classes.colours and len(classes.colours) != len(classes.names):
            raise DataError(
                f"{path}: there are {len(classes.colours)} colours for {len(classes.names)} classes; give one per class"
            )
        palette = np.repeat(np.arange(_LEVELS, dtype=np.uint8)[:, None], 3, axis=1)
        palette[: len(classes.colours)] = np.array(classes.colours, np.uint8).reshape(-1, 3)
        image = Image.fromarray(np.ascontiguousarray(written_values(path, mask, classes)))
        image.putpalette(palette.tobytes())
        buffer = BytesIO()
        image.save(buffer, "PNG")
        atomic_write(path, buffer.getvalue())
