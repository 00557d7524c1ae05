"""Finding the run that torchrun started again: the command line is the same, but the run has already begun."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.checkpoint import read_header
from utils.distributed.world import World
from utils.errors import ModelError, UsageError
from utils.yaml_text import read_yaml

RUN_FOLDER = "run_folder"
DECIDED_BY_THE_RUN = {"dtype": "auto", "batch_size": -1}
"""Options that stand in a run folder with what the run made of them, and the value that leaves it to the run."""


def remember_run(folder: Path, world: World) -> None:
    """Let later starts of this job know the folder of its run; the first process does it."""
    world.remember(RUN_FOLDER, str(folder.absolute()))


def find_restarted_run(options: argparse.Namespace, world: World) -> Path | None:
    """Return the folder of the run that an earlier start of this torchrun job began, in every process the same.

    torchrun itself remembers it, as long as the machine that hosts the job lives. Otherwise it is the newest run below
    ``--project`` that was started with the same options.

    Args:
        options: of the command line.
        world: the processes that share the work; the first one alone looks at its disk.

    Returns:
        None where there is no such run, it has come to its end, or it has nothing saved yet.
    """
    kept = world.remembered(RUN_FOLDER)
    return world.from_first_rank(lambda: _unfinished(Path(kept) if kept else _newest_alike(options)))


def _newest_alike(options: argparse.Namespace) -> Path | None:
    """Return the newest run with these options, finished or not: an older one is not what was restarted."""
    files = sorted(Path(options.project).glob("*/opt.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.parent for path in files if _has_options(path, vars(options))), None)


def _has_options(path: Path, wanted: dict) -> bool:
    try:
        saved = read_yaml(path, UsageError)
    except UsageError:
        return False
    if not isinstance(saved, dict):
        return False
    left = {name for name, value in DECIDED_BY_THE_RUN.items() if wanted.get(name) == value}
    return all(name in left or (name in saved and saved[name] == value) for name, value in wanted.items())


def _unfinished(folder: Path | None) -> Path | None:
    # Imported late, because a run's state knows the world.
    from utils.training.run_state import LAST, PREVIOUS, stored_progress

    for name in (LAST, PREVIOUS) if folder is not None else ():
        try:
            progress = stored_progress(read_header(folder / "weights" / name)["progress"])
        except ModelError:
            continue
        return None if progress.is_finished else folder
    return None
