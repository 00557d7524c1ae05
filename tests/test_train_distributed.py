"""train.py under torchrun: the weights of one process, one voice, and a run that outlives its processes."""

from __future__ import annotations

import contextlib
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

import train
from models.checkpoint import load_checkpoint
from tests.conftest import REPO, write_tiny_set
from tests.processes import commands

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
SIX_EPOCHS = "--batch-size 4 --epochs 6"
PATIENCE = 150.0


def prepare(folder: Path) -> Path:
    write_tiny_set(folder / "tiny")
    (folder / "model.yaml").write_text(TWO_HEADS)
    (folder / "hyp.yaml").write_text(RECIPE % "bn: shared")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, a recipe and data for runs of a few steps."""
    return prepare(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes, named ``whole``, to which nothing happened."""
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    run(folder, f"{SIX_EPOCHS} --name whole", 2)
    return folder


def train_in(folder: str, arguments: list[str]) -> None:
    os.chdir(folder)
    with open("output.txt", "w") as output, contextlib.redirect_stdout(output):
        train.main(arguments)


def line(arguments: str) -> list[str]:
    """Return a command line in full."""
    return arguments.split() if "--resume" in arguments else f"--data tiny/tiny.yaml {OPTIONS} {arguments}".split()


def run(folder: Path, arguments: str, processes: int) -> None:
    """Train to the end in so many processes."""
    ended = commands(processes, train_in, str(folder), line(arguments))
    assert [entry.exit_code for entry in ended] == [0] * processes, "\n".join(entry.stderr for entry in ended)


def start(folder: Path, arguments: str, torchrun: str = "--standalone") -> subprocess.Popen[str]:
    """Start torchrun itself, with two processes."""
    launcher = ["-m", "torch.distributed.run", *torchrun.split(), "--nproc_per_node", "2"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(REPO / "train.py"), *line(arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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


def assert_same_run(folder: Path, name: str, undisturbed: Path) -> None:
    """Hold a run against the one named ``whole`` in the other folder."""
    one, two = tensors(folder, name), tensors(undisturbed, "whole")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    first, second = results(folder, name), results(undisturbed, "whole")
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
        run(folder, f"{arguments} --epochs 2 --name {name}", processes)
    one, two = tensors(folder, "one"), tensors(folder, "two")
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4 * float(value.abs().max() + 1e-3), msg=key)
    for row, other in zip(results(folder, "one"), results(folder, "two"), strict=True):
        for column in set(row) - {"train_seconds"}:
            assert float(row[column]) == pytest.approx(float(other[column]), rel=1e-3, abs=1e-3), column
    assert sorted(path.name for path in (folder / "runs/train").iterdir()) == ["one", "two"], "one folder per run"


def train_with_a_bad_loss(folder: str, arguments: list[str]) -> dict[str, list[float]]:
    """Train while the first process's loss is not finite in the second step; return what its criteria have learnt."""
    draw, parts, draws = train.Parts.draw, [], [0]

    def draw_spoilt(self: train.Parts, first: int, count: int) -> dict:
        draws[0] += 1
        parts[:] = [self]
        if self.world.rank == 0:
            self.tasks[0].criterion.gains["box"] = float("nan") if draws[0] == 2 else 0.05
        return draw(self, first, count)

    train.Parts.draw = draw_spoilt
    train_in(folder, arguments)
    return {task.name: task.criterion.balance.tolist() for task in parts[0].tasks}


def test_what_one_process_alone_meets_is_the_same_for_all(folder: Path) -> None:
    # Norms that exchange statistics must not run again in one process, nor may its loss's weights be its own.
    (folder / "hyp.yaml").write_text(RECIPE % "autobalance: true, turns: alternate")
    arguments = line("--batch-size 4 --epochs 2 --noval --sync-bn")
    ended = commands(2, train_with_a_bad_loss, str(folder), arguments)
    assert [entry.exit_code for entry in ended] == [0, 0], ended[0].stderr
    assert ended[0].result == ended[1].result
    stored = load_checkpoint(folder / "runs/train/exp/weights/last.safetensors")
    assert stored.progress["progress"]["bad_steps"] == 1
    assert stored.tensors["criterion"]["near/balance"].tolist() == ended[1].result["near"]


def test_a_process_killed_by_the_system_changes_nothing(folder: Path, undisturbed: Path) -> None:
    process = start(folder, f"{SIX_EPOCHS} --name killed", "--standalone --max-restarts 2")
    wait_for(lambda: len(results(folder, "killed")) >= 2, process)
    survivor, victim = children(process.pid)[:2]
    os.kill(victim, signal.SIGKILL)
    # torchrun does so at some moment; at any moment it must not keep the sentence from being said.
    with contextlib.suppress(ProcessLookupError):
        while survivor in children(process.pid):
            os.kill(survivor, signal.SIGTERM)
            time.sleep(0.0001)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output[-3000:]
    assert "resuming" in output and output.count("error: another process of this run ended") == 1
    assert_same_run(folder, "killed", undisturbed)
    assert sorted(path.name for path in (folder / "runs/train").iterdir()) == ["killed"]


def test_a_signal_to_torchrun_saves_and_the_run_goes_on_to_the_bit(folder: Path, undisturbed: Path) -> None:
    process = start(folder, f"{SIX_EPOCHS} --name stopped")
    wait_for(lambda: len(results(folder, "stopped")) >= 2, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert output.count("error: stopped in epoch") == 1, output[-3000:]
    assert "after step 0" not in output, "whichever process speaks knows the step"
    assert len(results(folder, "stopped")) < 6
    run(folder, "--resume runs/train/stopped", 2)
    assert_same_run(folder, "stopped", undisturbed)


def test_a_mistake_is_told_once(folder: Path) -> None:
    (folder / "tiny/labels/train/003.txt").write_text("0 0.5 0.5 x 0.1\n")
    ended = commands(2, train_in, str(folder), line("--epochs 1 --batch-size 4"))
    assert [entry.exit_code for entry in ended] == [3, 3]
    spoken = [text for entry in ended for text in entry.stderr.splitlines() if "error" in text.lower()]
    assert len(spoken) == 1 and "003.txt" in spoken[0]
