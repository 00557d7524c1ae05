"""The benchmark of the evaluator: it runs, its data are what it says, and wrong numbers stop it."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import benchmarks.evaluator as benchmark
from utils.errors import RunError, UsageError

SMALL = [
    "benchmarks.evaluator",
    "--images",
    "40",
    "--boxes",
    "300",
    "--detections",
    "2500",
    "--classes",
    "6",
    "--rounds",
    "1",
]


def test_it_prints_times_and_the_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    benchmark.main()
    printed = capsys.readouterr().out
    assert "40 images, 300 labels, 2500 predictions" in printed and "whole evaluator:" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("pycocotools:")]
    assert "times as fast" in line and float(line.split()[-1]) <= 1e-6


def test_the_data_hold_what_the_protocol_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    options = benchmark.parse_options()
    labels, predictions = benchmark.made_up(options)
    summary = benchmark.coco_summary(labels, predictions, options.classes)
    assert 0.05 < summary.ap < 0.9 and labels.crowd.any()
    assert len(np.unique(predictions.scores)) < len(predictions.scores), "some confidences are equal"
    assert np.bincount(predictions.images).max() <= benchmark.MOST_PER_IMAGE
    metrics, _, confusion = benchmark.whole_evaluator(labels, predictions, options)()
    assert metrics["AP"] == pytest.approx(summary.ap, abs=1e-9) and confusion.sum() > 300


def test_wrong_numbers_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", SMALL)
    right = benchmark.coco_summary
    monkeypatch.setattr(benchmark, "coco_summary", lambda *given: replace(right(*given), ap=right(*given).ap + 2e-6))
    with pytest.raises(RunError, match="ours and pycocotools are"):
        benchmark.main()


@pytest.mark.parametrize(
    ("words", "told"),
    [("--images 0", "--images must be 1 or more"), ("--images 3 --detections 301", "3 images have 300 predictions")],
)
def test_impossible_numbers_are_refused(words: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.evaluator", *words.split()])
    with pytest.raises(UsageError, match=told):
        benchmark.parse_options()
