"""Reads one label file as the scan of a training does, but every row or part that can be read; the rest is named."""

from __future__ import annotations

from pathlib import Path

from data.checks.faulty_parts import MOST_FAULTS, find_faulty_parts
from data.formats.yolo_txt import parse_rows, read_text
from data.object_labels import ObjectLabels, labels_of_rows
from data.task_data import TaskData
from utils.errors import DataError


def read_rows(file: Path, data: TaskData) -> tuple[ObjectLabels, list[str]]:
    """Return the labels of all rows of a YOLO label file that its reader accepts, and what it says of the others."""
    try:
        text = read_text(file)
    except DataError as error:
        return _parsed([], 0, data, file), [str(error)]
    lines = text.splitlines()
    try:
        return _parsed(lines, 0, data, file), []
    except DataError:
        faulty = find_faulty_parts(len(lines), lambda begin, end: _parsed(lines[begin:end], begin, data, file))
    if not faulty.complete:
        rest = f"{file}: more than {MOST_FAULTS} of its rows are refused; mend these first"
        return _parsed([], 0, data, file), [*faulty.sentences, rest]
    # A row's place is its line, so those that are left out stay as empty lines.
    refused = set(faulty.places)
    kept = ["" if i in refused else line for i, line in enumerate(lines)]
    return _parsed(kept, 0, data, file), faulty.sentences


def _parsed(lines: list[str], first: int, data: TaskData, file: Path) -> ObjectLabels:
    """Parse some lines of a file, the first of which has ``first`` lines before it."""
    text = "\n" * first + "\n".join(lines)
    return labels_of_rows(parse_rows(text, len(data.label_map.names), data.keypoints, str(file)), data.label_map)
