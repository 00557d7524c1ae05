"""``python -m utils.plots results``: training runs side by side, as tables and as one picture.

Runs of one group differ in what does not matter, such as the seed; groups differ in what is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.errors import DataError, UsageError
from utils.files import increment_run_folder
from utils.plots.results import plot_results
from utils.plots.run_groups import plot_run_groups
from utils.results_csv import read_results
from utils.text_table import UNKNOWN, format_table

Groups = dict[str, list[dict[str, np.ndarray]]]
Values = dict[str, np.ndarray]
"""Group -> (runs, epochs) values of one column, NaN where a run has none."""

RESULTS_FILE = "results.csv"
SHOWN = ("train/", "val/")
"""What columns begin with that are drawn unasked."""


def draw_results_of(options: argparse.Namespace) -> None:
    """Print the tables, draw the picture and say where it is.

    Raises:
        UsageError: a group has no run, or a name is given twice.
        DataError: a run has no readable results, or lacks a column.
    """
    if len(options.runs) == 1 and not (options.group or options.columns or options.steps_per_epoch or options.out):
        print(f"picture: {plot_results(Path(options.runs[0]) / RESULTS_FILE)}")
        return
    groups = read_groups([*_groups_of_one(options.runs), *options.group])
    runs = [run for each in groups.values() for run in each]
    if any("epoch" not in run for run in runs):
        raise DataError("a results.csv has no column 'epoch'; give folders of training runs")
    epochs = np.unique(np.concatenate([run["epoch"] for run in runs]))
    x, x_label = (epochs * options.steps_per_epoch, "step") if options.steps_per_epoch else (epochs, "epoch")
    if options.columns:
        found = {column: column_of(groups, column, epochs) for column in options.columns}
        print("\n\n".join(table_of(x, values, column, x_label) for column, values in found.items()))
    else:
        found = {column: values_of(groups, column, epochs) for column in usual_columns(runs)}
        print(table_of_last(found, list(groups)))
    by_group = {name: {column: values[name] for column, values in found.items()} for name in groups}
    path = options.out or increment_run_folder(options.project, options.name, options.exist_ok) / "results.png"
    print(f"\npicture: {plot_run_groups(x, by_group, list(found), x_label, path)}")


def _groups_of_one(folders: Sequence[str]) -> list[list[str]]:
    """Return a group for every run, named by its folder, or by the whole path where two have one name."""
    names = [Path(folder).resolve().name for folder in folders]
    return [[name if names.count(name) == 1 else folder, folder] for name, folder in zip(names, folders, strict=True)]


def read_groups(given: Iterable[Sequence[str]]) -> Groups:
    """Read the results of every group's runs.

    Raises:
        UsageError: a group has no run, or a name is given twice.
        DataError: a run has no readable results.
    """
    groups: Groups = {}
    for name, *folders in given:
        if not folders:
            raise UsageError(f"--group {name} names no run; give its folder, such as runs/train/exp")
        if name in groups:
            raise UsageError(f"the group {name} is given twice; name all its runs behind one --group")
        groups[name] = [read_results(Path(folder) / RESULTS_FILE) for folder in folders]
    return groups


def usual_columns(runs: Iterable[Mapping[str, np.ndarray]]) -> list[str]:
    """Return the columns of losses and metrics that some run has, in their order, losses first.

    Raises:
        DataError: there is none.
    """
    columns = list(dict.fromkeys(column for run in runs for column in run if column.startswith(SHOWN)))
    if not columns:
        raise DataError("no results.csv has a column that begins with train/ or val/; choose with --columns")
    return sorted(columns, key=lambda column: not column.startswith(SHOWN[0]))


def column_of(groups: Groups, column: str, epochs: np.ndarray) -> Values:
    """Return the values of a column that every run has.

    Raises:
        DataError: a run lacks the column.
    """
    for name, runs in groups.items():
        for run in runs:
            if column not in run:
                raise DataError(f"a run of group {name} has no column '{column}'; it has {', '.join(run)}")
    return values_of(groups, column, epochs)


def values_of(groups: Groups, column: str, epochs: np.ndarray) -> Values:
    """Return the values of a column; a run that lacks it has none."""
    found = {}
    for name, runs in groups.items():
        found[name] = values = np.full((len(runs), len(epochs)), np.nan)
        for row, run in zip(values, runs, strict=True):
            if column in run:
                row[np.searchsorted(epochs, run["epoch"])] = run[column]
    return found


def table_of(x: np.ndarray, groups: Values, column: str, x_label: str) -> str:
    """Return one column's table: a row per epoch that has values, for each group mean (least to most)."""
    rows = [
        [f"{place:g}", *(_spread(values[:, number]) for values in groups.values())]
        for number, place in enumerate(x)
        if any(np.isfinite(values[:, number]).any() for values in groups.values())
    ]
    return f"{column}\n" + format_table([x_label, *groups], rows)


def table_of_last(found: Mapping[str, Values], groups: Sequence[str]) -> str:
    """Return the table of the last value that each run has of each column, for each group mean (least to most)."""
    rows = [[column, *(_spread(_last(values[name])) for name in groups)] for column, values in found.items()]
    return format_table(["last value of", *groups], rows)


def _last(values: np.ndarray) -> np.ndarray:
    """Return the last known value of every row, (runs,), NaN where there is none."""
    known = np.isfinite(values)
    place = values.shape[1] - 1 - known[:, ::-1].argmax(1)
    return values[np.arange(len(values)), place]


def _spread(values: np.ndarray) -> str:
    """Return the mean with the least and the most; a mean of some of the runs says so, as they are not all alike."""
    known = values[np.isfinite(values)]
    if not len(known):
        return UNKNOWN
    text = f"{known.mean():.4g}"
    if len(known) > 1:
        text += f" ({known.min():.4g} to {known.max():.4g})"
    return text if len(known) == len(values) else f"{text}, {len(known)} of {len(values)}"
