"""A broken installation is one sentence and exit code 1, not a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import REPO
from utils.environment import check_environment, torchvision_ops

BROKEN = {
    "other release": 'raise RuntimeError("operator torchvision::nms does not exist")',
    "undefined symbol": 'raise ImportError("_C.so: undefined symbol: _ZN3c10")',
    "left half-way": 'raise AttributeError("partially initialized module torchvision has no attribute extension")',
}


def run_beside(fake: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of ours where ``fake`` is found before the installed packages."""
    env = {**os.environ, "PYTHONPATH": str(fake), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=REPO, env=env, capture_output=True, text=True, check=False
    )


def write_torchvision(folder: Path, text: str) -> None:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(text)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_torchvision_of_another_release_is_one_sentence(tmp_path, text):
    write_torchvision(tmp_path, text)
    done = run_beside(tmp_path, "models.graph", "yolov5n.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: torchvision ")
    assert f"does not fit torch {torch.__version__.split('+')[0]}" in done.stderr
    assert "pip install -r requirements.txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_part_is_named(tmp_path):
    write_torchvision(tmp_path, "import no_such_package_of_anybody")
    done = run_beside(tmp_path, "models.graph", "yolov5n.yaml")
    assert done.returncode == 1
    assert done.stderr == (
        "error: the package no_such_package_of_anybody is not installed; "
        "run `pip install -r requirements.txt` in this environment\n"
    )


def test_commands_without_torch_do_not_ask_for_torchvision(tmp_path):
    write_torchvision(tmp_path, BROKEN["other release"])
    done = run_beside(tmp_path, "data.prepare", "--help")
    assert done.returncode == 0, done.stderr


def test_this_environment_is_sound():
    check_environment()
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6]])
    assert torchvision_ops().nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
