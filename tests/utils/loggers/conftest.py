"""A run folder with a picture, and its options and recipe."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest


class Started(NamedTuple):
    """What loggers are started with."""

    folder: Path
    options: Namespace
    hyp: dict


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """The arguments of ``start`` for a new run, in an environment that says nothing of loggers."""
    for name in (
        "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_TIMEOUT",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ERROR_REPORTING", "WANDB_SILENT",
    ):  # fmt: skip
        # Set first, so that what a logger sets itself is undone after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    folder = tmp_path / "runs" / "exp"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "results.png"), np.full((20, 30, 3), 90, np.uint8))
    return Started(folder, Namespace(cfg="m|odel.yaml", img_size=[640], resume=None), {"lr0": 0.01, "gains": {}})
