"""``labelme/STEM.json``: the objects of every picture for the annotation tool labelme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.labelme import write_labelme
from utils.plots.drawing import save_picture
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.result_paths import ResultPaths


class LabelmeFiles(ResultFormat):
    """Writes a JSON per picture.

    Args:
        paths: where files go.
        names: class names per head.
        keypoint_score: least score, 0..1, of a keypoint that counts as found.
    """

    def __init__(self, paths: ResultPaths, names: Mapping[str, Sequence[str]], keypoint_score: float) -> None:
        self._paths, self._names, self._keypoint_score = paths, names, keypoint_score

    def save(self, picture: FoundPicture) -> None:
        """Write the objects of one picture; a frame is written beside its JSON, because labelme opens files."""
        path = self._paths.path("labelme", f"{picture.stem}.json", picture)
        file = picture.file
        if file is None:
            file = save_picture(path.with_name(f"{path.name.removesuffix('.json')}.jpg"), picture.image)
        write_labelme(path, file, picture.results, self._names, picture.size, self._keypoint_score)
