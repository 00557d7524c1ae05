"""The table of objects: read by other programs, readable while it grows, whole when the disk is full."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest

from tests.utils.result_formats.found import FOLLOWED, OBJECTS, PICTURE, frame, still
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.csv_table import COLUMNS, CsvTable
from utils.result_formats.found_picture import FoundPicture

NAMES = {"cars": ["car", 'two words, "quoted"'], "signs": ["stop", "go"]}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_per_object_of_every_head(tmp_path):
    with ResultFiles(tmp_path, NAMES, Wanted(pictures=False, table=True)) as files:
        files.save(still(files, "in/ä, b.jpg", cars=OBJECTS, signs=OBJECTS.only(OBJECTS.scores > 0.8)))
        files.save(frame(files.name_for(Path("clip.mp4")), 5, cars=FOLLOWED))
        grown = rows_of(tmp_path / "objects.csv")
    rows = rows_of(tmp_path / "objects.csv")
    assert grown == rows, "it can be read before the run is over"
    assert [row["picture"] for row in rows] == ["in/ä, b.jpg"] * 4 + ["clip.mp4"] * 3
    assert [row["frame"] for row in rows] == [""] * 4 + ["5"] * 3
    assert [row["head"] for row in rows] == ["cars"] * 3 + ["signs"] + ["cars"] * 3
    assert [row["name"] for row in rows[:4]] == ["car", NAMES["cars"][1], "car", "stop"]
    assert [row["track"] for row in rows] == [""] * 4 + ["7", "", "12"]
    second = rows[1]
    assert second["class"] == "1" and float(second["confidence"]) == 0.75
    assert [float(second[key]) for key in ("x1", "y1", "x2", "y2")] == [0.5, 1.25, 12, 9]


def test_without_a_picture_or_an_object_there_is_the_heading(tmp_path):
    for name, pictures in (("none", 0), ("empty", 2)):
        table = CsvTable(tmp_path / name, NAMES)
        for number in range(pictures):
            table.save(FoundPicture("a", "a.jpg", PICTURE, {"cars": OBJECTS.only(OBJECTS.scores > 1)}, frame=number))
        table.finish()
        assert (tmp_path / name).read_text() == ",".join(COLUMNS) + "\n"


def test_a_picture_that_does_not_fit_on_the_disk_leaves_no_row(tmp_path, monkeypatch):
    class Disk:
        """A file on a disk with room for a few more bytes."""

        def __init__(self, file, room):
            self.file, self.room = file, room

        def write(self, data):
            part = bytes(data[: self.room])
            if not part:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= len(part)
            return self.file.write(part)

        def __getattr__(self, name):
            return getattr(self.file, name)

    table = CsvTable(tmp_path / "t.csv", NAMES)
    picture = FoundPicture("a", "a.jpg", PICTURE, {"cars": OBJECTS})
    table.save(picture)
    table._file = Disk(table._file, 50)
    with pytest.raises(OSError, match="No space left") as caught:
        table.save(picture)
    assert caught.value.filename == str(tmp_path / "t.csv")
    table.discard()
    assert len(rows_of(tmp_path / "t.csv")) == 3
    assert (tmp_path / "t.csv").read_bytes().endswith(b"\n")
