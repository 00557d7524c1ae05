"""Leaves results in a run folder: pictures, label text, masks, each under a name that no other source has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.mask_png import write_mask
from models.predictions import DetectionResult, MaskResult
from utils.files import UniqueNames
from utils.label_text import write_label_text
from utils.plots.drawing import colour_mask, save_picture
from utils.plots.palette import mask_palette
from utils.plots.skeletons import LEAST_SCORE


@dataclass(frozen=True)
class Wanted:
    """Which files to write.

    Attributes:
        pictures: pictures and videos with the results drawn on them.
        labels: objects as YOLO label text.
        confidences: with the confidence as the last column.
        masks: class maps as PNG, as indices and in colours.
        keypoint_score: least score, 0..1, of a keypoint that labels count as found.
    """

    pictures: bool = True
    labels: bool = False
    confidences: bool = False
    masks: bool = False
    keypoint_score: float = LEAST_SCORE

    @property
    def anything(self) -> bool:
        """Whether there is anything to write."""
        return self.pictures or self.labels or self.masks


class ResultFiles:
    """Names and writes the files of a run.

    Args:
        folder: of the run.
        names: class names per head.
        wanted: which files to write.
    """

    def __init__(self, folder: Path, names: Mapping[str, Sequence[str]], wanted: Wanted) -> None:
        self.folder, self.names, self.wanted = folder, names, wanted
        self._taken: dict[str, UniqueNames] = defaultdict(UniqueNames)

    def name_for(self, source: Path) -> Path:
        """Return where the picture or video of a source goes; its stem names the source's other files too.

        Sources of equal stem get numbers, even if their suffixes differ, so that picture and labels keep one name.
        """
        return self.folder / f"{self._taken['stems'].take(source.stem)}{source.suffix}"

    def save_results(self, stem: str, results: Mapping[str, Any], size: tuple[int, int]) -> None:
        """Write the wanted files of one picture.

        Args:
            stem: name of the picture without its suffix.
            results: per head.
            size: native (height, width) of the picture.
        """
        objects = {head: result for head, result in results.items() if isinstance(result, DetectionResult)}
        areas = {head: result for head, result in results.items() if isinstance(result, MaskResult)}
        if self.wanted.labels:
            for head, result in objects.items():
                path = self._path(_folder_name("labels", head, objects), f"{stem}.txt")
                wanted = self.wanted
                write_label_text(path, result, np.array(size[::-1]), wanted.confidences, wanted.keypoint_score)
        if self.wanted.masks:
            for head, result in areas.items():
                folder, class_map = _folder_name("masks", head, areas), result.class_map.numpy()
                write_mask(self._path(folder, f"{stem}.png"), class_map)
                colours = colour_mask(class_map, mask_palette(self.names[head]))
                save_picture(self._path(folder, f"{stem}_colour.png"), colours)

    def _path(self, folder: str, name: str) -> Path:
        (self.folder / folder).mkdir(exist_ok=True)
        return self.folder / folder / self._taken[folder].take(name)


def _folder_name(kind: str, head: str, heads: Mapping[str, Any]) -> str:
    """Return ``labels``, or ``labels_HEAD`` where several heads give the same kind of result."""
    return kind if len(heads) == 1 else f"{kind}_{head}"
