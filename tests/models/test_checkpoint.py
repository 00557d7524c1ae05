"""Checkpoints: what goes in comes out, and what is no checkpoint is named as such."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import Checkpoint, build_model, load_checkpoint, load_model, save_checkpoint, transfer_weights
from models.graph import Graph, load_graph
from utils.errors import ModelError, RunError


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


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "html", "pickle", "foreign", "wrong_rows", "shape"])
def test_what_is_no_checkpoint_gets_one_sentence(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / ("model.pt" if kind == "pickle" else "model.safetensors")
    graph = load_graph(tiny_model)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        save_checkpoint(path, checkpoint_of(graph))
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "html":
        path.write_text("<html><body>404 not found</body></html>")
    elif kind == "pickle":
        torch.save({"model": torch.zeros(1)}, path)
    elif kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif kind == "wrong_rows":
        saved = checkpoint_of(graph)
        saved.tensors = {"ema": {"model.0.other": torch.zeros(1)}}
        save_checkpoint(path, saved)
    elif kind == "shape":
        saved = checkpoint_of(graph)
        saved.graph_yaml = saved.graph_yaml.replace("nc: 3", "nc: 9")
        save_checkpoint(path, saved)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_transfer_names_what_did_not_fit(tiny_model: Path) -> None:
    source, target = load_graph(tiny_model), load_graph(tiny_model, {"detect": 5})
    copied, fresh = transfer_weights(target, source.state_dict())
    assert {name.rsplit(".", 1)[0] for name in fresh if "anchors" not in name} == {"model.5.m.0", "model.5.m.1"}
    assert torch.equal(target.state_dict()["model.0.conv.weight"], source.state_dict()["model.0.conv.weight"])
    assert "model.0.conv.weight" in copied


def test_weights_of_another_graph_are_refused(tiny_model: Path) -> None:
    saved = checkpoint_of(load_graph(tiny_model))
    saved.tensors["ema"].pop("model.0.conv.weight")
    with pytest.raises(ModelError, match=r"model\.0\.conv\.weight"):
        build_model(saved)
