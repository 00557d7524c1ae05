"""The search itself: ``python train.py --evolve [N]``."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models.graph import Graph, load_graph
from models.weights import graph_for_data, load_weights
from utils.distributed import spoken_once
from utils.errors import RunError, StoppedRun, UsageError
from utils.optional_packages import import_optional
from utils.search.folder import STUDY, SearchFolder, alone_in, open_search
from utils.search.records import RECIPE, best_of, write_records
from utils.search.space import SearchKey, recipe_with, search_space
from utils.search.study import Study
from utils.search.trial import Outcome, Train, run_trial, trial_options
from utils.training.chosen_recipe import chosen_recipe

LOGGER = logging.getLogger("yolograph")
MOST_FAILURES = 10
WITHOUT_RECT = ("mosaic", "mixup")
"""Keys that say nothing under ``--rect``, which makes no mosaics."""


def evolve(options: argparse.Namespace, train: Train) -> Path:
    """Search for a better recipe and return the folder of the search.

    The first trial is the given recipe, unchanged. Results are written after every trial, so that a search may be
    stopped whenever it is good enough, and taken up again.

    Args:
        options: of ``train.py``: ``evolve`` (number of trials, 0 for the default or what the search began with),
            ``evolve_keys``, ``time`` (hours after which no trial begins), ``resume``, and those of the trainings.
        train: the function that trains.

    Raises:
        UsageError: Optuna is missing, there is nothing to resume, a key cannot be searched, or there are several
            processes.
        RunError: too many trials in a row failed.
        StoppedRun: a signal came; the trial that it hit is tried again when the search is resumed.
    """
    import_optional("optuna", "--evolve")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with spoken_once():
            raise UsageError("--evolve trains in one process; start it without torchrun")
    if options.label_smoothing is not None and "label_smoothing" in options.evolve_keys:
        raise UsageError("--evolve-keys label_smoothing: --label-smoothing sets it; leave one of them out")
    space = [] if options.resume is not None else _space_of(options)
    search = open_search(options)
    with alone_in(search.path):
        if search.is_new and not space:
            space = _space_of(search.options)
        study = Study(search.path / STUDY, space, search.options.seed, search.options.epochs)
        _announce(search, study)
        until = time.monotonic() + options.time * 3600 if options.time else None
        _search(search, study, train, until)
    _conclude(search, study)
    return search.path


def _space_of(options: argparse.Namespace) -> list[SearchKey]:
    """Return the keys to search for the model of these options, or raise what is wrong with model or recipe."""
    for name in WITHOUT_RECT:
        if options.rect and name in options.evolve_keys:
            raise UsageError(f"--evolve-keys {name}: has no effect under --rect, which makes none; leave one out")
    space = search_space(chosen_recipe(options), _model(options), options.evolve_keys)
    return [key for key in space if not options.rect or key.name not in WITHOUT_RECT]


def _model(options: argparse.Namespace) -> Graph:
    with torch.random.fork_rng(devices=[]):
        return load_graph(options.cfg) if options.cfg else graph_for_data(load_weights(options.weights), {})


def _announce(search: SearchFolder, study: Study) -> None:
    done = study.ended()
    LOGGER.info(
        "%s: %s %d trials of %d epochs%s; searched: %s",
        search.path,
        "a search of" if not done else f"{done} of",
        search.trials,
        search.options.epochs,
        "" if not done else " are done, going on",
        ", ".join(f"{key.name} {key.low:g}..{key.high:g}" for key in study.space),
    )


def _search(search: SearchFolder, study: Study, train: Train, until: float | None) -> None:
    """Make trials until there are enough of them or the time is up."""
    failures: list[str] = []
    ended_well = False
    while study.ended() < search.trials:
        number, values = study.ask()
        try:
            outcome = run_trial(
                train,
                trial_options(search.options, search.path, number),
                recipe_with(search.hyp, values),
                study.report,
                study.hopeless,
            )
        except StoppedRun:
            study.interrupt()
            # The trial's own words name its folder, whose checkpoints are gone.
            raise StoppedRun(
                f"stopped in trial {number}; go on with: python train.py --evolve --resume {search.path}"
            ) from None
        except BaseException:
            study.interrupt()
            LOGGER.info("trial %d was interrupted; go on with --evolve --resume %s", number, search.path)
            raise
        if outcome.mistake is not None and not ended_well:
            # What is wrong with the data or the command is wrong in every trial, and is not counted as tried.
            study.interrupt()
            raise outcome.mistake
        study.tell(outcome)
        rows = study.rows()
        write_records(search.path, rows, search.hyp, study.space)
        _tell(number, search.trials, outcome, best_of(rows))
        failures = [*failures, outcome.reason] if outcome.state == "failed" else []
        ended_well = ended_well or not failures
        if len(failures) >= MOST_FAILURES:
            raise RunError(
                f"{search.path}: {MOST_FAILURES} trials in a row failed, the last one because: {failures[-1]}; "
                "mend the cause, then go on with --evolve --resume"
            )
        if until is not None and time.monotonic() >= until:
            LOGGER.info("the time is up after %d of %d trials", study.ended(), search.trials)
            return


def _tell(number: int, trials: int, outcome: Outcome, best: Mapping[str, Any] | None) -> None:
    so_far = f"; best {best['fitness']:.4f} in trial {best['trial']}" if best is not None else ""
    if outcome.state == "failed":
        LOGGER.warning("trial %d of %d failed: %s%s", number, trials, outcome.reason, so_far)
        return
    given_up = f", given up after epoch {outcome.epochs}" if outcome.state == "pruned" else ""
    LOGGER.info("trial %d of %d: fitness %.4f%s%s", number, trials, outcome.fitness, given_up, so_far)


def _conclude(search: SearchFolder, study: Study) -> None:
    rows = study.rows()
    best = best_of(rows)
    counts = _counts([row["state"] for row in rows])
    if best is None:
        LOGGER.warning("%s: no trial was completed (%s)", search.path, counts)
        return
    LOGGER.info(
        "%s; best fitness %.4f in trial %d; train with --hyp %s",
        counts,
        best["fitness"],
        best["trial"],
        search.path / RECIPE,
    )


def _counts(states: Sequence[str]) -> str:
    named = {"complete": "complete", "pruned": "given up early", "failed": "failed", "interrupted": "interrupted"}
    return ", ".join(f"{states.count(state)} {words}" for state, words in named.items() if state in states)
