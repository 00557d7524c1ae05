"""Branches that are left out for some pictures."""

from __future__ import annotations

import pytest
import torch

from models.graph import Graph
from models.layers.drop_path import DropPath, set_drop_path
from models.spec import parse_spec
from tests.models.tiny_vision_transformer import tiny_transformer, tiny_values


def test_whole_pictures_are_left_out_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    y = drop(torch.ones(4000, 3, 2))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(y, y[:, :1, :1].expand_as(y)) and abs(y.mean().item() - 1) < 0.05
    assert torch.equal(drop.eval()(y), y) and torch.equal(DropPath().train()(y), y)


def test_the_rate_rises_over_the_blocks_of_all_rows() -> None:
    graph = tiny_transformer()
    assert set_drop_path(graph, 0.3) == 3
    rates = [module.rate for module in graph.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0, 0.15, 0.15, 0.3, 0.3])
    assert set_drop_path(graph, 0) == 3 and not any(m.rate for m in graph.modules() if isinstance(m, DropPath))


def test_the_last_block_can_be_left_out_alone() -> None:
    graph = tiny_transformer().train()
    images = torch.rand(6, 3, 48, 64)
    plain = graph(images, heads=("detect",))["detect"].logits
    set_drop_path(graph, 0.9)
    torch.manual_seed(0)
    dropped = graph(images, heads=("detect",))["detect"].logits
    assert not torch.allclose(dropped, plain, atol=1e-3)
    assert torch.equal(graph.eval()(images, heads=("detect",))["detect"].logits, plain)


def test_a_model_without_blocks_says_so() -> None:
    values = tiny_values()
    values["backbone"] = [[-1, 1, "ViTEmbed", ["width", 16, "det_tokens", "pe_size"]]]
    values["head"] = [[-1, 1, "YOLOSDetect", ["nc"]]]
    del values["heads"]
    assert set_drop_path(Graph(parse_spec(values, "tiny.yaml")), 0.1) == 0


@pytest.mark.parametrize("rate", [-0.1, 1, 2.0])
def test_a_wrong_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        set_drop_path(tiny_transformer(), rate)
