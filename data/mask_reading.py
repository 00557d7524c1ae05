"""Reads the masks of a task: whatever its format, class indices of the set with 255 where no class counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.class_map import ClassMap
from data.formats.mask_png import IGNORE, check_mask, ignore_values, read_mask
from data.formats.registry import MASK_FORMATS
from data.task_data import TaskData
from utils.errors import DataError


class MaskReader:
    """Reads and checks the masks of one task.

    Args:
        data: the task.
    """

    def __init__(self, data: TaskData):
        self.data = data
        self.ignored = ignored_values(data)
        self._classes = MaskClasses(list(data.label_map.names), data.colours, tuple(self.ignored))
        self._table = None if data.class_map is None else value_table(data.class_map)

    @property
    def meaning(self) -> str:
        """A text that changes when the same files would be read as other classes."""
        return f"{self.data.format} {self.ignored} {self.data.colours} {self.data.class_map}"

    def check(self, path: Path, image: Path, size: tuple[int, int]) -> None:
        """Make sure that a mask can be read, has its image's size, and holds nothing but classes and ignored pixels.

        Args:
            path: of the mask.
            image: its picture, for messages.
            size: height and width of the picture.

        Raises:
            DataError: it does not; the message names the file and the mend.
        """
        mask = self._indices(path, checked=True)
        if mask.shape != size:
            raise DataError(
                f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]}, but its image {image} is {size[1]}x{size[0]} "
                "(width x height); save both in one size"
            )

    def read(self, path: str | Path) -> np.ndarray:
        """Return (H, W) uint8, classes of the set and 255 for every pixel that does not count.

        Raises:
            DataError: the file cannot be read.
        """
        mask = self._indices(Path(path), checked=False)
        return mask if self._table is None else self._table[mask]

    def _indices(self, path: Path, checked: bool) -> np.ndarray:
        """Return the indices of the file's classes, with 255 for pixels that do not count."""
        if self.data.format != "mask_png":
            return MASK_FORMATS[self.data.format].read(path, self._classes)
        # Class indices as they are need no second look at every pixel.
        mask = read_mask(path)
        if checked:
            check_mask(mask, len(self._classes.names), self.ignored, path)
        return ignore_values(mask, self.ignored)


def ignored_values(data: TaskData) -> list[int]:
    """Return the values that a task's mask files use for pixels that do not count."""
    return list(data.options.get("ignore", [data.ignore_index]))


def value_table(class_map: ClassMap) -> np.ndarray:
    """Return (256,) uint8: the class that each index of a mask becomes, 255 where it is ignored."""
    table = np.full(256, IGNORE, np.uint8)
    targets = class_map.table
    table[: len(targets)] = np.where(targets < 0, IGNORE, targets)
    table[IGNORE] = IGNORE
    return table
