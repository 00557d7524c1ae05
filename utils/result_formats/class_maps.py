"""``masks/STEM.png``: the class of every pixel, as an index and in colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.formats.mask_png import write_mask
from models.predictions import DetectionResult, MaskResult
from utils.plots.drawing import colour_mask, save_picture
from utils.plots.object_masks import class_map_of
from utils.plots.palette import mask_palette
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.result_paths import ResultPaths, folder_name


class ClassMapFiles(ResultFormat):
    """Writes the class maps of areas, and those that the masks of objects amount to.

    Args:
        paths: where files go.
        names: class names per head.
    """

    def __init__(self, paths: ResultPaths, names: Mapping[str, Sequence[str]]) -> None:
        self._paths, self._names = paths, names

    def save(self, picture: FoundPicture) -> None:
        """Write the maps of one picture."""
        areas = {head: found for head, result in picture.results.items() if (found := class_map(result)) is not None}
        for head, found in areas.items():
            folder = folder_name("masks", head, areas)
            write_mask(self._paths.path(folder, f"{picture.stem}.png", picture), found)
            colours = colour_mask(found, mask_palette(self._names[head]))
            save_picture(self._paths.path(folder, f"{picture.stem}_colour.png", picture), colours)


def class_map(result: Any) -> np.ndarray | None:
    """Return the (H, W) uint8 classes of the pixels that a head has found, or that its objects cover; None without."""
    if isinstance(result, MaskResult):
        return result.class_map.numpy()
    if isinstance(result, DetectionResult) and result.masks is not None:
        return class_map_of(result.masks.numpy(), result.classes.numpy())
    return None
