"""Training runs side by side: ``python -m utils.compare_runs --group NAME RUN [RUN ...] --group ...``.

Runs of one group differ in what does not matter, such as the seed; groups differ in what is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import DataError, UsageError, run_command
from utils.metrics.table import format_table
from utils.plots.run_groups import plot_run_groups
from utils.results_csv import read_results

EPILOG = """examples:
  python -m utils.compare_runs --group small runs/train/exp runs/train/exp2 \\
      --group large runs/train/exp3 runs/train/exp4 --columns val/detect_AP50 val/detect_AP
  python -m utils.compare_runs --group adam runs/train/exp --group sgd runs/train/exp2 \\
      --columns train/detect_box --out box.png

Each table shows a group's mean and, in brackets, the least and the most of its runs. Without --columns it says which
columns there are.
exit codes: 0 compared, 2 wrong usage, 3 a run has no results or other ones than asked"""

Groups = dict[str, list[dict[str, np.ndarray]]]


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.compare_runs",
        description="Show columns of results.csv of several groups of training runs as tables and as one picture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--group",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "RUN"),
        help="a name and the folders of its runs; may be given several times",
    )
    parser.add_argument("--columns", nargs="+", default=[], metavar="COLUMN", help="columns of results.csv to compare")
    parser.add_argument(
        "--steps-per-epoch", type=int, default=0, metavar="N", help="show steps instead of epochs, N of them in each"
    )
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw them into this file, too")
    return parser.parse_args(arguments)


def read_groups(given: Sequence[Sequence[str]]) -> Groups:
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
            raise UsageError(f"--group {name} is given twice; name all runs of a group behind one --group")
        groups[name] = [read_results(Path(folder) / "results.csv") for folder in folders]
    return groups


def column_of(groups: Groups, column: str, epochs: np.ndarray) -> dict[str, np.ndarray]:
    """Return group -> (runs, epochs) values of a column, NaN where a run has none for that epoch.

    Raises:
        DataError: a run lacks the column.
    """
    found = {}
    for name, runs in groups.items():
        values = np.full((len(runs), len(epochs)), np.nan)
        for row, run in zip(values, runs, strict=True):
            if column not in run:
                raise DataError(f"a run of group {name} has no column '{column}'; it has {', '.join(run)}")
            row[np.searchsorted(epochs, run["epoch"])] = run[column]
        found[name] = values
    return found


def table_of(x: np.ndarray, groups: dict[str, np.ndarray], column: str, x_label: str) -> str:
    """Return one column's table: a row per epoch that has values, for each group mean (least to most)."""
    rows = [
        [f"{place:g}", *(_spread(values[:, number]) for values in groups.values())]
        for number, place in enumerate(x)
        if any(np.isfinite(values[:, number]).any() for values in groups.values())
    ]
    return f"{column}\n" + format_table([x_label, *groups], rows)


def _spread(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "-"
    mean = f"{known.mean():.4g}"
    return mean if len(known) == 1 else f"{mean} ({known.min():.4g} to {known.max():.4g})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    options = parse_options(arguments)
    if options.steps_per_epoch < 0:
        raise UsageError(f"--steps-per-epoch {options.steps_per_epoch}: give a number above 0")
    groups = read_groups(options.group)
    runs = [run for each in groups.values() for run in each]
    if any("epoch" not in run for run in runs):
        raise DataError("a results.csv has no column 'epoch'; give folders of training runs")
    if not options.columns:
        raise UsageError(f"--columns is missing; the runs have {', '.join(runs[0])}")
    epochs = np.unique(np.concatenate([run["epoch"] for run in runs]))
    x, x_label = (epochs * options.steps_per_epoch, "step") if options.steps_per_epoch else (epochs, "epoch")
    found = {column: column_of(groups, column, epochs) for column in options.columns}
    print("\n\n".join(table_of(x, values, column, x_label) for column, values in found.items()))
    if options.out is not None:
        by_group = {name: {column: values[name] for column, values in found.items()} for name in groups}
        print(f"\npicture: {plot_run_groups(x, by_group, options.columns, x_label, options.out)}")


if __name__ == "__main__":
    run_command(main)
