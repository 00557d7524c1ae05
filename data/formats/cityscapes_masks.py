"""Cityscapes' masks: label ids in files called so, training classes in others; see ``data.formats.cityscapes``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.formats.cityscapes import (
    NAMES,
    holds_label_ids,
    label_ids_to_train_ids,
    mask_candidates,
    train_ids_to_label_ids,
)
from data.formats.mask_files import read_indices, written_values
from data.formats.mask_png import IGNORE, check_mask, read_mask, write_mask


class CityscapesMasks:
    """``NAME_gtFine_labelIds.png`` for ``NAME_leftImg8bit.png``, and ``NAME.png`` for others; see ``MaskFormat``."""

    name = "cityscapes"
    names = tuple(NAMES)

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie; ``masks`` is ``gtFine/SPLIT``, or ``gtFine``."""
        folders = (masks, masks / images.name)
        return [file for folder in folders for file in mask_candidates(image, images, folder)]

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 training classes; label ids that have none are 255.

        Raises:
            DataError: the file cannot be read, or a value of a file without label ids is neither a class nor ignored;
                or the set lists fewer classes than the masks have.
        """
        if not holds_label_ids(path):
            return read_indices(path, classes)
        mask = read_mask(path)
        if mask.dtype != np.uint8:
            # 16 bits are allowed for, as of every mask, but not for their values.
            check_mask(mask, 256, [], path)
        mask = label_ids_to_train_ids(mask)
        check_mask(mask, len(classes.names), [IGNORE], path)
        return mask

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write label ids, 0 where no class counts, or training classes, as the file's name says.

        Raises:
            DataError: a pixel's class is none of the nineteen, or not listed.
        """
        if holds_label_ids(path):
            check_mask(mask, len(NAMES), [IGNORE], path)
            write_mask(path, train_ids_to_label_ids(mask))
        else:
            write_mask(path, written_values(path, mask, classes))
