"""Which heads use which rows and parameters."""

from __future__ import annotations

import pytest
import torch

from models.graph import Graph, load_graph
from models.row_use import (
    last_shared_rows,
    own_rows,
    parameter_factors,
    parameter_users,
    rows_by_head,
    runs_of_rows,
    shared_rows,
)
from models.spec import load_spec, parse_spec

THREE = {
    "nc": 3,
    "n_segcls": 4,
    "anchors": [[10, 13, 16, 30]],
    "backbone": [[-1, 1, "Conv", [8, 3, 2]] for _ in range(4)],
    "head": [
        [3, 1, "nn.Upsample", [None, 2, "nearest"]],  # 4
        [[-1, 2], 1, "Concat", [1]],  # 5
        [-1, 1, "Conv", [8, 1]],  # 6: detect and segment
        [[5], 1, "SegMaskBase", ["n_segcls", 1, 8], "early"],  # 7
        [[6], 1, "SegMaskBase", ["n_segcls", 1, 8], "late"],  # 8
        [0, 1, "Conv", [8, 3, 2]],  # 9: unused
        [[6], 1, "Detect", ["nc", "anchors"]],  # 10
    ],
}


def graph_of(**keys: str) -> Graph:
    return Graph(parse_spec({**THREE, **keys}, "three.yaml"))


def test_rows_of_heads() -> None:
    graph = graph_of()
    assert rows_by_head(graph.spec, graph.head_rows) == {
        "early": {0, 1, 2, 3, 4, 5, 7},
        "late": {0, 1, 2, 3, 4, 5, 6, 8},
        "detect": {0, 1, 2, 3, 4, 5, 6, 10},
    }
    assert own_rows(graph) == {"early": {7}, "late": {8}, "detect": {10}}
    assert shared_rows(graph) == {0, 1, 2, 3, 4, 5, 6}


def test_what_a_head_uses_is_what_runs() -> None:
    graph = load_graph("yolov5s_city_seg_lab")
    found = rows_by_head(graph.spec, graph.head_rows)
    assert found == {name: {step.row for step in graph.plan((name,))} for name in graph.heads}
    own = own_rows(graph)
    assert own == {"segment": found["segment"] - found["detect"], "detect": found["detect"] - found["segment"]}
    assert shared_rows(graph) == found["segment"] & found["detect"]


def test_the_last_shared_rows_have_parameters() -> None:
    # The early head reads a concatenation, behind which rows 2 and 3 lie; the others read row 6.
    assert last_shared_rows(graph_of()) == {2, 3, 6}
    assert last_shared_rows(graph_of(bn="per-task")) == {2, 3, 6}


def test_norms_of_single_heads_belong_to_them() -> None:
    shared, split = parameter_users(graph_of()), parameter_users(graph_of(bn="per-task"))
    assert shared["model.6.bn.weight"] == split["model.6.conv.weight"] == ("late", "detect")
    assert split["model.6.bn.for_late.weight"] == ("late",)
    assert split["model.0.bn.for_early.bias"] == ("early",)
    assert {names for name, names in split.items() if name.startswith("model.10.")} == {("detect",)}
    for found, graph in ((shared, graph_of()), (split, graph_of(bn="per-task"))):
        assert set(found) == {n for n, _ in graph.named_parameters() if not n.startswith("model.9.")}


@pytest.mark.parametrize("norms", ["shared", "per-task"])
def test_users_are_those_that_get_a_gradient(norms: str) -> None:
    graph = graph_of(bn=norms).train()
    found: dict[str, list[str]] = {}
    for head in graph.heads:
        graph.zero_grad(set_to_none=True)
        output = graph(torch.rand(2, 3, 32, 32), heads=[head])[head]
        sum(level.square().mean() for level in output).backward()
        for name, parameter in graph.named_parameters():
            if parameter.grad is not None:
                found.setdefault(name, []).append(head)
    assert {name: tuple(heads) for name, heads in found.items()} == parameter_users(graph)


def test_factors_of_what_one_head_has_for_itself() -> None:
    graph = graph_of(bn="per-task")
    factors = parameter_factors(graph, {"early": 0.5, "late": 1.0, "detect": 0.0})
    names = [name for name, _ in graph.named_parameters()]
    expected = {n: 0.5 for n in names if n.startswith("model.7.") or "for_early" in n}
    expected |= {n: 0.0 for n in names if n.startswith("model.10.") or "for_detect" in n}
    assert factors == expected


def test_runs() -> None:
    spec = load_spec("yolov5n_multitask")
    graph = Graph(spec)
    assert set(runs_of_rows(spec, graph.head_rows)) == {1}
    runs = runs_of_rows(spec.with_values(bn="per-task"), graph.head_rows)
    assert {index for index, count in enumerate(runs) if count == 2} == shared_rows(graph)
    assert min(runs_of_rows(graph_of(bn="per-task").spec, graph_of().head_rows)) == 1
