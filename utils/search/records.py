"""What a search leaves: ``evolve.csv``, ``hyp_evolved.yaml`` and ``evolve.png``, renewed after every trial."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from utils.files import atomic_write
from utils.plots.search import plot_search
from utils.search.space import SearchKey, recipe_with

LOGGER = logging.getLogger("yolograph")
TABLE, RECIPE, PICTURE = "evolve.csv", "hyp_evolved.yaml", "evolve.png"


def best_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the complete trial of the highest fitness, the earliest of equals; None where there is none."""
    complete = [row for row in rows if row["state"] == "complete"]
    return max(complete, key=lambda row: row["fitness"], default=None)


def write_records(
    folder: Path, rows: Sequence[Mapping[str, Any]], hyp: Mapping[str, Any], keys: Sequence[SearchKey]
) -> None:
    """Write the table, the best recipe and the picture, each whole or not at all.

    Args:
        folder: of the search.
        rows: of ``Study.rows``, at least one.
        hyp: the given recipe.
        keys: what is searched.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    atomic_write(folder / TABLE, text.getvalue().encode())
    best = best_of(rows)
    if best is not None:
        atomic_write(folder / RECIPE, _recipe_text(rows, best, hyp, keys).encode())
    plot_search(rows, keys, folder / PICTURE)


def _recipe_text(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], hyp: Mapping[str, Any], keys: Sequence[SearchKey]
) -> str:
    ended = sum(row["state"] != "interrupted" for row in rows)
    values = {key.name: best[key.name] for key in keys}
    head = f"# Best of {ended} trials of --evolve: fitness {best['fitness']:.5g} in trial {best['trial']}.\n"
    given = next((row for row in rows if row["state"] == "complete" and _is_start(row, keys)), None)
    if given is not None:
        head += f"# The recipe that it began with reached {given['fitness']:.5g} in trial {given['trial']}.\n"
    head += f"# Searched: {' '.join(values)}\n"
    return head + yaml.safe_dump(recipe_with(hyp, values), sort_keys=False)


def _is_start(row: Mapping[str, Any], keys: Sequence[SearchKey]) -> bool:
    return all(row[key.name] == key.start for key in keys)
