"""``labels/STEM.txt``: the objects of every picture as YOLO label text."""

from __future__ import annotations

import numpy as np

from utils.label_text import write_label_text
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.result_paths import ResultPaths, folder_name


class LabelTextFiles(ResultFormat):
    """Writes a text per picture and head.

    Args:
        paths: where files go.
        confidences: write them behind each object.
        keypoint_score: least score, 0..1, of a keypoint that counts as found.
    """

    def __init__(self, paths: ResultPaths, confidences: bool, keypoint_score: float) -> None:
        self._paths, self._confidences, self._keypoint_score = paths, confidences, keypoint_score

    def save(self, picture: FoundPicture) -> None:
        """Write the objects of one picture; without objects the file is empty."""
        size = np.array(picture.size[::-1])
        for head, result in picture.objects.items():
            folder = folder_name("labels", head, picture.objects)
            path = self._paths.path(folder, f"{picture.stem}.txt", picture)
            write_label_text(path, result, size, self._confidences, self._keypoint_score)
