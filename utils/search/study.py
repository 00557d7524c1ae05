"""The memory of a search: an Optuna study in an SQLite file, which survives a kill at any moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import RunError, UsageError
from utils.optional_packages import import_optional
from utils.search.space import SearchKey
from utils.search.trial import Outcome

NAME = "yolograph"
MOST_ATTEMPTS = 3
_SPACE, _STATE, _REASON, _EPOCHS, _SECONDS, _ATTEMPT = "space", "outcome", "reason", "epochs", "seconds", "attempt"
INTERRUPTED = "interrupted"


class Study:
    """Trials that have been, and the next one to try.

    The sampler is a tree-structured Parzen estimator (Bergstra et al., "Algorithms for hyper-parameter optimization",
    2011), seeded anew for each trial by the seed and the number of trials that have ended: a search that was
    interrupted asks for the same values as one that was not. A trial is given up when its best fitness so far is below
    the median of what the others had at that epoch.

    Args:
        path: of the SQLite file.
        space: keys of a new search; one that is taken up again keeps those it began with.
        seed: of the sampler.
        epochs: length of a trial; in its first quarter it is never given up.

    Attributes:
        space: the keys that are searched.

    Raises:
        UsageError: Optuna is not installed, or the path cannot be named to SQLite.
        RunError: the file cannot be read.
    """

    def __init__(self, path: Path, space: Sequence[SearchKey], seed: int, epochs: int) -> None:
        self._optuna = import_optional("optuna", "--evolve")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        if "?" in str(path):
            raise UsageError(f"{path}: SQLite takes no path with a question mark; choose another --project or --name")
        self.path, self.seed = path, seed
        self._trial: Any = None
        with self._readable():
            self._study = self._optuna.create_study(
                storage=f"sqlite:///{path.absolute()}",
                study_name=NAME,
                direction="maximize",
                pruner=self._optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=math.ceil(epochs / 4)),
                load_if_exists=True,
            )
            stored = self._study.user_attrs.get(_SPACE)
            self.space = [SearchKey(*entry) for entry in stored] if stored else list(space)
            if not stored:
                self._study.set_user_attr(_SPACE, [list(key) for key in self.space])
            if not self._study.get_trials(deepcopy=False):
                self._study.enqueue_trial({key.name: key.start for key in self.space})
            for trial in self._trials("RUNNING"):
                self._interrupt(trial.number)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn a fault of the file into a sentence."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, self._optuna.exceptions.StorageInternalError) as error:
            cause = error.__cause__ if error.__cause__ is not None else error
            reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
            raise RunError(
                f"{self.path}: the study cannot be read or written ({reason}); "
                "see that the disk has room and the file is whole, then go on with --evolve --resume"
            ) from error

    def _trials(self, *states: str) -> list[Any]:
        wanted = tuple(self._optuna.trial.TrialState[name] for name in states)
        return self._study.get_trials(deepcopy=False, states=wanted)

    def ended(self) -> int:
        """Return how many trials have come to an end of their own, failures included."""
        with self._readable():
            ended = self._trials("COMPLETE", "PRUNED", "FAIL")
        return sum(trial.user_attrs.get(_STATE) != INTERRUPTED for trial in ended)

    def ask(self) -> tuple[int, dict[str, float]]:
        """Begin a trial; return its number, counted from 1, and its values."""
        float_between = self._optuna.distributions.FloatDistribution
        with self._readable():
            seed = int(np.random.SeedSequence([self.seed, self.ended()]).generate_state(1)[0])
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
            self._trial = self._study.ask({key.name: float_between(key.low, key.high, key.log) for key in self.space})
        return self._trial.number + 1, dict(self._trial.params)

    def report(self, epoch: int, fitness: float) -> None:
        """Take the fitness of an epoch of the trial that is under way."""
        with self._readable():
            self._trial.report(fitness, epoch)

    def hopeless(self) -> bool:
        """Return whether the trial that is under way should be given up."""
        with self._readable():
            return self._trial.should_prune()

    def tell(self, outcome: Outcome) -> None:
        """End the trial that is under way."""
        states = self._optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[outcome.state]
        with self._readable():
            for name, value in (
                (_STATE, outcome.state),
                (_REASON, outcome.reason),
                (_EPOCHS, outcome.epochs),
                (_SECONDS, outcome.seconds),
            ):
                self._trial.set_user_attr(name, value)
            self._study.tell(self._trial, outcome.fitness if state == states.COMPLETE else None, state)

    def interrupt(self) -> None:
        """End the trial that is under way as interrupted; its values are tried again."""
        with self._readable():
            self._interrupt(self._trial.number)

    def _interrupt(self, number: int) -> None:
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        attempt = frozen.user_attrs.get(_ATTEMPT, 1)
        again = attempt < MOST_ATTEMPTS
        trial.set_user_attr(_STATE, INTERRUPTED if again else "failed")
        trial.set_user_attr(_REASON, "" if again else f"it was interrupted {attempt} times")
        # A trial that was killed while it got its values has only some of them; the others are drawn anew.
        if again:
            values = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
            self._study.enqueue_trial(values, {_ATTEMPT: attempt + 1})
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def rows(self) -> list[dict[str, Any]]:
        """Return what is known of every trial that has ended, in their order.

        Each has ``trial`` (from 1), ``state``, ``fitness`` (None where there is none), ``epochs``, ``seconds``, the
        searched keys by name, and ``reason``.
        """
        with self._readable():
            trials = self._trials("COMPLETE", "PRUNED", "FAIL")
        return [self._row(trial) for trial in trials]

    def _row(self, trial: Any) -> dict[str, Any]:
        told = trial.user_attrs
        measured = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        complete = told.get(_STATE) == "complete"
        return {
            "trial": trial.number + 1,
            "state": told.get(_STATE, INTERRUPTED),
            "fitness": trial.value if complete else max(measured, default=None),
            "epochs": told.get(_EPOCHS, len(measured)),
            "seconds": told.get(_SECONDS),
            **{key.name: trial.params.get(key.name) for key in self.space},
            "reason": told.get(_REASON, ""),
        }
