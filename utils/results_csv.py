"""Reading a training run's results.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from utils.errors import DataError


def read_results(path: Path) -> dict[str, np.ndarray]:
    """Read a table of numbers with a header.

    Returns:
        Column name -> (rows,) float64; NaN where a cell is blank.

    Raises:
        DataError: the file is missing, empty, or holds something that is not a number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the results.csv of a training run") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); give the results.csv of a training run") from error
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if len(rows) < 2:
        raise DataError(f"{path} holds no results yet; train for at least one epoch")
    header = [name.strip() for name in rows[0]]
    values = np.full((len(rows) - 1, len(header)), np.nan)
    for number, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number + 2} has {len(row)} cells but the header {len(header)}; remove or mend that row"
            )
        for column, cell in enumerate(row):
            values[number, column] = _number(cell, path, number + 2, header[column])
    return dict(zip(header, values.T, strict=True))


def _number(cell: str, path: Path, row: int, column: str) -> float:
    if not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(f"{path}, row {row}: '{cell}' in column '{column}' is not a number; mend that cell") from error
