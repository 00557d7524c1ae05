"""``explain/STEM_CLASS.jpg``: what in a row of the model speaks for what was found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from utils.explain.grad_cam import GradCam
from utils.explain.grad_cam_pictures import explained_pictures
from utils.plots.drawing import save_picture
from utils.result_formats.found_picture import FoundPicture
from utils.result_formats.result_paths import ResultPaths, folder_name

LOGGER = logging.getLogger("yolograph")


class GradCamFiles:
    """Explains pictures, some at a time, and writes a picture per class that was found.

    Args:
        paths: where files go.
        names: class names per head.
        grad_cam: explains pictures.
        batch_size: most pictures per pass.
    """

    def __init__(
        self, paths: ResultPaths, names: Mapping[str, Sequence[str]], grad_cam: GradCam, batch_size: int = 1
    ) -> None:
        self._paths, self._names, self._grad_cam, self._batch_size = paths, names, grad_cam, batch_size
        self._waiting: list[FoundPicture] = []
        self._written, self._blank = 0, 0

    def save(self, picture: FoundPicture) -> None:
        """Explain what was found in one picture, as soon as there are enough for a pass."""
        self._waiting.append(picture)
        if len(self._waiting) >= self._batch_size:
            self._explain()

    def finish(self) -> None:
        """Explain the pictures that are left, and say how many maps there are."""
        self._explain()
        blank = f"; {self._blank} of them are empty, because nothing in the row speaks for them" if self._blank else ""
        LOGGER.info("explained %d classes of pictures by row %d%s", self._written, self._grad_cam.row, blank)

    def discard(self) -> None:
        """Forget the pictures that wait; every file is whole."""
        self._waiting = []

    def _explain(self) -> None:
        waiting, self._waiting = self._waiting, []
        maps = self._grad_cam([picture.image for picture in waiting], [picture.results for picture in waiting])
        for picture, of_picture in zip(waiting, maps, strict=True):
            drawn = explained_pictures(picture.image, picture.results, of_picture, self._names)
            for head, by_word in drawn.items():
                below = folder_name("explain", head, drawn)
                for word, drawing in by_word.items():
                    save_picture(self._paths.path(below, f"{picture.stem}_{word}.jpg", picture), drawing)
            self._written += sum(map(len, of_picture.values()))
            self._blank += sum(not each.values.any() for of_head in of_picture.values() for each in of_head)
