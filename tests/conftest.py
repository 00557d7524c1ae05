"""Shared fixtures: where optional real data lies, and quiet deterministic threads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Keep every worker process to one thread, so that parallel test runs do not fight over the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def shared() -> Path:
    """The folder of real data and published numbers beside the checkout; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real data, which is not part of the project")
    return SHARED
