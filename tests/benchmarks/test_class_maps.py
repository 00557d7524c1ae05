"""The benchmark of class maps: it runs, measures memory, and stops where the ways disagree."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

import benchmarks.class_maps as benchmark
from data.samples import Placement
from tests.tiny_detector import AREAS_ALONE, make_picture, write_weights
from utils.errors import RunError, UsageError

SMALL = [
    *("benchmarks.class_maps", "--batch-size", "2", "--classes", "5", "--rounds", "1"),
    *("--input", "64", "128", "--native", "100", "200"),
]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [*SMALL, *words])
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *given, **options: SimpleNamespace(stdout="12.5\n"))
    benchmark.main()


@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_it_prints_times_and_memory(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--logits", kind)
    printed = capsys.readouterr().out
    assert "plain:" in printed and "planes:" in printed and "ours:" in printed and "pixels differ" in printed


def test_it_takes_the_logits_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, picture = write_weights(tmp_path / "best.safetensors", AREAS_ALONE), tmp_path / "a.png"
    cv2.imwrite(str(picture), make_picture())
    run(monkeypatch, "--weights", str(weights), "--source", str(picture))
    assert "ours:" in capsys.readouterr().out


def test_different_maps_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = benchmark.ours
    monkeypatch.setattr(benchmark, "ours", lambda given: [(one + 1) % 5 for one in right(given)])
    with pytest.raises(RunError, match="40000 pixels have another class"):
        run(monkeypatch)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the memory of a process")
def test_ours_takes_a_fraction_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.mask_results.MOST_BY_TILES", 1.0)
    given = benchmark.Given(torch.randn(1, 19, 32, 64), (256, 512), [Placement(600, 1200, 512 / 1200, 256 / 600)])
    taken = {}
    for way in benchmark.WAYS:
        # Memory that the process has to spare would be used first.
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        taken[way] = benchmark.memory_of(way, torch.device("cpu"), given)
    everything = 19 * 600 * 1200 * 4 / 2**20
    assert taken["plain"] > 0.8 * everything and max(taken["planes"], taken["ours"]) < taken["plain"] / 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--classes 0", "1 or more"),
        ("--input 60 128", "multiples of 8"),
        ("--weights a.safetensors", "belong together"),
    ],
)
def test_impossible_numbers_are_refused(words: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.class_maps", *words.split()])
    with pytest.raises(UsageError, match=told):
        benchmark.parse_options()
