"""Rows that run again in the backward pass: the same to the bit, with less kept in between."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.graph import Graph, load_graph
from models.recompute import segments
from utils.errors import ModelError

MODEL = """
nc: 3
n_segcls: 4
depth_multiple: 1.0
width_multiple: 0.25
anchors: [[8, 8, 16, 16], [24, 24, 40, 40]]
{extra}
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 2, C3, [64]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 2, C3, [64]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, nn.Dropout, [0.3]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 1, C3, [64, False]]
  - [[9], 1, SegMaskBase, [n_segcls, 1, 64, False]]
  - [[9, 6], 1, Detect, [nc, anchors]]
"""


def build(tmp_path: Path, extra: str = "", text: str = MODEL) -> Graph:
    path = tmp_path / "model.yaml"
    path.write_text(text.replace("{extra}", extra))
    torch.manual_seed(0)
    return load_graph(path).to(memory_format=torch.channels_last).train()


def total(raw: object) -> Tensor:
    leaves = raw if isinstance(raw, list) else [raw]
    return sum(leaf.float().square().mean() for leaf in leaves)


def one_step(
    graph: Graph, turns: list[tuple[str, ...]], dtype: torch.dtype | None = None, count: int = 2
) -> dict[str, Tensor]:
    """Return outputs, gradients and buffers after one backward pass for every turn."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (count, 64, 96, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    found: dict[str, Tensor] = {}
    for number, heads in enumerate(turns):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            outputs = graph(images, heads=heads)
        loss = sum(total(raw) for raw in outputs.values())
        loss.backward()
        found[f"loss/{number}"] = loss.detach()
    found |= {f"gradient/{name}": p.grad for name, p in graph.named_parameters() if p.grad is not None}
    found |= {f"buffer/{name}": b.clone() for name, b in graph.named_buffers()}
    found["random numbers"] = torch.rand(4)
    return found


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("extra", ["", "bn: per-task"])
@pytest.mark.parametrize("turns", [[("detect",)], [("segment",), ("detect",), ("segment",)], [("segment", "detect")]])
def test_everything_is_the_same_to_the_bit(
    tmp_path: Path, turns: list[tuple[str, ...]], extra: str, dtype: torch.dtype | None
) -> None:
    plain = build(tmp_path, extra)
    again = copy.deepcopy(plain)
    again.recompute = True
    wanted, found = one_step(plain, turns, dtype), one_step(again, turns, dtype)
    assert wanted.keys() == found.keys()
    for name in wanted:
        assert torch.equal(wanted[name], found[name]), name
    assert any(int(value) for name, value in found.items() if name.endswith("num_batches_tracked"))


def test_a_single_image_behind_a_global_pooling_too(tmp_path: Path) -> None:
    plain = build(tmp_path, text=MODEL.replace("nn.Dropout, [0.3]", "Attention, []"))
    one_step(plain, [("detect",)])
    plain.zero_grad()
    again = copy.deepcopy(plain)
    again.recompute = True
    wanted, found = one_step(plain, [("detect",)], count=1), one_step(again, [("detect",)], count=1)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_frozen_norms_stay_frozen(tmp_path: Path) -> None:
    plain = build(tmp_path)
    plain.freeze_norms()
    again = copy.deepcopy(plain)
    again.recompute = True
    wanted, found = one_step(plain, [("detect",)]), one_step(again, [("detect",)])
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def saved_bytes(graph: Graph, heads: tuple[str, ...]) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in graph.parameters()}
    saved: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # Holding the tensor keeps its address from being given out again.
            saved[storage.data_ptr()] = tensor
        return tensor

    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = sum(total(raw) for raw in graph(images, heads=heads).values())
    loss.detach()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


@pytest.mark.parametrize("heads", [("detect",), ("segment",)])
def test_less_is_kept_between_the_passes(tmp_path: Path, heads: tuple[str, ...]) -> None:
    graph = build(tmp_path)
    plain = saved_bytes(graph, heads)
    graph.recompute = True
    assert saved_bytes(graph, heads) < plain / 3


def test_no_row_is_left_out_or_runs_twice(tmp_path: Path) -> None:
    graph = build(tmp_path)
    for heads in (("detect",), ("segment",), ("detect", "segment")):
        plan = graph.plan(heads)
        parts = segments(graph, plan)
        assert [step for part in parts for step in part] == plan
        assert len(parts) > 3


def test_nothing_runs_again_where_nothing_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(tmp_path)
    graph.recompute = True
    monkeypatch.setattr("models.graph.run_with_recomputation", lambda *_: pytest.fail("it was used"))
    images = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)
    graph.eval()(images)
    with torch.no_grad():
        graph.train()(torch.zeros((2, 3, 64, 64), dtype=torch.uint8))


def test_a_row_that_overwrites_its_input_is_named(tmp_path: Path) -> None:
    text = MODEL.replace("nn.Dropout, [0.3]", "nn.LeakyReLU, [0.1, True]").replace(
        "Conv, [128, 3, 2]", "nn.Conv2d, [128, 3, 2, 1]"
    )
    text = text.replace("  - [[9, 6], 1, Detect", "  - [6, 1, nn.SiLU, [True]]\n  - [[9, 11], 1, Detect")
    graph = build(tmp_path, text=text)
    graph.recompute = True
    with pytest.raises(ModelError, match=r"changes its input in place.*'inplace'.*--recompute"):
        graph(torch.zeros((2, 3, 64, 64), dtype=torch.uint8), heads=("detect",))
