"""The benchmark of the assignment: it runs, and its loop answers as the batch does."""

from __future__ import annotations

import sys

import pytest
import torch

import benchmarks.assignment as benchmark
from models.assigners.simota import SIMOTA_RULES
from utils.errors import RunError, UsageError

ARGUMENTS = "benchmarks.assignment --batch-size 3 --objects 5 --classes 4 --img-size 128 --rounds 2"
SMALL = ARGUMENTS.split()


def test_it_prints_times_of_both(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [*SMALL, "--device", "cpu"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert printed.startswith("python -m benchmarks.assignment --batch-size 3") and "336 points, 4 classes" in printed
    for rule in SIMOTA_RULES:
        assert f"{rule}, whole batch:" in printed and f"{rule}, image by image:" in printed
    assert printed.count("times as fast as the loop") == 2


@pytest.mark.parametrize("rule", sorted(SIMOTA_RULES))
def test_the_loop_answers_as_the_batch_does(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    predictions, labels, points = benchmark.made_up(benchmark.parse_options(), torch.device("cpu"))
    batch = benchmark.whole_batch(predictions, labels, points, SIMOTA_RULES[rule])
    loop = benchmark.image_by_image(predictions, labels, points, SIMOTA_RULES[rule])
    assert torch.equal(batch, loop) and int((batch >= 0).sum()) > 20


def test_a_wrong_answer_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*SMALL, "--device", "cpu"])
    right = benchmark.image_by_image
    monkeypatch.setattr(benchmark, "image_by_image", lambda *given: right(*given).roll(1, 1))
    with pytest.raises(RunError, match="disagree"):
        benchmark.main()


def test_counts_below_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.assignment", "--objects", "0"])
    with pytest.raises(UsageError, match="--objects must be 1 or more"):
        benchmark.parse_options()
