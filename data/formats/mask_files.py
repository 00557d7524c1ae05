"""What formats of masks have in common: where masks lie, and masks whose pixels are class indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.formats.mask_png import IGNORE, check_mask, ignore_values, read_mask
from utils.errors import DataError


def mirrored(image: Path, images: Path, masks: Path, *endings: str) -> list[Path]:
    """Return where a mask may lie, best first.

    Below the folder of masks it has the image's own path below its folder; there may be a folder of the split's name
    between, and masks may also lie in one folder whatever the subfolders of images.

    Args:
        image: below ``images``.
        images: the split's folder of images.
        masks: folder of masks, of the split or of all splits.
        endings: what follows the image's name without its suffix, best first.
    """
    below = image.relative_to(images)
    folders = [below.parent, Path(images.name) / below.parent, Path(), Path(images.name)]
    return [masks / folder / f"{image.stem}{end}" for folder in dict.fromkeys(folders) for end in endings]


def read_indices(path: Path, classes: MaskClasses) -> np.ndarray:
    """Return (H, W) uint8 class indices of a mask that holds them, 255 for ignored values.

    Raises:
        DataError: the file cannot be read, or a value is neither a class nor ignored.
    """
    mask = read_mask(path)
    check_mask(mask, len(classes.names), classes.ignore, path)
    return ignore_values(mask, classes.ignore)


def written_values(path: Path, mask: np.ndarray, classes: MaskClasses) -> np.ndarray:
    """Return (H, W) uint8, the mask with the files' own value for pixels that do not count.

    Raises:
        DataError: a pixel's class is not listed, or pixels that do not count have no value.
    """
    check_mask(mask, len(classes.names), [IGNORE], path)
    if IGNORE in classes.ignore or not (mask == IGNORE).any():
        return mask
    if not classes.ignore:
        raise DataError(f"{path}: the mask has pixels without a class; give a value that stands for them (`ignore`)")
    return np.where(mask == IGNORE, np.uint8(classes.ignore[0]), mask)
