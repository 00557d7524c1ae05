"""MLflow: into a database beside the run folders, or where ``MLFLOW_TRACKING_URI`` points."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.loggers.logged_run import LoggedRun
from utils.optional_packages import import_optional

DATABASE, ARTIFACTS, RECORD = "mlflow.db", "mlflow_artifacts", "mlflow_run.json"
EXPERIMENT = "yolograph"
LONGEST_VALUE = 500
"""Of a parameter; longer ones are refused by the service."""


class MlflowLogger:
    """Writes through MLflow's client, without its global state.

    Nothing leaves the machine unless ``MLFLOW_TRACKING_URI`` says so, MLflow's own usage statistics included.
    ``mlflow ui --backend-store-uri sqlite:///runs/train/mlflow.db`` shows the runs of a project.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A service that does not answer would otherwise hold up the training for many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        self._mlflow = import_optional("mlflow", "--loggers mlflow")
        self._client: Any = None
        self._record: LoggedRun | None = None

    def start(
        self, folder: Path, options: argparse.Namespace, hyp: Mapping[str, Any], epochs_kept: int | None = None
    ) -> None:
        """Create the run, or find it again; see ``RunLogger.start``."""
        project = folder.absolute().parent
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = self._mlflow.tracking.MlflowClient(elsewhere or f"sqlite:///{project / DATABASE}")
        self._record = LoggedRun(folder / RECORD, epochs_kept is None)
        if self._record.run_id:
            self._client.update_run(self._record.run_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            experiment = found.experiment_id
        else:
            artifacts = None if elsewhere else (project / ARTIFACTS).as_uri()
            experiment = self._client.create_experiment(name, artifact_location=artifacts)
        self._record.name(self._client.create_run(experiment, run_name=folder.name).info.run_id)
        for kind, values in (("option", vars(options)), ("recipe", hyp)):
            param = self._mlflow.entities.Param
            params = [param(f"{kind}.{key}", str(value)[:LONGEST_VALUE]) for key, value in values.items()]
            self._client.log_batch(self._record.run_id, params=params)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics, all of an epoch in one request."""
        if self._own.is_new_step(step):
            now = int(time.time() * 1000)
            metric = self._mlflow.entities.Metric
            metrics = [metric(name, value, now, step) for name, value in values.items()]
            self._client.log_batch(self._own.run_id, metrics=metrics)

    def picture(self, name: str, path: Path) -> None:
        """Log a file as an artifact, under its own name."""
        self._client.log_artifact(self._own.run_id, str(path), artifact_path="pictures")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tag the run with its summary and end it."""
        for name, value in summary.items():
            self._client.set_tag(self._own.run_id, name, str(value))
        self._client.set_terminated(self._own.run_id)

    @property
    def _own(self) -> LoggedRun:
        assert self._record is not None
        return self._record
