"""The benchmark of the assignment: it runs, and its loop answers as the batch does."""

from __future__ import annotations

import sys

import pytest
import torch

import benchmarks.assignment as benchmark
from models.assigners.simota import SIMOTA_RULES
from models.assigners.task_aligned import TASK_ALIGNED_RULES
from utils.errors import RunError, UsageError

ARGUMENTS = "benchmarks.assignment --batch-size 3 --objects 5 --classes 4 --img-size 128 --rounds 2"
SMALL = ARGUMENTS.split()


def test_it_prints_times_of_both(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [*SMALL, "--device", "cpu"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert printed.startswith("python -m benchmarks.assignment --batch-size 3") and "336 points, 4 classes" in printed
    others = [
        "dynamic soft label",
        "task aligned of yolov8",
        "task aligned of yolov6",
        "ATSS",
        "Hungarian of 100 queries",
    ]
    for rule in [*SIMOTA_RULES, *others]:
        assert f"{rule}, whole batch:" in printed and f"{rule}, image by image:" in printed
    assert printed.count("times as fast as the loop") == 7


@pytest.mark.parametrize("rule", sorted(SIMOTA_RULES))
def test_the_loop_answers_as_the_batch_does(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    predictions, labels, points = benchmark.made_up(benchmark.parse_options(), torch.device("cpu"))
    batch = benchmark.whole_batch(predictions, labels, points, SIMOTA_RULES[rule])
    loop = benchmark.image_by_image(predictions, labels, points, SIMOTA_RULES[rule])
    assert torch.equal(batch, loop) and int((batch >= 0).sum()) > 20


def test_so_does_the_loop_of_dynamic_soft_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    ways = benchmark.dynamic_soft_label_ways(*benchmark.made_up(benchmark.parse_options(), torch.device("cpu")))
    batch, loop = (way() for way in ways.values())
    assert torch.equal(batch, loop) and int((batch >= 0).sum()) > 20


def test_so_do_the_loops_of_scored_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    given = benchmark.made_up(benchmark.parse_options(), torch.device("cpu"))
    every = [benchmark.task_aligned_ways(*given, rule) for rule in TASK_ALIGNED_RULES.values()]
    for ways in [*every, benchmark.atss_ways(*given)]:
        batch, loop = (way() for way in ways.values())
        assert torch.equal(batch, loop) and int((batch >= 0).sum()) > 20


@pytest.mark.parametrize("queries", [3, 20])
def test_so_does_the_loop_of_hungarian_matching(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*SMALL, "--queries", str(queries)])
    options = benchmark.parse_options()
    _, labels, _ = benchmark.made_up(options, torch.device("cpu"))
    batch, loop = (way() for way in benchmark.hungarian_ways(labels, options).values())
    assert torch.equal(batch, loop) and int((batch >= 0).sum()) == 3 * min(queries, 5)


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
