"""``HEAD_predictions.json``: the objects of all pictures as a results file of COCO, one per head."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.predictions import DetectionResult, PoseResult
from utils.errors import RunError
from utils.files import atomic_writer
from utils.metrics.coco_results import coco_image_id
from utils.result_formats.found_picture import FoundPicture


class CocoResultFiles:
    """Writes what ``test.py --save-json`` writes, picture by picture, so that a long run keeps nothing in memory.

    ``image_id`` is the name of a picture's result files, as a number where it has digits only; ``category_id`` is the
    index of the class. Boxes are ``bbox`` (x y width height), poses ``keypoints`` (x y score each), in pixels. Objects
    that are followed have their ``track_id``.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _GrowingList] = {}
        self._stills: dict[int, str] = {}

    def save(self, picture: FoundPicture) -> None:
        """Write the objects of one picture.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        image_id = self._image_id(picture)
        for head, result in picture.objects.items():
            if head not in self._files:
                self._files[head] = _GrowingList(self._folder / f"{head}_predictions.json")
            self._files[head].extend(_rows(result, image_id))

    def finish(self) -> None:
        """Complete the files, which now appear under their names."""
        for file in self._files.values():
            file.finish()

    def discard(self) -> None:
        """Remove the files."""
        for file in self._files.values():
            file.discard()

    def _image_id(self, picture: FoundPicture) -> int | str:
        """Return the id of a picture; of two whose names are one number, such as 7 and 007, the second is a text."""
        image_id = coco_image_id(f"{picture.stem}.jpg")
        if isinstance(image_id, int) and self._stills.setdefault(image_id, picture.stem) != picture.stem:
            return picture.stem
        return image_id


def _rows(result: DetectionResult, image_id: int | str) -> list[dict[str, Any]]:
    """Return one COCO result per object."""
    if isinstance(result, PoseResult):
        key, values = "keypoints", result.keypoints.double().numpy().reshape(len(result.scores), -1)
    else:
        corners = result.boxes.double().numpy()
        key, values = "bbox", np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    classes, scores = result.classes.tolist(), result.scores.double().numpy().round(5).tolist()
    rows = [
        {"image_id": image_id, "category_id": index, key: value, "score": score}
        for index, value, score in zip(classes, values.round(3).tolist(), scores, strict=True)
    ]
    if result.tracks is not None:
        for row, track in zip(rows, result.tracks.tolist(), strict=True):
            if track > 0:
                row["track_id"] = track
    return rows


class _GrowingList:
    """A JSON list that is written while it grows, and has its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: AbstractContextManager[BinaryIO] | None = atomic_writer(path)
        self._file = self._writer.__enter__()
        self._between = b"["

    def extend(self, items: list[dict[str, Any]]) -> None:
        """Append items."""
        if not items:
            return
        try:
            self._file.write(self._between + json.dumps(items)[1:-1].encode())
        except OSError as error:
            error.filename = error.filename or str(self._path)
            raise
        self._between = b",\n"

    def finish(self) -> None:
        """Close the list and give the file its name."""
        if self._writer is None:
            return
        try:
            self._file.write(b"[]" if self._between == b"[" else b"]")
        except OSError:
            self.discard()
            raise
        self._leave(None)

    def discard(self) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._leave(RunError(f"{self._path}: the run failed"))

    def _leave(self, error: BaseException | None) -> None:
        writer, self._writer = self._writer, None
        try:
            writer.__exit__(type(error) if error else None, error, None)
        except RunError as raised:
            if raised is not error:
                raise
