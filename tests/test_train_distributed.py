"""train.py under torchrun: the weights of one process, one voice, and a run that outlives its processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_checkpoint
from tests.conftest import REPO, write_tiny_set

# Two heads on rows of their own, without dropout, whose draws belong to a process.
TWO_HEADS = """
nc: 3
depth_multiple: 0.33
width_multiple: 0.125
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]  # 2: 1/8
  - [-1, 1, Conv, [128, 3, 2]]  # 3: 1/16
head:
  - [[2], 1, Detect, [nc, [[8, 8, 16, 16]]], near]
  - [[3], 1, Detect, [nc, [[24, 24, 40, 40]]], far]
"""
RECIPE = "{nominal_batch: 8, lr0: 0.01, warmup_epochs: 0, %s}"
OPTIONS = "--cfg model.yaml --hyp hyp.yaml --img-size 96 --workers 0 --noplots --dtype float32 --noautoanchor"
PATIENCE = 150.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, a recipe and data for runs of a few steps."""
    write_tiny_set(tmp_path / "tiny")
    (tmp_path / "model.yaml").write_text(TWO_HEADS)
    (tmp_path / "hyp.yaml").write_text(RECIPE % "bn: shared")
    return tmp_path


def command(arguments: str, processes: int, torchrun: str = "--standalone") -> list[str]:
    """Return the command line of a run in so many processes."""
    data = "" if "--resume" in arguments else f"--data tiny/tiny.yaml {OPTIONS} "
    start = ["-m", "torch.distributed.run", *torchrun.split(), "--nproc_per_node", str(processes)]
    return [sys.executable, *(start if processes > 1 else []), str(REPO / "train.py"), *(data + arguments).split()]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}


def start(folder: Path, arguments: str, processes: int, torchrun: str = "--standalone") -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(arguments, processes, torchrun),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, arguments: str, processes: int, torchrun: str = "--standalone") -> tuple[int, str]:
    """Run to the end; return exit code and all output."""
    process = start(folder, arguments, processes, torchrun)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    groups = load_checkpoint(folder / "runs/train" / name / "weights/last.safetensors").tensors
    return {f"{g}/{n}": value for g in ("model", "ema", "optimizer") for n, value in groups[g].items()}


def results(folder: Path, name: str) -> list[dict[str, str]]:
    path = folder / "runs/train" / name / "results.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, f"the run ended too early: {process.stdout.read()[-3000:]}"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def assert_same_run(folder: Path, name: str, other: str) -> None:
    one, two = tensors(folder, name), tensors(folder, other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    first, second = results(folder, name), results(folder, other)
    for row in (*first, *second):
        row.pop("train_seconds")
    assert first == second


@pytest.mark.parametrize(
    ("bn", "arguments"),
    [
        # 12 images in batches of 11 leave one image in the last batch, and one process without any.
        ("bn: frozen", "--batch-size 11"),
        ("bn: shared", "--batch-size 8 --sync-bn"),
        ("bn: shared", "--batch-size 11 --sync-bn"),
    ],
    ids=["without BatchNorm", "synchronised BatchNorm", "synchronised BatchNorm and a process without images"],
)
def test_two_processes_give_the_weights_of_one(bn: str, arguments: str, folder: Path) -> None:
    (folder / "hyp.yaml").write_text(RECIPE % bn)
    for processes, name in ((1, "one"), (2, "two")):
        code, output = run(folder, f"{arguments} --epochs 2 --name {name}", processes)
        assert code == 0, output[-3000:]
    one, two = tensors(folder, "one"), tensors(folder, "two")
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4 * float(value.abs().max() + 1e-3), msg=key)
    for row, other in zip(results(folder, "one"), results(folder, "two"), strict=True):
        for column in set(row) - {"train_seconds"}:
            assert float(row[column]) == pytest.approx(float(other[column]), rel=1e-3, abs=1e-3), column
    assert sorted(path.name for path in (folder / "runs/train").iterdir()) == ["one", "two"], "one folder per run"


def test_a_process_killed_by_the_system_changes_nothing(folder: Path) -> None:
    arguments = "--batch-size 4 --epochs 6"
    code, output = run(folder, f"{arguments} --name whole", 2)
    assert code == 0, output[-3000:]
    process = start(folder, f"{arguments} --name killed", 2, "--standalone --max-restarts 2")
    wait_for(lambda: len(results(folder, "killed")) >= 2, process)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output[-3000:]
    assert "resuming" in output and output.count("error: another process of this run ended") == 1
    assert_same_run(folder, "killed", "whole")
    assert sorted(path.name for path in (folder / "runs/train").iterdir()) == ["killed", "whole"]


def test_a_signal_to_torchrun_saves_and_the_run_goes_on_to_the_bit(folder: Path) -> None:
    arguments = "--batch-size 4 --epochs 6"
    code, output = run(folder, f"{arguments} --name whole", 2)
    assert code == 0, output[-3000:]
    process = start(folder, f"{arguments} --name stopped", 2)
    wait_for(lambda: len(results(folder, "stopped")) >= 2, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert output.count("error: stopped in epoch") == 1, output[-3000:]
    assert len(results(folder, "stopped")) < 6
    code, output = run(folder, "--resume runs/train/stopped", 2)
    assert code == 0, output[-3000:]
    assert_same_run(folder, "stopped", "whole")


def test_a_mistake_is_told_once(folder: Path) -> None:
    code, output = run(folder, "--epochs 0", 2)
    assert code != 0 and output.count("--epochs must be 1 or more") == 1, output
    (folder / "tiny/labels/train/003.txt").write_text("0 0.5 0.5 x 0.1\n")
    code, output = run(folder, "--epochs 1 --batch-size 4", 2)
    spoken = [line for line in output.splitlines() if line.startswith("error:")]
    assert code != 0 and len(spoken) == 1 and "003.txt" in spoken[0], output
    assert "exitcode  : 3" in output, "torchrun's summary has the code of the kind"
    assert "[rank" not in output, "no process shows a traceback"
