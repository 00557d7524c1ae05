"""What a run leaves in its folder: pictures, videos and every other kind of file that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from data.images import IMAGE_SUFFIXES
from utils.errors import StoppedRun
from utils.plots.drawing import save_picture
from utils.plots.skeletons import LEAST_SCORE
from utils.result_formats.class_maps import ClassMapFiles
from utils.result_formats.coco_results import CocoResultFiles
from utils.result_formats.csv_table import CsvTable
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.label_texts import LabelTextFiles
from utils.result_formats.labelme_files import LabelmeFiles
from utils.result_formats.object_crops import CropFiles
from utils.result_formats.result_paths import ResultPaths
from utils.result_formats.stills_film import StillsFilm
from utils.result_formats.submission import SubmissionFiles

TABLE = "objects.csv"


@dataclass(frozen=True)
class Wanted:
    """Which files to write.

    Attributes:
        pictures: pictures and videos with the results drawn on them.
        labels: objects as YOLO label text.
        confidences: with the confidence behind each object.
        masks: class maps as PNG, as indices and in colours.
        keypoint_score: least score, 0..1, of a keypoint that labels count as found.
        labelme: objects as JSON of labelme.
        crops: every object as a picture of its own.
        table: objects of all pictures as one CSV file.
        coco: objects of all pictures as results files of COCO, one per head.
        submission: class maps of Cityscapes in the form of its benchmark server.
        explanations: pictures of what in the model speaks for what was found, see ``ResultFiles.add``.
        film_rate: frames per second of one video of all drawn still images; None for no such video.
    """

    pictures: bool = True
    labels: bool = False
    confidences: bool = False
    masks: bool = False
    keypoint_score: float = LEAST_SCORE
    labelme: bool = False
    crops: bool = False
    table: bool = False
    coco: bool = False
    submission: bool = False
    explanations: bool = False
    film_rate: float | None = None

    @property
    def anything(self) -> bool:
        """Whether there is anything to write."""
        return self.pictures or self.data or self.film_rate is not None

    @property
    def data(self) -> bool:
        """Whether there is anything to write besides drawings."""
        own = self.labels, self.masks, self.labelme, self.crops, self.table, self.coco, self.submission
        return any((*own, self.explanations))

    @property
    def drawn_stills(self) -> bool:
        """Whether results have to be drawn on still images."""
        return self.pictures or self.film_rate is not None


class ResultFiles:
    """Names and writes the files of a run, as a context manager.

    Files that go over several pictures are complete when the block ends, also when the user interrupts it. When it ends
    by any other error they are not there, but for the CSV table, which has every picture that was done.

    Args:
        folder: of the run; it must exist where anything is wanted.
        names: class names per head.
        wanted: which files to write.
    """

    def __init__(self, folder: Path, names: Mapping[str, Sequence[str]], wanted: Wanted) -> None:
        self.folder, self.names, self.wanted = folder, names, wanted
        self._paths = ResultPaths(folder)
        self._formats = _formats(self._paths, names, wanted)
        self._film = None if wanted.film_rate is None else StillsFilm(self._paths, wanted.film_rate)

    def add(self, build: Callable[[ResultPaths], ResultFormat]) -> None:
        """Write one more kind of file, which needs more than the results.

        Args:
            build: makes its writer, given where files go.
        """
        self._formats.append(build(self._paths))

    def name_for(self, source: Path) -> Path:
        """Return where the drawn picture or video of a file goes; its stem names the file's other results too.

        Sources of equal stem get numbers, even if their suffixes differ, so that picture and labels keep one name.
        """
        is_still = source.suffix.lower() in IMAGE_SUFFIXES
        take = self._paths.take_still if is_still else self._paths.take_moving
        return self.folder / f"{take(source.stem)}{source.suffix}"

    def name_for_stream(self, name: str) -> Path:
        """Return where the video of a live source goes; its stem names the source's other results too."""
        return self.folder / f"{self._paths.take_moving(name)}.mp4"

    def save(self, picture: FoundPicture) -> None:
        """Write everything that is wanted of a picture besides its drawing.

        Pictures come in their order, from one thread at a time.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        for result_format in self._formats:
            result_format.save(picture)

    def save_drawing(self, target: Path, drawing: np.ndarray) -> None:
        """Write the drawing of a still image to its own file, to the video of all still images, or both.

        Args:
            target: from ``name_for``.
            drawing: (H, W, 3) uint8 RGB.

        Raises:
            RunError: the video takes no frame of this size.
            OSError: the disk is full, or the folder cannot be written to.
        """
        self.save_still(target, drawing)
        self.append_to_film(drawing)

    def save_still(self, target: Path, drawing: np.ndarray) -> None:
        """Do the first part of ``save_drawing``: the image's own file, which several threads may do at a time."""
        if self.wanted.pictures:
            save_picture(target, drawing)

    def append_to_film(self, drawing: np.ndarray) -> None:
        """Do the second part of ``save_drawing``: the video of all still images, in their order."""
        if self._film is not None:
            self._film.append(drawing)

    def __enter__(self) -> ResultFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_done = kind is None or issubclass(kind, KeyboardInterrupt | StoppedRun)
        with ExitStack() as stack:
            # Every one has its turn, whatever happens to the others.
            for part in (*self._formats, *([] if self._film is None else [self._film])):
                stack.callback(part.finish if is_done else part.discard)


def _formats(paths: ResultPaths, names: Mapping[str, Sequence[str]], wanted: Wanted) -> list[ResultFormat]:
    """Return a writer for every kind of file that is wanted."""
    formats: list[ResultFormat] = []
    if wanted.labels:
        formats.append(LabelTextFiles(paths, wanted.confidences, wanted.keypoint_score))
    if wanted.masks:
        formats.append(ClassMapFiles(paths, names))
    if wanted.labelme:
        formats.append(LabelmeFiles(paths, names, wanted.keypoint_score))
    if wanted.crops:
        formats.append(CropFiles(paths, names))
    if wanted.table:
        formats.append(CsvTable(paths.folder / TABLE, names))
    if wanted.coco:
        formats.append(CocoResultFiles(paths.folder))
    if wanted.submission:
        formats.append(SubmissionFiles(paths, names))
    return formats
