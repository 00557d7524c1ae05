"""MLflow is told every epoch once, and stays on this machine."""

from __future__ import annotations

import os
import sys

import pytest

from tests.utils.loggers.conftest import Started
from tests.utils.loggers.fake_packages import FakeMlflow
from utils.loggers.mlflow import MlflowLogger


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    package = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return package


def test_a_run_and_its_continuation_are_one_run_without_double_points(fake: FakeMlflow, started: Started) -> None:
    first = MlflowLogger()
    first.start(*started)
    for step in (1, 2, 3):
        first.log({"val/fitness": step / 10, "lr": 0.01}, step)
    second = MlflowLogger()
    second.start(*started, epochs_kept=1)
    for step in (2, 3, 4):
        second.log({"val/fitness": step / 10, "lr": 0.01}, step)
    second.picture("results", started.folder / "results.png")
    second.finish({"best_fitness": 0.4})
    (run,) = fake.runs.values()
    assert [(value, step) for key, value, step in run["metrics"] if key == "val/fitness"] == [
        (0.1, 1), (0.2, 2), (0.3, 3), (0.4, 4),
    ]  # fmt: skip
    assert run["params"]["option.cfg"] == "m|odel.yaml" and run["params"]["recipe.lr0"] == "0.01"
    assert run["files"] == [(str(started.folder / "results.png"), "pictures")]
    assert run["tags"] == {"best_fitness": "0.4"} and run["status"] == "FINISHED" and run["name"] == "exp"


def test_a_new_run_in_an_old_folder_is_another_run(fake: FakeMlflow, started: Started) -> None:
    for _ in range(2):
        logger = MlflowLogger()
        logger.start(*started)
        logger.log({"val/fitness": 0.1}, 1)
    assert [len(run["metrics"]) for run in fake.runs.values()] == [1, 1]
    assert len(fake.experiments) == 1


def test_it_stays_local_unless_the_environment_names_a_server(
    fake: FakeMlflow, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    MlflowLogger().start(*started)
    project = started.folder.parent
    assert fake.addresses == [f"sqlite:///{project / 'mlflow.db'}"]
    assert fake.experiments["yolograph"].artifacts == (project / "mlflow_artifacts").as_uri()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    MlflowLogger().start(*started)
    assert fake.addresses[1] == "http://localhost:5000" and fake.experiments["mine"].artifacts is None
