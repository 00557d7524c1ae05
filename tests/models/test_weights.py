"""Weights of any kind by content, and their transfer to other models, accounted for by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph, load_graph
from models.spec import parse_spec
from models.transfer import transfer_weights
from models.weights import build_model, load_model, load_weights
from utils.errors import ModelError


def checkpoint_of(graph: Graph) -> Checkpoint:
    return Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"ema": graph.state_dict()}, {})


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


def test_a_checkpoint_is_known_by_its_content_and_not_its_name(tiny_model: Path, tmp_path: Path) -> None:
    graph = load_graph(tiny_model)
    save_checkpoint(tmp_path / "a.safetensors", checkpoint_of(graph))
    renamed = (tmp_path / "a.safetensors").rename(tmp_path / "a.weights")
    assert set(load_weights(renamed).weights) == set(graph.state_dict())


def test_a_header_whose_length_looks_like_a_pickle(tiny_model: Path, tmp_path: Path) -> None:
    """The file begins with the length of its header, of which one in 32 ends in the first byte of a pickle."""
    path, graph = tmp_path / "a.safetensors", load_graph(tiny_model)
    for padding in range(0, 256, 8):
        saved = checkpoint_of(graph)
        saved.progress = {"padding": " " * padding}
        save_checkpoint(path, saved)
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert set(load_weights(path).weights) == set(graph.state_dict())


def test_a_folder_and_an_export_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        load_weights(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(ModelError, match=r"x\.onnx: is an exported file"):
        load_weights(tmp_path / "x.onnx")


def test_transfer_to_another_class_count(tiny_model: Path) -> None:
    source, target = load_graph(tiny_model), load_graph(tiny_model, {"detect": 5})
    transfer = transfer_weights(target, checkpoint_of(source))
    changed = {f"model.5.m.{level}.{kind}" for level in (0, 1) for kind in ("weight", "bias")}
    assert {name for name, _, _ in transfer.other_shape} == changed
    assert dict((name, (theirs, ours)) for name, theirs, ours in transfer.other_shape)["model.5.m.0.bias"] == (
        (16,),
        (20,),
    )
    assert transfer.derived == ["model.5.anchors"] and transfer.fresh == transfer.unused == []
    assert set(transfer.copied) == set(target.state_dict()) - changed - {"model.5.anchors"}
    assert all(torch.equal(target.state_dict()[name], source.state_dict()[name]) for name in transfer.copied)
    assert "model.5.m.0.bias (16 -> 20)" in transfer.summary()
    assert all(name in str(transfer) for name in source.state_dict())


def test_a_head_keeps_its_weights_when_its_row_moves(tiny_model: Path) -> None:
    both = load_graph(tiny_model)
    values = dict(both.spec.values)
    values["head"] = [row for row in values["head"] if row[2] == "Detect"]
    alone = Graph(parse_spec(values, "alone.yaml"))
    onward = transfer_weights(both, checkpoint_of(alone))
    assert "model.5.m.0.weight" in onward.copied
    assert {name.split(".")[1] for name in onward.fresh} == {"4"} and onward.unused == []
    assert torch.equal(both.heads["detect"].m[0].weight, alone.heads["detect"].m[0].weight)
    back = transfer_weights(alone, checkpoint_of(load_graph(tiny_model)))
    assert {name.split(".")[1] for name in back.unused} == {"4"} and back.fresh == []
    assert "not used: model.4.* (" in back.summary()


def test_a_head_of_another_class_shares_nothing(tiny_model: Path) -> None:
    source = load_graph(tiny_model)
    values = dict(source.spec.values)
    values["head"] = [[[2, 3], 1, "SegMaskLab", ["n_segcls", 1, 64, False]], values["head"][1]]
    target = Graph(parse_spec(values, "lab.yaml"))
    transfer = transfer_weights(target, checkpoint_of(source))
    assert {name.split(".")[1] for name in transfer.fresh} == {"4"}
    assert {name.split(".")[1] for name in transfer.unused} == {"4"}


def test_transfer_passes_over_names_that_no_row_has(tiny_model: Path) -> None:
    saved = checkpoint_of(load_graph(tiny_model))
    strange = ["x", "model.x", "model.99.weight", "other.0.weight"]
    saved.tensors["ema"] = {**saved.tensors["ema"], **{name: torch.zeros(1) for name in strange}}
    transfer = transfer_weights(load_graph(tiny_model), saved)
    assert sorted(transfer.unused) == sorted(strange)


def test_weights_of_another_graph_are_refused(tiny_model: Path) -> None:
    saved = checkpoint_of(load_graph(tiny_model))
    saved.tensors["ema"].pop("model.0.conv.weight")
    with pytest.raises(ModelError, match=r"model\.0\.conv\.weight"):
        build_model(saved)
