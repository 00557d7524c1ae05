"""Compiled graphs: the same gradients, heads in turns, any size; and on without where nothing can be compiled.

Most tests take a backend that captures the graph and generates no code, because generating it takes its time.
"""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from models.graph import Graph, load_graph
from utils.errors import UsageError
from utils.training.compiling import compile_graph

MODEL = """
nc: 2
n_segcls: 3
depth_multiple: 1.0
width_multiple: 0.125
anchors: [[8, 8, 16, 16]]
{extra}
backbone:
  - [-1, 1, Conv, [64, 3, 4]]
  - [-1, 1, Conv, [64]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 1], 1, Concat, [1]]
  - [[4], 1, SegMaskBase, [n_segcls, 1, 64, False]]
  - [[2], 1, Detect, [nc, anchors]]
"""
ONE_HEAD = """
nc: 2
depth_multiple: 1.0
width_multiple: 0.125
anchors: [[8, 8, 16, 16]]
backbone:
  - [-1, 1, Conv, [64, 3, 8]]
head:
  - [[0], 1, Detect, [nc, anchors]]
"""


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    limit = torch._dynamo.config.recompile_limit
    yield
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()


def build(tmp_path: Path, text: str = MODEL, extra: str = "") -> Graph:
    path = tmp_path / "model.yaml"
    path.write_text(text.replace("{extra}", extra))
    torch.manual_seed(0)
    graph = load_graph(path).to(memory_format=torch.channels_last).train()
    for module in graph.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the compiler draws other random numbers
    return graph


def step(graph: Graph, head: str, size: tuple[int, int], count: int, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return loss and gradients of one micro-batch."""
    generator = torch.Generator().manual_seed(sum(size) + count)
    images = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        raw = graph(images, heads=(head,))[head]
    loss = sum(leaf.float().square().mean() for leaf in raw)
    graph.zero_grad(set_to_none=True)
    loss.backward()
    gradients = {name: p.grad for name, p in graph.named_parameters() if p.grad is not None}
    return {"loss": loss.detach()} | gradients


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        largest = float(tensor.abs().max()) + 1e-6
        assert float((found[name] - tensor).abs().max()) <= tolerance * largest, name


@pytest.mark.parametrize(("dtype", "extra"), [(None, ""), (torch.bfloat16, "bn: per-task")])
def test_heads_take_turns_at_any_size(tmp_path: Path, dtype: torch.dtype | None, extra: str) -> None:
    plain = build(tmp_path, extra=extra)
    compiled = compile_graph(copy.deepcopy(plain), backend="eager")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    # A second size, a last batch that is smaller, one image; and the first size again.
    for size, count in (((64, 64), 4), ((96, 64), 4), ((64, 128), 3), ((64, 64), 1), ((64, 64), 4)):
        for head in ("detect", "segment"):
            wanted, found = (step(graph, head, size, count, dtype) for graph in (plain, compiled))
            assert_close(found, wanted, 1e-5)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, msg=name)
    graphs = counters["stats"]["unique_graphs"]
    assert 4 <= graphs <= 10, "not compiled, or compiled again for what it knows"
    for size in ((160, 96), (96, 160), (128, 128)):
        for head in ("detect", "segment"):
            step(compiled, head, size, 4, dtype)
    assert counters["stats"]["unique_graphs"] == graphs, "a new size is compiled again"


def test_training_and_use_follow_the_mode(tmp_path: Path) -> None:
    graph = compile_graph(build(tmp_path), backend="eager")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    norm = graph.model[0].bn
    graph(images, heads=("detect",))
    assert int(norm.num_batches_tracked) == 1
    with torch.no_grad():
        compiled = graph.eval()(images)["detect"][0]
        graph._compiled_call_impl = None
        assert torch.allclose(graph(images)["detect"][0], compiled, atol=1e-5)
    assert int(norm.num_batches_tracked) == 1


def test_a_copy_for_averaging_is_not_compiled(tmp_path: Path) -> None:
    graph = compile_graph(build(tmp_path), backend="eager")
    assert copy.deepcopy(graph)._compiled_call_impl is None


def test_what_cannot_be_captured_runs_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = build(tmp_path)
    row = graph.model[1]
    row.forward = torch.compiler.disable(row.forward)
    compile_graph(graph, backend="eager")
    images = torch.zeros((2, 3, 64, 64), dtype=torch.uint8)
    assert set(graph(images)) == {"detect", "segment"}
    said = [text for text in caplog.messages if text.startswith("--compile: ")]
    assert len(said) == 1
    assert said[0].endswith(" and runs without; leave --compile out")


DEFORMABLE = """
nc: 2
input: {stride: 1, fit: shortest}
backbone:
  - [-1, 1, FrozenStem, [8]]
head:
  - [-1, 1, ConvGN, [32, 3, 2]]
  - [[1], 1, DeformEncoder, [32, 1, 4, 1, 32, 0.0]]
  - [2, 1, TwoStageQueries, [nc, 5]]
  - [[2, 3], 1, MSDETRDecoder, [nc, 32, 1, 4, 1, 32, 0.0]]
"""


def test_padded_batches_of_a_deformable_encoder_run_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain = build(tmp_path, DEFORMABLE)
    compiled = compile_graph(copy.deepcopy(plain), backend="eager")
    images = torch.randint(0, 256, (2, 3, 33, 48), dtype=torch.uint8)
    wanted, found = (graph(images, sizes=[(33, 40), (20, 48)])["detect"] for graph in (plain, compiled))
    assert torch.equal(found.boxes, wanted.boxes)
    assert not counters["stats"]["unique_graphs"] and compiled._compiled_call_impl is not None
    assert caplog.messages == ["--compile: batches that are padded, because their pictures differ in size, run without"]


def test_recomputation_is_refused(tmp_path: Path) -> None:
    graph = build(tmp_path)
    graph.recompute = True
    with pytest.raises(UsageError, match="--compile and --recompute exclude each other"):
        compile_graph(graph)


def test_without_a_compiler_the_graph_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    caplog.set_level(logging.WARNING)
    plain = build(tmp_path, ONE_HEAD)
    compiled = compile_graph(copy.deepcopy(plain))
    for _ in range(2):
        with inductor.patch({"cpp.cxx": (None, str(tmp_path / "no_compiler"))}):
            wanted, found = (step(graph, "detect", (64, 64), 2, None) for graph in (plain, compiled))
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    said = [text for text in caplog.messages if text.startswith("--compile: the model could not be compiled (")]
    assert len(said) == 1
    assert "such as g++" in said[0]
    assert torch.equal(plain.model[0].bn.running_mean, compiled.model[0].bn.running_mean)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_generated_code_gives_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one slow test: it runs the C++ compiler."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    plain = build(tmp_path, ONE_HEAD)
    compiled = compile_graph(copy.deepcopy(plain))
    for size in ((64, 64), (96, 96)):
        wanted, found = (step(graph, "detect", size, 2, None) for graph in (plain, compiled))
        assert_close(found, wanted, 1e-4)
    assert "could not be compiled" not in caplog.text
    assert compiled._compiled_call_impl is not None
    assert counters["stats"]["unique_graphs"] == 2
    for name, tensor in plain.named_buffers():
        torch.testing.assert_close(dict(compiled.named_buffers())[name], tensor, msg=name)
