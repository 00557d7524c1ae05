"""Calling train.py in a test, and what its runs leave: results, states to compare, a signal in the middle."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import train
from models.checkpoint import load_checkpoint
from utils.errors import run_command

SMALL = ["--img-size", "96", "--batch-size", "4", "--workers", "0", "--noplots", "--dtype", "float32"]


@dataclass
class Done:
    """What a command left: exit code and output."""

    returncode: int
    stdout: str
    stderr: str


def run_train(*arguments: str, cwd: Path, check: bool = True) -> Done:
    """Call the command in a folder of its own; one process start costs more than all the work of these tests."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command(lambda: train.main(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    assert not check or code == 0, err.getvalue()[-2000:]
    return Done(code, out.getvalue(), err.getvalue())


def results_of(run: Path) -> list[dict[str, str]]:
    """Return the rows of ``results.csv`` as they are written."""
    with open(run / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(run: Path) -> list[dict[str, float]]:
    """Return the rows of ``results.csv`` as numbers, without what is empty."""
    return [{key: float(value) for key, value in row.items() if value} for row in results_of(run)]


def losses_of(run: Path) -> list[dict[str, str]]:
    """Return losses and metrics of every epoch, to compare two runs."""
    return [{k: v for k, v in row.items() if k.startswith(("train/", "val/"))} for row in results_of(run)]


def same_state(one: Path, two: Path) -> None:
    """Hold everything that two runs keep of their models against each other, byte for byte."""
    first, second = (load_checkpoint(run / "weights/last.safetensors").tensors for run in (one, two))
    for group in ("model", "ema", "optimizer", "criterion", "rng"):
        assert first.get(group, {}).keys() == second.get(group, {}).keys()
        for name, tensor in first.get(group, {}).items():
            assert torch.equal(tensor, second[group][name]), f"{group}/{name}"


def stop_at_draw(patch: pytest.MonkeyPatch, number: int) -> None:
    """Send SIGTERM when a run draws the batches of its step of that number."""
    draw, count = train.Parts.draw, [0]

    def draw_and_signal(self: train.Parts, first: int, rounds: int) -> dict:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, first, rounds)

    patch.setattr(train.Parts, "draw", draw_and_signal)
