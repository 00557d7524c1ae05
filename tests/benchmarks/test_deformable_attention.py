"""The benchmark of deformable attention: what it reads and compares; both give the same where transformers is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import benchmarks.deformable_attention as benchmark
from benchmarks.deformable_peers import level_shapes, made_up_inputs
from utils.errors import RunError, UsageError


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.deformable_attention", *words])
    benchmark.main()


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.models.deformable_detr", None)
    with pytest.raises(RunError, match=r"pip install transformers$"):
        run(monkeypatch, "--device", "cpu")


@pytest.mark.parametrize(
    "words", [("--size", "800"), ("--size", "63x800"), ("--size", "axb"), ("--rounds", "0"), ("--threads", "-1")]
)
def test_numbers_that_cannot_be_used_are_refused(words: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=words[0]):
        run(monkeypatch, *words)


def test_inputs_are_those_of_a_picture() -> None:
    shapes = level_shapes(800, 1066)
    assert shapes == ((100, 134), (50, 67), (25, 34), (13, 17))
    encoder, decoder = (made_up_inputs(((4, 5), (2, 3)), name, torch.device("cpu")) for name in ("encoder", "decoder"))
    assert encoder.references.shape == (1, 26, 2, 2)
    assert decoder.references.shape == (1, 300, 2, 4)
    assert torch.equal(encoder.query, encoder.source)


def test_answers_that_differ_are_not_timed() -> None:
    ways = {"bag": lambda: [torch.full((1, 2), 1.01)], "transformers": lambda: [torch.ones(1, 2)]}
    with pytest.raises(RunError, match=r"bag and transformers differ by 0\.01 of their norm"):
        list(benchmark.measure(("sum", "encoder", "forward"), ways, 1, torch.device("cpu")))
    with pytest.raises(RunError, match="differ in shape"):
        benchmark.apart([torch.ones(1, 2)], [torch.ones(1, 3)])


def test_what_is_no_number_is_not_timed() -> None:
    ways = {"bag": lambda: [torch.tensor([torch.nan])], "transformers": lambda: [torch.ones(1)]}
    with pytest.raises(RunError, match="differ by nan"):
        list(benchmark.measure(("sum", "encoder", "forward"), ways, 1, torch.device("cpu")))


def test_both_answer_alike(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "figures.json"
    words = ["--size", "64x96", "--rounds", "1", "--device", "cpu", "--kinds", "sum", "attention", "layer"]
    run(monkeypatch, *words, "--json", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert {(row["kind"], row["queries"]) for row in rows} == {
        *((kind, queries) for kind in ("sum", "attention") for queries in ("encoder", "decoder")),
        ("layer", "encoder"),
    }
    assert {row["way"] for row in rows if row["kind"] == "sum"} == {"bag", "grid", "gather", "transformers"}
    assert all(row["processor_ms"] > 0 for row in rows)
    assert capsys.readouterr().out.count("\n| sum") == 16
