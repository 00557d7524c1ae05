"""Weights of transformers go over to YAMLs with other tables, other rows and other labels."""

from __future__ import annotations

import logging

import pytest
import torch

from models.checkpoint import Checkpoint
from models.convert.label_classes import COCO_IDS
from models.graph import Graph
from models.spec import ModelSpec
from models.token_rows import find_token_rows
from models.transfer import transfer_weights
from tests.models.convert.published_yolos import filled_graph, small_spec
from tests.models.convert.test_vit import resized


def checkpoint_of(graph: Graph) -> Checkpoint:
    return Checkpoint("x.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()})


def with_ids(spec: ModelSpec) -> ModelSpec:
    """Return a model of COCO's classes under COCO's ids."""
    return spec.with_values(nc=80, head=[[-1, 1, "YOLOSDetect", ["nc", list(COCO_IDS)]]])


def test_every_table_is_resized_to_the_grid_of_the_yaml() -> None:
    theirs, graph = filled_graph(small_spec()), Graph(small_spec(pe_size=[96, 80]))
    account = transfer_weights(graph, checkpoint_of(theirs))
    tables = ["model.0.pos_embed", "model.1.0.pos_embed", "model.1.1.pos_embed"]
    assert account.changed == [(name, "position table 4x6 -> 6x5 patches") for name in tables]
    assert account.fresh == account.unused == account.other_shape == []
    for name in tables:
        table, given = graph.state_dict()[name], theirs.state_dict()[name]
        assert torch.equal(table[:, :1], given[:, :1]) and torch.equal(table[:, -5:], given[:, -5:])
        torch.testing.assert_close(table[:, 1:-5], resized(given[:, 1:-5], (4, 6), (6, 5)), atol=1e-5, rtol=1e-5)


def test_a_table_that_lies_down_is_resized_to_one_that_stands() -> None:
    theirs, graph = filled_graph(small_spec()), Graph(small_spec(pe_size=[96, 64]))
    account = transfer_weights(graph, checkpoint_of(theirs))
    assert {how for _, how in account.changed} == {"position table 4x6 -> 6x4 patches"}
    name = "model.1.0.pos_embed"
    expected = resized(theirs.state_dict()[name][:, 1:-5], (4, 6), (6, 4))
    torch.testing.assert_close(graph.state_dict()[name][:, 1:-5], expected, atol=1e-5, rtol=1e-5)


def test_other_detection_tokens_begin_anew_with_their_entries() -> None:
    graph = Graph(small_spec("yolos-ti", det_tokens=9))
    own = {name: value.clone() for name, value in graph.state_dict().items()}
    account = transfer_weights(graph, checkpoint_of(filled_graph(small_spec("yolos-ti"))))
    table = graph.state_dict()["model.0.pos_embed"]
    assert torch.equal(table[:, -9:], own["model.0.pos_embed"][:, -9:])
    assert [name for name, _, _ in account.other_shape] == ["model.0.det_tokens"]
    assert "[DET] tokens begin anew" in account.summary()


def test_blocks_find_each_other_however_they_are_cut_into_rows() -> None:
    theirs, spec = filled_graph(small_spec()), small_spec("yolos-ti")
    rows = spec.values["backbone"]
    graph = Graph(spec.with_values(backbone=[rows[0], [-1, 1, *rows[1][2:]], [-1, 2, *rows[1][2:]], rows[2]]))
    account = transfer_weights(graph, checkpoint_of(theirs))
    assert account.unused == ["model.1.pos_embed", "model.2.0.pos_embed"] and not account.fresh
    for one, other in zip(find_token_rows(theirs).blocks, find_token_rows(graph).blocks, strict=True):
        assert torch.equal(theirs.get_submodule(one).fc1.weight, graph.get_submodule(other).fc1.weight)


@pytest.mark.parametrize("ids_there", [True, False])
def test_the_same_classes_under_other_labels_keep_their_rows(ids_there: bool) -> None:
    plain = small_spec("yolos-ti", nc=80)
    specs = (with_ids(plain), plain) if ids_there else (plain, with_ids(plain))
    theirs, graph = filled_graph(specs[0]), Graph(specs[1])
    account = transfer_weights(graph, checkpoint_of(theirs))
    assert account.changed == [(f"model.3.class_mlp.2.{part}", "classes numbered anew") for part in ("weight", "bias")]
    one, other = (model.heads["detect"].class_mlp[2].weight for model in (theirs, graph))
    coco, plain_rows = (one, other) if ids_there else (other, one)
    assert torch.equal(coco[[*COCO_IDS, 91]], plain_rows)


def test_another_number_of_classes_costs_the_class_layer_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    theirs, graph = filled_graph(with_ids(small_spec("yolos-ti"))), Graph(small_spec("yolos-ti", nc=3))
    with caplog.at_level(logging.WARNING, "yolograph"):
        account = transfer_weights(graph, checkpoint_of(theirs))
    assert {name for name, _, _ in account.other_shape} == {"model.3.class_mlp.2.weight", "model.3.class_mlp.2.bias"}
    assert "the class layer of 'detect' begins anew: it has 92 outputs in the weights and 4 here" in caplog.text
    caplog.clear()
    transfer_weights(Graph(small_spec("yolos-ti", width=32)), checkpoint_of(filled_graph(small_spec("yolos-ti"))))
    assert not caplog.text, "another width costs more than the class layer, and the account says so"
