"""``crops/CLASS/STEM.jpg``: every object as a picture of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from utils.crops import crop_folder, cut_crops
from utils.plots.drawing import save_picture
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.result_paths import ResultPaths, folder_name


class CropFiles(ResultFormat):
    """Cuts the objects out of every picture.

    Args:
        paths: where files go.
        names: class names per head.
    """

    def __init__(self, paths: ResultPaths, names: Mapping[str, Sequence[str]]) -> None:
        self._paths, self._names = paths, names

    def save(self, picture: FoundPicture) -> None:
        """Write the objects of one picture, the most certain of a class first.

        Those of a still image are ``STEM.jpg``, ``STEM_2.jpg`` ..., those of a frame ``STEM_FRAME_1.jpg`` ..., which
        no other source has.
        """
        for head, result in picture.objects.items():
            folder = folder_name("crops", head, picture.objects)
            numbers: Counter[str] = Counter()
            for crop in cut_crops(picture.image, picture.stem, result, self._names[head], pad=0):
                below = f"{folder}/{crop_folder(crop)}"
                numbers[below.casefold()] += 1
                number = numbers[below.casefold()]
                plain = number == 1 and picture.frame is None
                name = f"{picture.stem}.jpg" if plain else f"{picture.stem}_{number}.jpg"
                save_picture(self._paths.path(below, name, picture), crop.image)
