"""BDD100K's masks: nineteen training classes, which are those of Cityscapes, and the three kinds of drivable area."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.formats.cityscapes import NAMES
from data.formats.mask_files import mirrored, read_indices, written_values
from data.formats.mask_png import IGNORE, check_mask, write_mask

_EARLIER_DRIVABLE = "_drivable_id"
_FROM_EARLIER = np.array([2, 0, 1], np.uint8)
"""The class of each value of the earlier release, which begins with the background."""
_TO_EARLIER = np.array([1, 2, 0], np.uint8)


class Bdd100kMasks:
    """Semantic masks, ``NAME.png`` or ``NAME_train_id.png`` for ``NAME.jpg``; see ``MaskFormat``."""

    name = "bdd100k"
    names = tuple(NAMES)

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, see ``mirrored``."""
        return mirrored(image, images, masks, ".png", "_train_id.png")

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 training classes; see ``read_indices``."""
        return read_indices(path, classes)

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write training classes; see ``written_values`` for errors."""
        write_mask(path, written_values(path, mask, classes))


class DrivableMasks:
    """Drivable areas, ``NAME.png`` for ``NAME.jpg``; see ``MaskFormat``.

    The earlier release has ``NAME_drivable_id.png`` with the background as 0; the file's name tells them apart.
    """

    name = "bdd100k_drivable"
    names = ("direct", "alternative", "background")

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, see ``mirrored``."""
        return mirrored(image, images, masks, ".png", f"{_EARLIER_DRIVABLE}.png")

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8: 0 the own lane, 1 other lanes, 2 neither.

        Raises:
            DataError: the file cannot be read, or a value is neither a class nor ignored.
        """
        mask = read_indices(path, classes)
        return _replaced(mask, _FROM_EARLIER) if path.stem.endswith(_EARLIER_DRIVABLE) else mask

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write the values that belong to the file's name; see ``written_values`` for errors."""
        check_mask(mask, len(self.names), [IGNORE], path)
        values = _replaced(mask, _TO_EARLIER) if path.stem.endswith(_EARLIER_DRIVABLE) else mask
        write_mask(path, written_values(path, values, classes))


def _replaced(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[: len(values)] = values
    return table[mask]
