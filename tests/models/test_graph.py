"""The graph engine: what runs, what is kept, names, sources by name, blocks of one's own."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import registry
from models.graph import Graph, load_graph, with_classes
from models.registry import RowBlock, Scale, lookup, register
from models.spec import load_spec, parse_spec
from utils.errors import ModelError

ANCHORS = [[10, 13, 16, 30], [30, 61, 62, 45]]


def tiny(*head: list[Any], **keys: Any) -> dict[str, Any]:
    """Return a model of a few rows: strides 2, 4, 8, 16 and the given head rows from row 4 on."""
    backbone = [[-1, 1, "Conv", [8, 3, 2]] for _ in range(4)]
    return {"nc": 3, "n_segcls": 4, "anchors": ANCHORS, "backbone": backbone, "head": list(head), **keys}


DETECT = [[2, 3], 1, "Detect", ["nc", "anchors"]]


@contextmanager
def executed(graph: Graph) -> Iterator[list[int]]:
    """Record the indices of the rows that run."""
    ran: list[int] = []
    handles = [
        module.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, module in enumerate(graph.model)
    ]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def test_a_detection_batch_runs_no_segmentation_row() -> None:
    graph = load_graph("yolov5s_city_seg_psp").eval()
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), executed(graph) as ran:
        assert set(graph(image, ["detect"])) == {"detect"}
        assert ran == [*range(24), 25]
    with torch.no_grad(), executed(graph) as ran:
        assert set(graph(image, ["segment"])) == {"segment"}
        assert ran == [*range(23), 24]
    with torch.no_grad(), executed(graph) as ran:
        assert list(graph(image)) == ["segment", "detect"]
        assert ran == list(range(26))


def test_an_early_head_runs_only_what_it_reads() -> None:
    graph = load_graph("yolov5s_city_seg_lab").eval()
    with torch.no_grad(), executed(graph) as ran:
        graph(torch.zeros(1, 3, 64, 64), ["segment"])
    assert ran == [*range(20), 24]


@pytest.mark.parametrize("heads", [["detect"], ["segment"], ["detect", "segment"]])
def test_a_part_gives_what_the_whole_gives(heads: list[str]) -> None:
    graph = load_graph("yolov5n_multitask").eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        whole, part = graph(image), graph(image, heads)
    for name in heads:
        for ours, theirs in zip(part[name], whole[name], strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("heads", [["detect"], ["segment"], ["segment", "detect"]])
def test_every_output_is_released_after_its_last_use(heads: list[str]) -> None:
    graph = load_graph("yolov5n_multitask")
    kept, most = {-1}, 0
    for step in graph.plan(heads):
        row = graph.spec.rows[step.row]
        assert set(row.sources) <= kept, "a row reads what was already released"
        if step.row not in graph.head_rows.values():
            kept.add(step.row)
        most = max(most, len(kept))
        assert set(step.release) <= set(row.sources)
        kept -= set(step.release)
    assert kept == set()
    # Rows 4, 6, 10, 14, 16 ... wait for later readers; everything else goes at once.
    assert most <= 9


def test_released_outputs_are_really_freed() -> None:
    """While a late row runs, an early output that nobody needs any more must not be alive."""
    graph = load_graph("yolov5n_v5").eval()
    alive: list[bool] = []
    seen: list[weakref.ref[Tensor]] = []
    graph.model[0].register_forward_hook(lambda _, __, output: seen.append(weakref.ref(output)))
    graph.model[3].register_forward_hook(lambda *_: alive.append(seen[0]() is not None))
    with torch.no_grad():
        graph(torch.zeros(1, 3, 64, 64))
    assert alive == [False]


def test_pixels_are_scaled_and_floats_are_taken_as_they_are() -> None:
    graph = Graph(parse_spec(tiny(DETECT, input={"scale": 255, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 1.0]}), "x"))
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert torch.allclose(graph.preprocess(pixels).flatten(), torch.tensor([-1.0, 2.0, -0.3]))
    floats = torch.rand(1, 3, 2, 2)
    assert graph.preprocess(floats) is floats
    plain = Graph(parse_spec(tiny(DETECT), "x"))
    assert torch.allclose(plain.preprocess(pixels).flatten(), torch.tensor([0.0, 1.0, 0.2]))


def test_rows_can_be_read_by_name() -> None:
    by_name = tiny(
        [2, 1, "Conv", [8, 1], "fine"],
        [3, 1, "Conv", [8, 1], "coarse"],
        [["fine", "coarse"], 1, "Detect", ["nc", "anchors"], "boxes"],
    )
    graph = Graph(parse_spec(by_name, "x"))
    assert graph.spec.rows[6].sources == (4, 5)
    assert list(graph.heads) == ["boxes"]
    assert [level.shape[2] for level in graph(torch.zeros(1, 3, 64, 64))["boxes"]] == [8, 4]


def test_several_heads_of_one_task() -> None:
    spec = parse_spec(
        tiny(
            [*DETECT, "cars"],
            [[2, 3], 1, "Detect", [7, "anchors"], "people"],
            [2, 1, "SegMaskBase", ["n_segcls", 1, 16], "road"],
        ),
        "x",
    )
    graph = Graph(spec).eval()
    assert {name: head.num_classes for name, head in graph.heads.items()} == {"cars": 3, "people": 7, "road": 4}
    raw = graph(torch.zeros(1, 3, 64, 64), ["people", "road"])
    assert set(raw) == {"people", "road"}
    assert raw["people"][0].shape[-1] == 12 and raw["road"][0].shape[1] == 4
    assert len(graph.names["people"]) == 7


def test_classes_per_head_follow_symbol_or_literal() -> None:
    spec = with_classes(load_spec("yolov5n_multitask"), {"detect": 5, "segment": 2, "unknown": 9})
    assert spec.values["nc"] == 5 and spec.values["n_segcls"] == 2
    literal = parse_spec(tiny([[2, 3], 1, "Detect", [7, "anchors"]]), "x")
    assert Graph(with_classes(literal, {"detect": 2})).heads["detect"].num_classes == 2
    assert literal.values["head"][0][3][0] == 7, "the original file's values must stay"
    graph = load_graph("yolov5n", classes={"detect": 1}, anchors=2)
    assert graph.heads["detect"].anchors.shape == (3, 2, 2) and graph.heads["detect"].num_classes == 1


def test_heads_that_share_a_symbol_may_have_different_class_counts() -> None:
    spec = parse_spec(tiny([*DETECT, "near"], [*DETECT, "far"]), "two.yaml")
    found = {name: head.num_classes for name, head in Graph(with_classes(spec, {"near": 3, "far": 5})).heads.items()}
    assert found == {"near": 3, "far": 5}


def test_the_text_of_a_model_gives_the_same_model(tmp_path: Path) -> None:
    spec = with_classes(load_spec("yolov5n_multitask"), {"detect": 5})
    path = tmp_path / "again.yaml"
    path.write_text(spec.text, encoding="utf-8")
    assert load_spec(path).values == spec.values
    assert load_spec(path).rows == spec.rows


def test_a_block_of_ones_own_joins_by_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TwiceForTheTest"
    # The name must not be there for the tests that come after this one in the same process.
    monkeypatch.setattr(registry, "_BLOCKS", dict(registry._BLOCKS))
    register(type(name, (Twice,), {}))
    graph = Graph(
        parse_spec(tiny([-1, 2, name, [24, 0.5]], [[2, 4], 1, "Detect", ["nc", "anchors"]], width_multiple=0.5), "x")
    )
    assert isinstance(graph.model[4], nn.Sequential) and len(graph.model[4]) == 2
    assert graph.trace[4].shapes == [(1, 16, 16, 16)]
    assert lookup(name).__name__ == name


class Twice(RowBlock):
    """A block as a user would write it."""

    def __init__(self, c_in: int, c_out: int, factor: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.factor


def test_two_blocks_cannot_share_a_name() -> None:
    class Conv(RowBlock):
        pass

    with pytest.raises(ModelError, match="two modules are registered as 'Conv'"):
        register(Conv)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no head 'detct'.*Did you mean 'detect'"):
        load_graph("yolov5n").plan(["detct"])


def test_batchnorm_has_the_familys_settings_and_a_fresh_model_is_untouched() -> None:
    norms = [m for m in load_graph("yolov5n_multitask").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}
    assert all(m.running_var.eq(1).all() and m.num_batches_tracked == 0 for m in norms)


@pytest.mark.parametrize(
    ("number", "depth", "repeats"), [(1, 0.1, 1), (3, 0.33, 1), (9, 0.33, 3), (3, 0.5, 2), (6, 0.33, 2)]
)
def test_depth_rounds_half_to_even(number: int, depth: float, repeats: int) -> None:
    assert Scale(depth=depth).repeats(number) == repeats


def test_stride_is_at_least_32() -> None:
    assert Graph(parse_spec(tiny(DETECT), "x")).stride == 32
    deep = tiny([-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [[2, 5], 1, "Detect", ["nc", "anchors"]])
    assert Graph(parse_spec(deep, "x")).stride == 64
