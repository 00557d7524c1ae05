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
from utils.labelme import write_labelme
from utils.plots.drawing import colour_mask, save_picture
from utils.plots.object_masks import class_map_of
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
        labelme: objects as JSON of labelme.
    """

    pictures: bool = True
    labels: bool = False
    confidences: bool = False
    masks: bool = False
    keypoint_score: float = LEAST_SCORE
    labelme: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is anything to write."""
        return self.pictures or self.labels or self.masks or self.labelme


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
        """Write the wanted label text and masks of one picture; masks of objects are class maps too.

        Args:
            stem: name of the picture without its suffix.
            results: per head.
            size: native (height, width) of the picture.
        """
        objects = {head: result for head, result in results.items() if isinstance(result, DetectionResult)}
        areas = {head: class_map for head, result in results.items() if (class_map := _class_map(result)) is not None}
        if self.wanted.labels:
            for head, result in objects.items():
                path = self._path(_folder_name("labels", head, objects), f"{stem}.txt")
                wanted = self.wanted
                write_label_text(path, result, np.array(size[::-1]), wanted.confidences, wanted.keypoint_score)
        if self.wanted.masks:
            for head, class_map in areas.items():
                folder = _folder_name("masks", head, areas)
                write_mask(self._path(folder, f"{stem}.png"), class_map)
                colours = colour_mask(class_map, mask_palette(self.names[head]))
                save_picture(self._path(folder, f"{stem}_colour.png"), colours)

    def save_labelme(
        self, stem: str, results: Mapping[str, Any], image: np.ndarray, picture: Path | None = None
    ) -> None:
        """Write the objects of one picture as JSON of labelme, if that is wanted.

        Args:
            stem: name of the picture without its suffix.
            results: per head.
            image: (H, W, 3) uint8 RGB, the picture itself.
            picture: its file; None for a frame of a video, which is written beside the JSON: labelme opens files.
        """
        if not self.wanted.labelme:
            return
        path = self._path("labelme", f"{stem}.json")
        if picture is None:
            picture = save_picture(path.with_suffix(".jpg"), image)
        write_labelme(path, picture, results, self.names, image.shape[:2], self.wanted.keypoint_score)

    def _path(self, folder: str, name: str) -> Path:
        (self.folder / folder).mkdir(exist_ok=True)
        return self.folder / folder / self._taken[folder].take(name)


def _class_map(result: Any) -> np.ndarray | None:
    """Return the (H, W) uint8 classes of the pixels that a head has found, or that its objects cover; None without."""
    if isinstance(result, MaskResult):
        return result.class_map.numpy()
    if isinstance(result, DetectionResult) and result.masks is not None:
        return class_map_of(result.masks.numpy(), result.classes.numpy())
    return None


def _folder_name(kind: str, head: str, heads: Mapping[str, Any]) -> str:
    """Return ``labels``, or ``labels_HEAD`` where several heads give the same kind of result."""
    return kind if len(heads) == 1 else f"{kind}_{head}"
