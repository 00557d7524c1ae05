"""Where the results of a run go besides its ``results.csv``: TensorBoard, MLflow, Weights & Biases.

A logger has the methods of ``RunLogger``. One that fails is reported once and left out; it never ends a run.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")
LOGGER_NAMES = ("tensorboard", "mlflow", "wandb")


class RunLogger(Protocol):
    """What a place for results has to offer. Every method may raise anything: ``Loggers`` deals with it."""

    def start(
        self, folder: Path, options: argparse.Namespace, hyp: Mapping[str, Any], epochs_kept: int | None = None
    ) -> None:
        """Begin the log of a run, or go on with it.

        Args:
            folder: of the run.
            options: of the run.
            hyp: its recipe.
            epochs_kept: None for a new run, whose folder may hold the log of an earlier one. For a run that goes on,
                how many epochs it has done; what the log holds of later ones is of work that was lost.
        """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name, measured in epoch ``step``, counted from 1."""

    def picture(self, name: str, path: Path) -> None:
        """Take a PNG or JPEG file."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the log."""


class Loggers:
    """Several loggers as one that does not fail.

    Args:
        loggers: by name.
    """

    def __init__(self, loggers: Mapping[str, RunLogger]) -> None:
        self._loggers = dict(loggers)

    @property
    def names(self) -> list[str]:
        """The loggers that work."""
        return list(self._loggers)

    def start(
        self, folder: Path, options: argparse.Namespace, hyp: Mapping[str, Any], epochs_kept: int | None = None
    ) -> None:
        """Begin the logs, or go on with them; see ``RunLogger.start``."""
        self._each(lambda logger: logger.start(folder, options, hyp, epochs_kept))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of an epoch; ``epoch`` itself, which is the step, is left out."""
        numbers = {name: float(value) for name, value in values.items() if name != "epoch"}
        self._each(lambda logger: logger.log(numbers, step))

    def picture(self, name: str, path: Path) -> None:
        """Log a picture, where it exists."""
        if path.is_file():
            self._each(lambda logger: logger.picture(name, path))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the logs; more calls change nothing."""
        self._each(lambda logger: logger.finish(summary))
        self._loggers.clear()

    def _each(self, act: Callable[[RunLogger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                act(logger)
            # Whatever goes wrong in a package that sends numbers somewhere, the training is worth more.
            except Exception as error:
                del self._loggers[name]
                reason = str(error).strip().splitlines()
                LOGGER.warning(
                    "the logger %s failed and is left out from here on (%s); results.csv goes on",
                    name,
                    reason[0][:200] if reason else type(error).__name__,
                )


def open_loggers(names: Sequence[str] | None) -> Loggers:
    """Return the loggers of ``--loggers``.

    Args:
        names: of ``LOGGER_NAMES``, or ``none`` alone; None for TensorBoard if it is installed.

    Raises:
        UsageError: a name is unknown, or the package of a named logger is missing.
    """
    if names is None:
        names = ["tensorboard"] if find_spec("tensorboard") is not None else []
    elif "none" in names:
        if set(names) != {"none"}:
            raise UsageError("--loggers none: cannot be combined with other names")
        names = []
    return Loggers({name: _logger(name) for name in dict.fromkeys(names)})


def _logger(name: str) -> RunLogger:
    # Each imports its package when it is made: none of them is needed for training.
    if name == "tensorboard":
        from utils.loggers.tensorboard import TensorBoardLogger

        return TensorBoardLogger()
    if name == "mlflow":
        from utils.loggers.mlflow import MlflowLogger

        return MlflowLogger()
    if name == "wandb":
        from utils.loggers.wandb import WandbLogger

        return WandbLogger()
    raise UsageError(f"--loggers {name}: must be one of {', '.join(LOGGER_NAMES)} or none")
