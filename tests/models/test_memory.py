"""Memory and queries in a graph: their records, the trace, what reads what, padding, odd sizes, recomputation."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import registry
from models.graph import Graph, with_classes
from models.memory import Memory, MemoryWidth, Queries, QueryWidth
from models.recompute import segments
from models.registry import register
from models.row_kinds import Kind
from models.spec import parse_spec
from models.table import format_table, main, tabulate_model
from models.tokens import inside_areas, tensors_of
from tests.models.rows_of_memory import ROWS
from tests.models.test_recompute import one_step, saved_bytes
from utils.errors import ModelError, UsageError

BACKBONE: list[Any] = [
    [-1, 1, "ResNetStem", [8]],
    [-1, 1, "ResNetStage", [16, 1, 2, {"block": "basic", "norm": "batch"}]],
    [-1, 1, "ResNetStage", [24, 1, 2, {"block": "basic", "norm": "batch"}]],
]
HEAD: list[Any] = [
    [1, 1, "ConvGN", [32, 1, 1]],
    [2, 1, "ConvGN", [32, 1, 1]],
    [[3, 4], 1, "LevelsForTest", [2]],
    [5, 1, "QueriesForTest", ["queries"]],
    [[5, 6], 1, "DecoderForTest", ["nc"]],
]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let YAMLs of these tests name the rows that stand for a deformable transformer."""
    monkeypatch.setattr(registry, "_BLOCKS", dict(registry._BLOCKS))
    for row in ROWS:
        register(row)


def values(**keys: Any) -> dict[str, Any]:
    rows = {"backbone": copy.deepcopy(BACKBONE), "head": copy.deepcopy(HEAD)}
    return {"nc": 3, "queries": 6, "input": {"stride": 1}, **rows, **keys}


def small(**keys: Any) -> Graph:
    torch.manual_seed(0)
    return Graph(parse_spec(values(**keys), "mine.yaml"))


# Records


def test_widths_are_numbers_that_know_more() -> None:
    memory, queries = copy.deepcopy((MemoryWidth(256, 4), QueryWidth(256, 300, 2, False)))
    assert memory == 256 and memory.levels == 4
    assert queries == 256 and (queries.queries, queries.coordinates, queries.proposes) == (300, 2, False)


def test_records_say_what_they_are_and_give_their_tensors() -> None:
    memory = Memory(torch.zeros(1, 20, 8), ((4, 4), (2, 2)), None, torch.ones(1, 2, 2))
    queries = Queries(*torch.zeros(2, 1, 5, 8), torch.zeros(1, 5, 4))
    assert memory.layout == "2 levels, 4x4 to 2x2: 20 tokens of 8" and memory.rows == 4
    assert memory._replace(shapes=((4, 5),)).layout == "1 level, 4x5: 20 tokens of 8"
    assert queries.layout == "5 queries of 8" and queries.rows is None
    assert [tuple(t.shape) for t in tensors_of([memory, queries])] == [
        (1, 20, 8),
        (1, 2, 2),
        *[(1, 5, 8)] * 2,
        (1, 5, 4),
    ]


# Trace and table


def test_the_trace_knows_memory_and_queries() -> None:
    graph = small()
    assert [row.kind for row in graph.trace[3:]] == [Kind.MAP, Kind.MAP, Kind.MEMORY, Kind.QUERIES, None]
    assert [row.stride for row in graph.trace] == [4, 8, 16, 8, 16, 8, 8, 8]
    assert graph.heads["detect"].strides == [8, 8]
    assert isinstance(graph.heads["detect"].widths[0], MemoryWidth) and graph.heads["detect"].widths[1].queries == 6
    rows = tabulate_model(graph.spec, (72, 104))
    assert [row.tokens for row in rows[4:]] == [
        None,
        "2 levels, 9x13 to 5x7: 152 tokens of 32",
        "6 queries of 32",
        None,
    ]
    assert rows[6].shape == [[6, 32], [6, 32], [6, 2]]
    (line,) = [line for line in format_table(rows, (72, 104)).splitlines() if "QueriesForTest" in line]
    assert "  6 queries of 32  " in line and "  1/8  " in line
    tokens, queries = 9 * 13 + 5 * 7, 6
    assert rows[5].flops == 2 * tokens * 2 * 32 * 32 and rows[7].flops == 2 * queries * 32 * 3


def test_options_stay_in_the_text_the_table_and_the_model(monkeypatch: Any, capsys: Any, tmp_path: Any) -> None:
    changed = values()
    changed["head"][-1][3] = ["nc", {"category_ids": [1, 3, 4, 6, 7]}]
    spec = parse_spec({**changed, "nc": 5}, "mine.yaml")
    assert parse_spec(spec.values, spec.source) == spec and spec.rows[-1].args == [5, {"category_ids": [1, 3, 4, 6, 7]}]
    assert spec.with_option(7, "category_ids", None).rows[-1].args == [5]
    assert spec.with_option(1, "block", "bottleneck").rows[1].args[-1] == {"block": "bottleneck", "norm": "batch"}
    assert spec.with_option(3, "norm", {"eps": 0.5}).rows[3].options.norm.eps == 0.5
    path = tmp_path / "mine.yaml"
    path.write_text(spec.text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["graph", str(path), "--imgsz", "65", "97", "--json"])
    main()
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[7]["args"] == [5, {"category_ids": "5 entries"}] and rows[5]["tokens"].startswith(
        "2 levels, 9x13 to 5x7"
    )


def test_symbols_in_options() -> None:
    changed = values(kind="basic")
    changed["backbone"][1][3] = [16, 1, 2, {"block": "kind", "norm": "batch", "activation": "nn.ReLU()"}]
    row = parse_spec(changed, "mine.yaml").rows[1]
    assert row.args[-1] == {"block": "basic", "norm": "batch"} and row.options.activation == "nn.ReLU()"


def test_another_number_of_classes() -> None:
    assert with_classes(small().spec, {"detect": 7}).rows[-1].args == [7]


# What reads what

MISTAKES: dict[str, tuple[int, list[Any], tuple[str, ...]]] = {
    "a Conv on memory": (
        3,
        [5, 1, "Conv", [8, 1, 1]],
        ("row 6 (Conv from 5): row 5 gives memory of a deformable encoder, not a feature map", "read one of the maps"),
    ),
    "a Conv on queries": (4, [6, 1, "Conv", [8]], ("row 6 gives queries of a decoder, not a feature map", "a decoder")),
    "a Concat of memory": (4, [[4, 5], 1, "Concat", [1]], ("row 5 gives memory",)),
    "tokens wanted": (
        4,
        [5, 1, "YOLOSDetect", ["nc"]],
        ("it reads tokens, but row 5 gives memory", "put it behind ViT"),
    ),
    "queries of a map": (
        3,
        [4, 1, "QueriesForTest", [6]],
        ("memory of a deformable encoder, but row 4 gives a feature",),
    ),
    "queries of the image": (
        0,
        [-4, 1, "QueriesForTest", [6]],
        ("but the image has none", "behind a DeformEncoder row"),
    ),
    "queries of queries": (
        4,
        [6, 1, "QueriesForTest", [6]],
        ("but row 6 gives queries of a decoder; put it behind a De",),
    ),
    "no queries": (
        4,
        [5, 1, "DecoderForTest", ["nc"]],
        ("memory of a deformable encoder and queries of a", "names 1; na"),
    ),
    "the other order": (4, [[6, 5], 1, "DecoderForTest", ["nc"]], ("it reads memory", "but row 6 gives queries")),
    "memory twice": (
        4,
        [[5, 5], 1, "DecoderForTest", ["nc"]],
        ("reads queries", "row 5 gives memory", "TwoStageQueries"),
    ),
    "the image wanted": (4, [5, 1, "ViTEmbed", [8, 16, 5, [32, 32]]], ("it reads the image, but row 5 gives memory",)),
    "an option of no block": (
        0,
        [1, 1, "ConvGN", [32, {"kernel": 1}]],
        ("takes activation and norm, but has 'kernel'",),
    ),
    "an option of another": (
        4,
        [[5, 6], 1, "DecoderForTest", ["nc", {"category": 1}]],
        ("Did you mean 'category_ids'?",),
    ),
    "an option of a wrong kind": (4, [[5, 6], 1, "DecoderForTest", ["nc", {"category_ids": 1}]], ("list[int]", "is 1")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str) -> None:
    index, row, words = MISTAKES[mistake]
    changed = values()
    changed["head"][index] = row
    with pytest.raises(ModelError) as caught:
        Graph(parse_spec(changed, "mine.yaml"))
    text = str(caught.value)
    assert text.startswith(f"mine.yaml, row {3 + index} ({row[2]} from ") and "\n" not in text
    assert all(word in text for word in words), text


# Padding


def test_what_lies_beyond_a_picture_is_0_behind_the_normalisation() -> None:
    rule = {"stride": 1, "mean": [0.501, 0.401, 0.301], "std": [0.1, 0.2, 0.3]}
    graph, seen = small(input=rule).eval(), []
    graph.model[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8)
    floats, sizes = torch.rand(2, 3, 40, 48), [(33, 48), (40, 17)]
    before = floats.clone()
    with torch.no_grad():
        graph(images, sizes=sizes), graph(images), graph(floats, sizes=sizes), graph(images, sizes=[(40, 48)] * 2)
    assert torch.equal(floats, before)
    for x, whole in ((seen[0], seen[1]), (seen[2], before)):
        assert not x[0, :, 33:].any() and not x[1, :, :, 17:].any()
        assert torch.equal(x[0, :, :33], whole[0, :, :33]) and torch.equal(x[1, :, :, :17], whole[1, :, :, :17])
    assert torch.equal(seen[3], seen[1]) and seen[1].abs().min() > 0


def test_a_list_of_one_is_a_list() -> None:
    changed = values(head=[[2, 1, "ConvGN", [32]], [3, 1, "LevelsForTest", [1]], [4, 1, "QueriesForTest", [2]]])
    changed["head"].append([[4, 5], 1, "DecoderForTest", ["nc"]])
    graph = Graph(parse_spec(changed, "mine.yaml")).eval()
    assert graph.trace[4].layout == "1 level, 16x16: 256 tokens of 32"
    assert graph(torch.rand(1, 3, 33, 47))["detect"].shape == (1, 2, 3)


def test_areas_within_a_canvas() -> None:
    inside = inside_areas(((1, 3), (2, 1)), (2, 3), torch.device("cpu"))
    assert inside.int().tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]]]


# Sizes that no stride divides

UPSAMPLED = [
    [2, 1, "nn.Upsample", [None, 2, "nearest"]],
    [[-1, 1], 1, "Concat", [1]],
    [-1, 1, "SegMaskBase", [2, 1, 8]],
]


def test_a_stride_of_1_takes_any_size() -> None:
    graph = small().eval()
    assert graph.stride == 1 and small(input={}).stride == 32
    for size, queries in (((64, 64), 6), ((41, 77), 6), ((33, 1), 6), ((1, 9), 3)):
        assert graph(torch.rand(1, 3, *size))["detect"].shape == (1, queries, 3)


@pytest.mark.parametrize(("stride", "size"), [(1, "257x255"), (8, "264x248"), (24, "312x264")])
def test_a_stride_that_the_rows_cannot_take_is_refused(stride: int, size: str) -> None:
    with pytest.raises(ModelError) as caught:
        small(input={"stride": stride}, head=[*HEAD, *UPSAMPLED])
    text = str(caught.value)
    wanted = {1: 16, 8: 16, 24: 48}[stride]
    assert text.startswith(f"mine.yaml: 'input' has stride {stride}, but rows have strides up to 1/16 that do not fit")
    assert size in text and "row 9 (Concat" in text and text.endswith(f"write stride {wanted} or leave it out")


def test_a_stride_that_is_a_multiple_of_those_of_the_rows_is_taken() -> None:
    assert small(input={"stride": 48}, head=[*HEAD, *UPSAMPLED]).stride == 48


def test_the_command_of_the_table_refuses_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for stride, side, error in ((1, "65", ModelError), (16, "65", UsageError)):
        path = tmp_path / "mine.yaml"
        spec = parse_spec(values(input={"stride": stride}, head=[*HEAD, *UPSAMPLED]), "mine.yaml")
        path.write_text(spec.text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["graph", str(path), "--imgsz", side])
        with pytest.raises(error, match="stride 16" if stride == 1 else "multiples of 16"):
            main()


# Recomputation


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_recomputed_gradients_are_the_same_to_the_bit(dtype: torch.dtype | None) -> None:
    plain = small().train()
    again = copy.deepcopy(plain)
    again.recompute = True
    wanted, found = one_step(plain, [("detect",)], dtype), one_step(again, [("detect",)], dtype)
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert not again.model[5].layers_run_again and not again.model[7].layers_run_again


def test_each_layer_keeps_its_input_alone() -> None:
    graph = small(head=[*HEAD[:2], [[3, 4], 1, "LevelsForTest", [8]], *HEAD[3:]]).train()
    parts = [[step.row for step in part] for part in segments(graph, graph.plan(["detect"]))]
    assert parts == [[0], [1], [2], [3], [4], [5], [6], [7]]
    plain = saved_bytes(graph, ("detect",))
    graph.recompute = True
    assert saved_bytes(graph, ("detect",)) < plain / 2


def test_a_layer_that_fails_leaves_nothing_switched() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("broken")

    graph = small().train()
    graph.recompute = True
    graph.model[5].layers[1] = Broken()
    with pytest.raises(ValueError, match="broken"):
        graph(torch.rand(1, 3, 64, 64))
    assert not graph.model[5].layers_run_again
