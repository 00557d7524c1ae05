"""Weights & Biases: offline in the run folder, unless ``WANDB_MODE`` says otherwise."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.loggers.logged_run import LoggedRun
from utils.optional_packages import import_optional

PROJECT, RECORD = "yolograph", "wandb_run.json"
STEP = "epoch"


class WandbLogger:
    """Writes through the package ``wandb``.

    Offline, whether or not somebody is logged in: ``wandb sync RUN/wandb/offline-run-*`` sends a run that is to be
    sent, and ``WANDB_MODE=online`` sends at once. ``WANDB_PROJECT``, ``WANDB_ENTITY`` and the others of the package
    have their usual meaning.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self) -> None:
        if os.environ.setdefault("WANDB_MODE", "offline") != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        self._wandb = import_optional("wandb", "--loggers wandb")
        self._run: Any = None
        self._record: LoggedRun | None = None

    def start(
        self, folder: Path, options: argparse.Namespace, hyp: Mapping[str, Any], epochs_kept: int | None = None
    ) -> None:
        """Begin a run, or go on with it under its name; see ``RunLogger.start``."""
        self._record = LoggedRun(folder / RECORD, epochs_kept is None)
        if not self._record.run_id:
            self._record.name(secrets.token_hex(4))
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            dir=str(folder),
            id=self._record.run_id,
            resume="allow",
            config={"options": vars(options), "recipe": dict(hyp)},
        )
        # An axis of our own: the package's counter cannot go on where a resumed run does.
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of an epoch."""
        assert self._record is not None
        if self._record.is_new_step(step):
            self._run.log({**values, STEP: step})

    def picture(self, name: str, path: Path) -> None:
        """Log a picture."""
        self._run.log({name: self._wandb.Image(str(path))})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Note the summary and end the run."""
        self._run.summary.update(dict(summary))
        self._run.finish()
