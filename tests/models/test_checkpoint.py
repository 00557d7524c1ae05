"""Checkpoints: what goes in comes out, and what is no checkpoint is named as such."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.checkpoint_info import main
from models.graph import Graph, load_graph
from models.weights import load_model
from utils.errors import ModelError, RunError

ROOT = Path(__file__).resolve().parents[2]


def checkpoint_of(graph: Graph) -> Checkpoint:
    return Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"ema": graph.state_dict()}, {"epoch": 3})


def test_round_trip(tiny_model: Path, tmp_path: Path) -> None:
    graph = load_graph(tiny_model, {"detect": 2}).eval()
    graph.names["detect"] = ["car", "person"]
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint_of(graph))
    loaded = load_model(path)
    assert load_checkpoint(path).progress == {"epoch": 3}
    assert loaded.names == graph.names
    assert loaded.spec.rows == graph.spec.rows
    assert not loaded.training
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    for ours, theirs in zip(graph(images)["detect"], loaded(images)["detect"], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_failed_save_keeps_the_old_file(tiny_model: Path, tmp_path: Path) -> None:
    graph = load_graph(tiny_model)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint_of(graph))
    before = path.read_bytes()
    with torch.no_grad():
        next(graph.parameters())[0] = float("nan")
    with pytest.raises(RunError, match=r"model\.0\.conv\.weight is not finite"):
        save_checkpoint(path, checkpoint_of(graph))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".yaml"] == ["model.safetensors"]


@pytest.mark.parametrize("key", ["source", "graph", "names", "progress"])
def test_a_damaged_header_is_named(key: str, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint_of(load_graph(tiny_model)))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["yolograph"])
    header[key] = 5
    save_file({"model/x": torch.zeros(1)}, path, metadata={"yolograph": json.dumps(header)})
    with pytest.raises(ModelError, match=rf"model\.safetensors: the entry '{key}' of its header"):
        load_checkpoint(path)


def test_a_file_without_weights_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved = checkpoint_of(load_graph(tiny_model))
    saved.tensors = {"rng": {"torch": torch.zeros(1)}}
    save_checkpoint(path, saved)
    with pytest.raises(ModelError, match="holds no weights"):
        load_checkpoint(path)


def test_info_tells_text_and_json(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = load_graph(tiny_model)
    graph.names["detect"] = ["car", "person", "dog"]
    path = tmp_path / "model.safetensors"
    saved = checkpoint_of(graph)
    saved.progress = {"progress": {"epochs_done": 7, "best_fitness": 0.25}, "hyp": {}}
    save_checkpoint(path, saved)
    main(["info", str(path)])
    text = capsys.readouterr().out
    count = sum(p.numel() for p in graph.parameters())
    assert f"{count:,} parameters" in text and "detect (Detect, row 5): 3 classes: car, person, dog" in text
    assert "epochs_done 7, best_fitness 0.25" in text and "resumable no" in text
    main(["info", str(path), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == count and facts["heads"]["segment"]["task"] == "segment"
    assert facts["tensors"]["ema"]["count"] == len(graph.state_dict())


def test_info_ends_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.checkpoint", "info", str(tmp_path / "none.safetensors")]
    failed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert failed.returncode == 4 and failed.stderr.count("\n") == 1 and "none.safetensors" in failed.stderr
