"""Transformer blocks in their form for running: the same answers, fewer tokens, nobody's memory written over."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.layers.vit_inference import InferenceBlocks
from models.spec import parse_spec
from models.tokens import Tokens, tensors_of
from tests.models.tiny_vision_transformer import enlarge_weights, tiny_transformer, tiny_values

SIZES = [(96, 128), (64, 48), (96, 32)]
DETECTION = [[-1, 1, "YOLOSDetect", ["nc"]]]
FLOAT_ROUNDING = 2e-5


def made(**keys: Any) -> Graph:
    """Return a graph of detection alone; ``keys`` overrule those of the tiny transformer."""
    torch.manual_seed(0)
    graph = Graph(parse_spec({**tiny_values(), "head": DETECTION, **keys}, "tiny.yaml")).eval()
    enlarge_weights(graph)
    return graph


def images(count: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 96, 128), dtype=torch.uint8, generator=draw)


def worst(graph: Graph, other: Graph, x: Tensor, sizes: list[tuple[int, int]] | None = None) -> float:
    """Return the largest difference of all raw outputs of two graphs as a share of the largest value."""
    with torch.inference_mode():
        pairs = zip(tensors_of(graph(x, sizes=sizes)), tensors_of(other(x, sizes=sizes)), strict=True)
        return max(((one - two).abs().max() / one.abs().max()).item() for one, two in pairs)


def rows_alone(graph: Graph) -> list[bool]:
    """Return of every row of blocks whether it answers for the tokens behind the patches only."""
    return [module.suffix_alone for module in graph.model if isinstance(module, InferenceBlocks)]


@pytest.mark.parametrize("sizes", [None, SIZES], ids=["whole", "padded"])
@pytest.mark.parametrize("form", [fuse_graph, deploy_graph])
def test_detection_reads_the_last_tokens_alone_and_answers_as_before(form: Any, sizes: Any) -> None:
    graph = made()
    fused = form(copy.deepcopy(graph))
    assert rows_alone(fused) == [False, True]
    assert worst(graph, fused, images(), sizes) < FLOAT_ROUNDING


def test_a_row_of_several_blocks_answers_as_before() -> None:
    rows = tiny_values()["backbone"]
    graph = made(backbone=[rows[0], [-1, 3, "ViTBlock", ["width", "heads", 3.0]], rows[3]])
    fused = fuse_graph(copy.deepcopy(graph))
    assert rows_alone(fused) == [True]
    assert worst(graph, fused, images(), SIZES) < FLOAT_ROUNDING


def test_fewer_tokens_leave_the_last_block() -> None:
    fused = fuse_graph(made())
    seen: list[Tokens] = []
    fused.model[3].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.inference_mode():
        fused(images(), sizes=SIZES)
    (tokens,) = seen
    assert tokens.values.shape == (3, 5, 24) and (tokens.prefix, tokens.suffix, tokens.grid) == (0, 5, (0, 0))
    assert tokens.sizes == tuple(SIZES)


@pytest.mark.parametrize("reader", ["TokenMap beside the head", "a block with a table", "an earlier row"])
def test_all_tokens_stay_where_something_reads_them(reader: str) -> None:
    values = tiny_values()
    if reader == "TokenMap beside the head":
        graph = tiny_transformer()
    elif reader == "a block with a table":
        table = [-1, 1, "ViTBlockPE", ["width", "heads", 2.0, "pe_size"]]
        graph = made(backbone=[*values["backbone"][:2], table, values["backbone"][3]])
    else:
        graph = made(head=[[[1, 3], 1, "YOLOSDetect", ["nc"]]])
    fused = fuse_graph(copy.deepcopy(graph))
    assert rows_alone(fused) == [False, reader == "an earlier row"]
    assert worst(graph, fused, images(), SIZES) < FLOAT_ROUNDING


def test_what_a_row_reads_is_not_written_over() -> None:
    rows = tiny_values()["backbone"]
    block = [-1, 1, "ViTBlock", ["width", "heads", 2.0]]
    parallel = [rows[0], block, [0, *block[1:]], rows[3]]
    graph = made(backbone=parallel, head=[[[1, 3], 1, "YOLOSDetect", ["nc"]]])
    assert worst(graph, fuse_graph(copy.deepcopy(graph)), images(), SIZES) < FLOAT_ROUNDING


def test_kept_tables_and_weights_are_not_written_over() -> None:
    fused = fuse_graph(made())
    before = {name: tensor.clone() for name, tensor in fused.state_dict().items()}
    with torch.inference_mode():
        first = list(tensors_of(fused(images())))
        again = list(tensors_of(fused(images())))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in fused.state_dict().items())


def test_gradients_and_reduced_formats_take_the_way_without_shared_memory() -> None:
    graph = made()
    fused = fuse_graph(copy.deepcopy(graph))
    x = images(1).float().div(255).requires_grad_()
    one, two = (torch.autograd.grad(each(x)["detect"].logits.square().sum(), x)[0] for each in (graph, fused))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4 * one.abs().max().item())
    with torch.autocast("cpu", torch.bfloat16):
        assert worst(graph, fused, images()) < 0.05


def test_fusing_again_changes_nothing() -> None:
    fused = fuse_graph(made())
    modules = list(fused.model)
    assert list(fuse_graph(fused).model) == modules


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_recorded_graph_answers_for_other_pictures() -> None:
    graph = made()
    fused = fuse_graph(copy.deepcopy(graph))

    class Answer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = fused

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.inner(x)["detect"]
            return raw.logits, raw.boxes

    floats = images(2).float().div(255)
    with torch.no_grad():
        recorded = torch.jit.trace(Answer(), (floats,))
        for x in (floats, floats.flip(0)):
            expected = graph(x)["detect"]
            for one, two in zip(recorded(x), (expected.logits, expected.boxes), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_random_chains_of_blocks_answer_as_before() -> None:
    draw = random.Random(0)
    rows = tiny_values()["backbone"]
    for _ in range(4):
        chain = [
            [-1, draw.randint(1, 2), "ViTBlock", ["width", draw.choice([1, "heads", 3]), draw.choice([0.5, 4.0])]]
            for _ in range(draw.randint(1, 3))
        ]
        backbone = [rows[0], *chain, rows[2], *([rows[3]] * draw.randint(0, 2))]
        graph = made(backbone=backbone)
        assert worst(graph, fuse_graph(copy.deepcopy(graph)), images(2)) < FLOAT_ROUNDING
