"""The folder of a search: new, or one to go on with, and no other process in it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from utils.errors import ModelError, UsageError
from utils.files import atomic_write, increment_run_folder
from utils.recipe import fill_recipe
from utils.training.chosen_recipe import chosen_recipe
from utils.training.options import MACHINE_OPTIONS, given_options
from utils.yaml_text import read_yaml

try:
    import fcntl
except ImportError:  # Windows has no such locks; two searches in one folder are then the user's own care.
    fcntl = None

LOGGER = logging.getLogger("yolograph")
STUDY = "study.db"
DEFAULT_PROJECT = "runs/evolve"
DEFAULT_TRIALS = 300
OF_THIS_START = (*MACHINE_OPTIONS, "evolve", "time", "resume", "project", "name", "exist_ok")
"""Options that a resumed search takes from the command line and not from its first start."""


@dataclass
class SearchFolder:
    """Where a search keeps its study, results and trials.

    Attributes:
        path: the folder.
        options: command-line values, those of the first start where it is taken up again.
        hyp: the given recipe.
        trials: how many trials make the search.
    """

    path: Path
    options: argparse.Namespace
    hyp: dict[str, Any]
    trials: int

    @property
    def is_new(self) -> bool:
        """Whether nothing has been searched in it yet."""
        return not (self.path / STUDY).is_file()


def open_search(options: argparse.Namespace) -> SearchFolder:
    """Make the folder of a new search, or take up the one that ``--resume`` or ``--name`` with ``--exist-ok`` means.

    Raises:
        UsageError: there is no such search.
        ModelError: the recipe, or what the folder holds, cannot be read.
    """
    project = Path(options.project if "project" in given_options(options) else DEFAULT_PROJECT)
    if options.resume is not None:
        return _take_up(_find(options.resume, project), options)
    if options.exist_ok and (project / options.name / STUDY).is_file():
        return _take_up(project / options.name, options)
    # Before the folder is made, so that a mistake in the recipe leaves nothing behind.
    hyp = chosen_recipe(options)
    folder = increment_run_folder(project, options.name, options.exist_ok)
    trials = options.evolve or DEFAULT_TRIALS
    stored = {**vars(options), "evolve": trials}
    for name, values in (("opt.yaml", stored), ("hyp.yaml", hyp)):
        atomic_write(folder / name, yaml.safe_dump(values, sort_keys=False).encode())
    return SearchFolder(folder, options, hyp, trials)


def _find(resume: str, project: Path) -> Path:
    if not resume:
        found = sorted(project.glob(f"*/{STUDY}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UsageError(f"--evolve --resume: no search below {project} has a {STUDY}; name the search's folder")
        return found[-1].parent
    for candidate in (Path(resume), Path(resume).parent):
        if (candidate / STUDY).is_file():
            return candidate
    raise UsageError(f"--evolve --resume {resume}: there is no {STUDY} in that folder; name a search's folder")


def _take_up(folder: Path, options: argparse.Namespace) -> SearchFolder:
    """Return a search with the options and the recipe of its first start."""
    given = given_options(options)
    stored = read_yaml(folder / "opt.yaml", ModelError)
    hyp = read_yaml(folder / "hyp.yaml", ModelError)
    if not isinstance(stored, dict) or not isinstance(hyp, dict):
        raise ModelError(f"{folder}: opt.yaml and hyp.yaml of this search are damaged; begin a new search")
    kept = {name: value for name, value in stored.items() if name not in OF_THIS_START}
    left_aside = [name for name, value in given.items() if name in kept and kept[name] != value]
    if left_aside:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in left_aside)
        LOGGER.warning("%s: the search keeps the options of its first start; left aside: %s", folder, names)
    merged = argparse.Namespace(**{**vars(options), **kept})
    for name in ("device", "workers", "cache"):
        if name not in given and name in stored:
            setattr(merged, name, stored[name])
    trials = options.evolve or stored.get("evolve") or DEFAULT_TRIALS
    return SearchFolder(folder, merged, fill_recipe(hyp, str(folder / "hyp.yaml")), int(trials))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from searching in the same folder, until the block ends or this process does.

    Raises:
        UsageError: another one is at it.
    """
    if fcntl is None:
        yield
        return
    with open(folder / "study.lock", "w") as file:
        try:
            # Not flock: its lock would live on in worker processes that outlive a killed search by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{folder}: another process searches in this folder; wait for it, or choose another --name"
            ) from error
        yield
