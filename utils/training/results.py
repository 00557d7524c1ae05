"""``results.csv``: one line per epoch, rewritten whole so that a killed run never leaves half a line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from utils.errors import RunError
from utils.files import atomic_write


class ResultsTable:
    """The epochs of a run as rows of numbers.

    Args:
        path: of the CSV file.
        epochs_done: rows of later epochs that the file may hold are forgotten; they belong to work that was lost.

    Raises:
        RunError: the file is no longer the table that the run wrote.
    """

    def __init__(self, path: Path, epochs_done: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if epochs_done and path.is_file():
            try:
                with open(path, newline="", encoding="utf-8") as file:
                    self.rows = [row for row in csv.DictReader(file, strict=True) if int(row["epoch"]) <= epochs_done]
            except (csv.Error, KeyError, TypeError, ValueError):
                raise RunError(
                    f"{path}: is not the table that this run wrote; restore it, or move it away to go on with a new one"
                ) from None

    def add(self, row: dict[str, float | int]) -> None:
        """Append the numbers of an epoch and write the file."""
        self.rows.append({name: f"{value:.6g}" for name, value in row.items()})
        names = list(dict.fromkeys(name for entry in self.rows for name in entry))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write(self.path, text.getvalue().encode())
