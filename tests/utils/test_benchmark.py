"""utils.benchmark as a user runs it: weights are read, forms differ as they say, numbers are what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.graph import Graph
from tests.tiny_detector import AREAS_ALONE, write_weights
from utils import benchmark, timed_passes
from utils.benchmark import NETWORK, WHOLE, Latency, main, timed
from utils.errors import RunError, UsageError, YolographError, run_command

REPEATED = """
nc: 3
width_multiple: 0.25
backbone:
  - [-1, 1, RepVGG, [32, 2]]
  - [-1, 2, RepVGG, [32]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[1, 2], 1, YOLOv6Head, [nc]]
"""
QUICK = ["--imgsz", "32", "64", "--device", "cpu", "--warmup", "1", "--iterations", "3", "--repeat", "2"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "repeated.yaml"
    path.write_text(REPEATED)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments, *QUICK])
    return capsys.readouterr().out


def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    run(capsys, *arguments, "--json", str(tmp_path / "speed.json"))
    return json.loads((tmp_path / "speed.json").read_text())


def test_protocol_and_numbers_are_printed_and_written(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    lines = run(capsys, "--cfg", str(model), "--batch-size", "2", "--json", str(file)).splitlines()
    found = json.loads(file.read_text())
    shown = found["protocol"]
    assert shown["weights"] == "random, seed 0" and shown["form"] == "as trained" and shown["dtype"] == "float32"
    assert shown["input"].startswith("2x3x32x64 uint8 noise")
    assert "2 times 1 before and 3 timed" in shown["passes"]
    assert all(any(line.startswith(name) for line in lines) for name in shown)
    for name in (NETWORK, WHOLE):
        numbers = found[name.replace(" ", "_")]
        assert 0 < numbers["p5_ms"] <= numbers["median_ms"] <= numbers["p95_ms"]
        assert len(numbers["repeat_medians_ms"]) == 2
        assert numbers["images_per_second"] == pytest.approx(2000 / numbers["median_ms"])
        (line,) = [line for line in lines if line.startswith(f"{name}  ")]
        assert f"{numbers['median_ms']:.2f}" in line and f"{numbers['images_per_second']:.1f}" in line
    assert {path.name for path in tmp_path.iterdir()} == {"repeated.yaml", "speed.json"}


def test_forms_are_those_that_were_asked_for(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[Graph] = []
    measure = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", lambda graph, *rest: graphs.append(graph) or measure(graph, *rest))
    texts = {}
    for form in ((), ("--fuse",), ("--deploy",)):
        texts[form] = measured(tmp_path, capsys, "--cfg", str(model), *form)["protocol"]
    assert texts[("--fuse",)]["form"] == "BatchNorms folded"
    assert texts[("--deploy",)]["form"] == "re-parameterised, BatchNorms folded"
    plain, fused, deployed = ({type(module).__name__ for module in graph.modules()} for graph in graphs)
    assert {"BatchNorm2d", "RepVGG"} <= plain and "RepVGG" in fused and "RepVGG" not in deployed
    assert "BatchNorm2d" not in deployed
    counts = [sum(parameter.numel() for parameter in graph.parameters()) for graph in graphs]
    assert counts == [text["parameters"] for text in texts.values()] and counts[0] > counts[2]


def test_weights_are_read_and_not_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sure = write_weights(tmp_path / "sure.safetensors", bias=6.0)
    unsure = write_weights(tmp_path / "unsure.safetensors", bias=-9.0, spread=0.0)
    kept = {path: measured(tmp_path, capsys, "--weights", str(path))["protocol"] for path in (sure, unsure)}
    assert kept[sure]["objects per image"] > 1 and kept[unsure]["objects per image"] == 0
    assert kept[sure]["weights"] == str(sure)


def test_a_model_of_areas_has_no_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    areas = write_weights(tmp_path / "areas.safetensors", AREAS_ALONE)
    assert "objects per image" not in run(capsys, "--weights", str(areas))


def test_sides_are_rounded_up_and_formats_named(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--cfg", str(model), *QUICK, "--imgsz", "33", "--dtype", "bfloat16"])
    text = capsys.readouterr().out
    assert "1x3x64x64" in text and "bfloat16" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iterations", "0"], "--iterations must be 1 or more, but is 0"),
        (["--warmup", "-1"], "--warmup must be 0 or more"),
        (["--batch-size", "0"], "--batch-size must be 1 or more"),
        (["--conf-thres", "1.5"], "--conf-thres must be 0 to 1"),
        (["--imgsz", "32", "32", "32"], "--imgsz takes one size"),
        (["--imgsz", "0"], "--imgsz must be 1 to"),
        (["--json", "nowhere/speed.json"], "--json nowhere/speed.json: its folder does not exist"),
        (["--json", "."], "--json .: is a folder; name a file"),
        (["--dtype", "float16"], "a CPU does not compute in it"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], words: str, model: Path) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        main(["--cfg", str(model), *QUICK, *arguments])


def test_a_missing_model_ends_with_its_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (["--weights", str(tmp_path / "none.safetensors")], ["--cfg", "yoloms_xxs"]):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda arguments=arguments: main([*arguments, *QUICK]))
        assert ended.value.code == 4 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()])
def test_too_large_a_batch_is_one_sentence_and_writes_nothing(
    error: Exception, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(benchmark, "timed", fail)
    with pytest.raises(RunError, match="take a smaller --batch-size or --imgsz") as caught:
        main(["--cfg", str(model), *QUICK, "--json", str(tmp_path / "speed.json")])
    assert isinstance(caught.value, YolographError) and not (tmp_path / "speed.json").exists()


def test_a_model_too_large_for_the_device_is_one_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(benchmark, "fuse_graph", fail)
    with pytest.raises(RunError, match="does not fit into the memory of cpu; take another --device"):
        main(["--cfg", str(model), *QUICK, "--fuse"])


def test_another_error_is_not_hidden(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(benchmark, "timed", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["--cfg", str(model), *QUICK])


def test_every_timed_pass_begins_and_ends_with_an_empty_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    clock: Iterator[float] = iter(range(100))
    monkeypatch.setattr(timed_passes, "wait_for", lambda _: events.append("wait"))
    monkeypatch.setattr(timed_passes.time, "perf_counter", lambda: events.append("clock") or float(next(clock)))
    seconds = timed(lambda: events.append("work"), torch.device("cpu"), warmup=2, iterations=3)
    assert seconds == [1.0, 1.0, 1.0]
    assert events == ["work"] * 2 + ["wait", "clock", "work", "wait", "clock"] * 3


def test_a_summary_by_hand() -> None:
    found = Latency.of([[0.001, 0.003, 0.002], [0.004, 0.006, 0.005]], batch_size=7)
    assert found.median_ms == pytest.approx(3.5) and found.repeat_medians_ms == pytest.approx([2.0, 5.0])
    assert found.p5_ms == pytest.approx(1.25) and found.p95_ms == pytest.approx(5.75)
    assert found.images_per_second == pytest.approx(2000.0)
