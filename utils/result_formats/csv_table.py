"""``objects.csv``: the objects of all pictures in one table, readable while it grows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from models.predictions import DetectionResult
from utils.plots.drawing import label_texts
from utils.result_formats.found_picture import FoundPicture

COLUMNS = ("picture", "frame", "head", "class", "name", "confidence", "x1", "y1", "x2", "y2", "track")


class CsvTable:
    """Appends the objects of every picture to a table.

    A picture's rows go to the file in one piece as soon as it is done; if the disk is too full, none of them stays.

    Args:
        path: of the table.
        names: class names per head.
    """

    def __init__(self, path: Path, names: Mapping[str, Sequence[str]]) -> None:
        self.path, self._names = path, names
        self._file: BinaryIO | None = None

    def save(self, picture: FoundPicture) -> None:
        """Append the objects of one picture.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        if self._file is None:
            # Not buffered: what has been written can be read by others, and a full disk is known at once.
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
            self._append([COLUMNS])
        self._append(self._rows(picture))

    def finish(self) -> None:
        """Close the table; there is one with no more than its heading if there was no picture."""
        if self._file is None:
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
            self._append([COLUMNS])
        self._close()

    def discard(self) -> None:
        """Close the table; what it holds is whole."""
        self._close()

    def _rows(self, picture: FoundPicture) -> Iterator[Sequence[Any]]:
        frame = "" if picture.frame is None else picture.frame
        for head, result in picture.objects.items():
            for row in _columns(result, self._names[head]):
                yield picture.source, frame, head, *row

    def _append(self, rows: Any) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        # Linux allows names of files that are no Unicode.
        data = memoryview(text.getvalue().encode(errors="backslashreplace"))
        start = self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(start)
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _columns(result: DetectionResult, names: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Yield class, name, confidence, corners and track of every object; where it is not followed, the last is empty."""
    classes = result.classes.numpy()
    numbers = [0] * len(classes) if result.tracks is None else result.tracks.tolist()
    tracks = [number if number > 0 else "" for number in numbers]
    corners = result.boxes.double().numpy().round(2).tolist()
    scores = result.scores.double().numpy().round(5).tolist()
    texts = label_texts(names, classes)
    for index, text, score, box, track in zip(classes.tolist(), texts, scores, corners, tracks, strict=True):
        yield index, text, score, *box, track
