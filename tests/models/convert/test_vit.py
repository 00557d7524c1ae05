"""Vision transformers that classify pictures begin a YOLOS: their tables at any grid, nothing lost without a word."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.convert.vit import table_grid
from models.graph import Graph
from models.transfer import transfer_weights
from models.weights import build_model, graph_for_data, load_weights
from tests.models.convert.published_yolos import deit_file, filled_graph, official_file, small_spec, vit_state
from utils.errors import ModelError, UsageError

TABLE = "model.0.pos_embed"
PREFIXES = {1: "vit.", 2: "deit.", 3: ""}


def source() -> Graph:
    return filled_graph(small_spec("yolos-ti", det_tokens=1, nc=1))


def resized(patches: torch.Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Return patches of a table at another grid, as PyTorch resizes them."""
    as_picture = patches.transpose(1, 2).unflatten(2, grid)
    return torch.nn.functional.interpolate(as_picture, wanted, mode="bicubic").flatten(2).transpose(1, 2)


@pytest.mark.parametrize("cfg", ["yolos-s", "yolos-ti"])
def test_deit_begins_a_yolos(cfg: str, tmp_path: Path) -> None:
    saved = deit_file(source(), 1 + 16)
    torch.save(saved, tmp_path / "deit.pth")
    graph = Graph(small_spec(cfg))
    own = {name: value.clone() for name, value in graph.state_dict().items()}
    account = transfer_weights(graph, load_weights(tmp_path / "deit.pth"))
    table, given = graph.state_dict()[TABLE], saved["model"]["pos_embed"]
    assert torch.equal(table[:, :1], given[:, :1]) and torch.equal(table[:, -5:], own[TABLE][:, -5:])
    torch.testing.assert_close(table[:, 1:-5], resized(given[:, 1:], (4, 4), (4, 6)), atol=1e-5, rtol=1e-5)
    last = "model.2" if cfg == "yolos-s" else "model.1.2"
    assert torch.equal(graph.state_dict()[f"{last}.qkv.weight"], saved["model"]["blocks.2.attn.qkv.weight"])
    assert f"position table 4x4 -> 4x6 patches, its entries of [DET] tokens begin anew: {TABLE}" in account.summary()
    fresh = {name.split(".")[1] for name in account.fresh}
    assert fresh == ({"0", "1", "4"} if cfg == "yolos-s" else {"0", "3"})
    assert account.other_shape == [] and account.unused == []
    assert all(torch.equal(graph.state_dict()[name], own[name]) for name in account.fresh)


def test_the_cls_token_of_a_distilled_model_gets_the_entry_of_distillation(tmp_path: Path) -> None:
    saved = deit_file(source(), 2 + 24 * 24, distilled=True)
    torch.save(saved, tmp_path / "deit.pth")
    checkpoint = load_weights(tmp_path / "deit.pth")
    assert torch.equal(checkpoint.weights[TABLE], saved["model"]["pos_embed"][:, 1:])
    assert torch.equal(checkpoint.weights["model.0.cls_token"], saved["model"]["cls_token"])
    about = checkpoint.progress["converted"]
    assert about["grid"] == "24x24"
    assert about["left out"] == "head.weight, head.bias, dist_token, head_dist.weight"


@pytest.mark.parametrize(
    ("length", "given", "grid", "extra"),
    [
        (197, None, (14, 14), 0),
        (226, None, (15, 15), 0),
        (578, None, (24, 24), 1),
        (785, None, (28, 28), 0),
        (25, (4, 6), (4, 6), 0),
        (26, (4, 6), (4, 6), 1),
        (197, (7, 28), (7, 28), 0),
    ],
)
def test_the_grid_of_a_table(length: int, given: tuple[int, int] | None, grid: tuple[int, int], extra: int) -> None:
    assert table_grid("x", length, given) == (grid, extra)


@pytest.mark.parametrize(("length", "given"), [(25, None), (196, None), (25, (4, 5)), (1, None), (24, (4, 6))])
def test_a_grid_that_is_not_that_of_the_table(length: int, given: tuple[int, int] | None) -> None:
    with pytest.raises(ModelError, match=rf"^x: its position table has {length} entries.*--pretrained-grid ROWS"):
        table_grid("x", length, given)


def test_a_grid_that_is_no_square_is_given(tmp_path: Path) -> None:
    torch.save(deit_file(source(), 1 + 2 * 6), tmp_path / "vit.pth")
    with pytest.raises(ModelError, match="--pretrained-grid"):
        load_weights(tmp_path / "vit.pth")
    graph = Graph(small_spec("yolos-ti"))
    account = transfer_weights(graph, load_weights(tmp_path / "vit.pth", [2, 6]))
    assert "position table 2x6 -> 4x6 patches" in account.summary()
    with pytest.raises(UsageError, match="1 or more each, not 0 5"):
        load_weights(tmp_path / "vit.pth", [0, 5])


def test_a_grid_belongs_to_no_other_weights(tmp_path: Path) -> None:
    torch.save(official_file(filled_graph(small_spec())), tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"--pretrained-grid is for a vision transformer.*x\.pth is none"):
        load_weights(tmp_path / "x.pth", [4, 6])


@pytest.mark.parametrize("scheme", [1, 2, 3], ids=["vit.", "deit.", "no start"])
def test_vit_of_hugging_face_begins_a_yolos(scheme: int, tmp_path: Path) -> None:
    state = vit_state(source(), 1 + 24, scheme)
    save_file({**state, "classifier.weight": torch.zeros(2, 64)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "image_size": [64, 96]}))
    graph = Graph(small_spec("yolos-ti"))
    account = transfer_weights(graph, load_weights(tmp_path))
    assert len(account.copied) + len(account.changed) == 12 * 3 + 6
    expected = state[f"{PREFIXES[scheme]}embeddings.position_embeddings"]
    assert torch.equal(graph.state_dict()[TABLE][:, : 1 + 24], expected)


def test_what_has_no_place_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = deit_file(source(), 17)
    saved["model"] |= dict.fromkeys(("blocks.0.ls1.gamma", "mask_token", "decoder_embed.bias"), torch.zeros(64))
    torch.save(saved, tmp_path / "vit.pth")
    with caplog.at_level(logging.WARNING, "yolograph"):
        checkpoint = load_weights(tmp_path / "vit.pth")
    assert "blocks.0.ls1.gamma have no place" in caplog.text and "mask_token" not in caplog.text
    assert "mask_token" in checkpoint.progress["converted"]["left out"]


def test_names_that_parallel_training_puts_a_word_before(tmp_path: Path) -> None:
    saved = deit_file(source(), 17)["model"]
    torch.save({"model": saved}, tmp_path / "plain.pth")
    torch.save({"model": {f"module.{name}": value for name, value in saved.items()}}, tmp_path / "wrapped.pth")
    plain, wrapped = (load_weights(tmp_path / name) for name in ("plain.pth", "wrapped.pth"))
    assert plain.weights.keys() == wrapped.weights.keys() and wrapped.is_start
    assert all(torch.equal(value, wrapped.weights[name]) for name, value in plain.weights.items())


def test_a_start_is_no_model(tmp_path: Path) -> None:
    torch.save(deit_file(source(), 17), tmp_path / "vit.pth")
    checkpoint = load_weights(tmp_path / "vit.pth")
    for use in (lambda: build_model(checkpoint, tmp_path / "vit.pth"), lambda: graph_for_data(checkpoint, {})):
        with pytest.raises(ModelError, match=r"vit\.pth: is a vision transformer .* --cfg yolos-s$"):
            use()


def test_a_vision_transformer_that_is_broken(tmp_path: Path) -> None:
    saved = deit_file(source(), 17)
    saved["model"]["blocks.1.mlp.fc2.bias"] = torch.zeros(7)
    torch.save(saved, tmp_path / "vit.pth")
    with pytest.raises(ModelError, match=r"vit\.pth.*blocks\.1\.mlp\.fc2\.bias has another shape"):
        load_weights(tmp_path / "vit.pth")


def test_another_width_fits_nothing(tmp_path: Path) -> None:
    torch.save(deit_file(source(), 17), tmp_path / "vit.pth")
    account = transfer_weights(Graph(small_spec("yolos-ti", width=32)), load_weights(tmp_path / "vit.pth"))
    assert account.copied == [] and account.changed == [] and account.other_shape
