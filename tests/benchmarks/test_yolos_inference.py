"""The benchmark against transformers: what it reads and compares; both give the same where that is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.yolos_inference as benchmark
from benchmarks.yolos_peers import Case
from utils.errors import RunError, UsageError

SMALL = Case("yolos-nano", 32, 48)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.yolos_inference", *words])
    benchmark.main()


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RunError, match=r"pip install transformers$"):
        run(monkeypatch, "--device", "cpu")


@pytest.mark.parametrize("text", ["yolos-ti", "512x672", "yolos-ti:512", "yolos-ti:500x672", "yolos-ti:96x64", "a:0x0"])
def test_cases_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--cases {text}"):
        benchmark.parse_case(text)


def test_a_case_is_a_model_and_its_input() -> None:
    assert benchmark.parse_case("folder:a/yolos-s.yaml:64x96") == ("folder:a/yolos-s.yaml", 64, 96)


def test_every_second_picture_stands_upright_where_shapes_differ() -> None:
    alike, mixed = (benchmark.pictures(SMALL, 3, turned) for turned in (False, True))
    assert [image.shape for image in alike] == [(30, 45, 3)] * 3
    assert [image.shape for image in mixed] == [(30, 45, 3), (45, 30, 3), (30, 45, 3)]
    assert np.array_equal(mixed[1], alike[1].transpose(1, 0, 2))
    assert list(benchmark.groups(mixed)) == [[0, 2], [1]]


def test_distance_of_boxes_does_not_depend_on_their_order() -> None:
    boxes = torch.rand(9, 4) + 1
    moved = boxes.flip(0).clone()
    assert benchmark.apart([boxes], [moved]) == 0
    moved[4, 2] += 0.5
    assert benchmark.apart([boxes], [moved]) > 0.01
    with pytest.raises(RunError, match=r"\(9, 4\) and the other \(8, 4\)"):
        benchmark.apart([boxes], [boxes[:8]])


def test_answers_that_differ_are_not_timed() -> None:
    what = benchmark.What("network", "yolos-nano", "32x48", 1, "float32", "sdpa")
    ways = (lambda: [torch.ones(1, 2, 3)], lambda: [torch.full((1, 2, 3), 1.01)])
    with pytest.raises(RunError, match=r"differ by 0\.0099 of the largest value"):
        benchmark.measure(what, ways, 1, torch.device("cpu"))


def test_both_answer_alike(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "figures.json"
    size = ["--cases", "yolos-nano:32x48", "--batch-size", "1", "2", "--rounds", "1"]
    run(monkeypatch, *size, "--device", "cpu", "--dtype", "float32", "--json", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert [(row["what"]["kind"], row["what"]["batch"]) for row in rows] == [
        ("network", 1),
        ("network", 2),
        ("whole", 1),
        ("whole", 2),
        ("shapes", 2),
    ]
    assert all(row["apart"] < 1e-3 for row in rows[:-1])
    assert capsys.readouterr().out.count("times as fast") == len(rows)
