"""Queries whose order counts: a file may settle near ties in its own way, and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.tiny_ms_detr import LEARNT_ALONE, OWN_CLASSES, SMALLEST, tiny_ms_detr
from utils.errors import ExportError
from utils.export.agreement import Runner, compare, judge
from utils.export.exported_graph import ExportedGraph
from utils.export.token_choices import choosing_rows

MIXED = SMALLEST.replace("[nc, queries]", "[nc, queries, {mixed_selection: true}]")
NOISE = {"noise": np.random.default_rng(0).integers(0, 256, (2, 3, 40, 56), np.uint8)}


def exported(text: str = MIXED) -> ExportedGraph:
    graph = tiny_ms_detr(text)
    return ExportedGraph(graph, graph.heads)


@pytest.fixture(scope="module")
def built() -> ExportedGraph:
    return exported()


@pytest.fixture
def module(built: ExportedGraph) -> ExportedGraph:
    return copy.deepcopy(built)


def runner(module: ExportedGraph, order: slice | None = None) -> Runner:
    """Return what answers as a file of this model that has its chosen tokens in another order."""

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        images = torch.from_numpy(pixels)
        with torch.inference_mode():
            found = module(images)
            if order is not None:
                told = torch.from_numpy(found["detect_tokens"].numpy()[:, order].copy())
                found = module.by_head(images, module.watched({"detect": told}))["detect"]
                found["detect_tokens"] = told
        return {name: tensor.numpy() for name, tensor in found.items()}

    return run


BACKWARDS = slice(None, None, -1)


def worst(run: Runner, module: ExportedGraph) -> dict[str, float]:
    return {name: each.relative for name, each in compare(run, module, NOISE).items()}


def all_alike(module: ExportedGraph) -> ExportedGraph:
    """Return a model to which all tokens are objects to nearly the same degree."""
    [row] = choosing_rows(module.model).values()
    with torch.no_grad():
        row.class_embed.weight.mul_(1e-6)
    return module


def test_the_order_of_near_ties_is_left_to_the_file(module: ExportedGraph) -> None:
    module = all_alike(module)
    own, turned = (runner(module, order)(NOISE["noise"]) for order in (None, BACKWARDS))
    as_sets = [np.sort(found["detect_scores"], 1) for found in (own, turned)]
    assert np.abs(as_sets[0] - as_sets[1]).max() > 0.01, "contents of the table met other tokens"
    found = worst(runner(module, BACKWARDS), module)
    assert 0 < found.pop("detect_tokens") < 1e-5
    assert list(found) == ["detect_boxes", "detect_scores"] and max(found.values()) == 0


def test_an_order_that_is_no_tie_is_refused(module: ExportedGraph) -> None:
    assert max(worst(runner(module), module).values()) == 0
    differences = compare(runner(module, BACKWARDS), module, NOISE)
    with pytest.raises(ExportError, match=r"output 'detect_tokens' .* no file was written"):
        judge(differences, 1e-3)


def test_tokens_that_were_not_the_best_are_refused(module: ExportedGraph) -> None:
    best = runner(module)(NOISE["noise"])["detect_tokens"]
    left_out = np.stack([np.setdiff1d(np.arange(2 * best.shape[1]), tokens)[: best.shape[1]] for tokens in best])
    images = torch.from_numpy(NOISE["noise"])
    with torch.inference_mode():
        found = module.by_head(images, module.watched({"detect": torch.from_numpy(left_out)}))["detect"]
    found = {name: tensor.numpy() for name, tensor in found.items()} | {"detect_tokens": left_out}
    differences = worst(lambda _: found, module)
    assert differences["detect_tokens"] > 0.01 and differences["detect_boxes"] == 0


def test_a_file_with_other_weights_is_refused(module: ExportedGraph) -> None:
    for layer in ("query_embed.weight", "enc_output.weight", "bbox_embed.0.weight"):
        other = ExportedGraph(copy.deepcopy(module.model), module.heads)
        [row] = choosing_rows(other.model).values()
        with torch.no_grad():
            row.get_parameter(layer).mul_(1.05)
        with pytest.raises(ExportError, match="differs from the model"):
            judge(compare(runner(other), module, NOISE), 1e-4)


@pytest.mark.parametrize("spoilt", ["the same twice", "beyond", "below", "kind"])
def test_what_is_no_choice_is_refused(module: ExportedGraph, spoilt: str) -> None:
    found = runner(module)(NOISE["noise"])
    tokens = found["detect_tokens"].copy()
    if spoilt == "the same twice":
        tokens[1, 1] = tokens[1, 0]
    elif spoilt == "kind":
        tokens = tokens.astype(np.float32)
    else:
        tokens[1, 0] = 10_000 if spoilt == "beyond" else -1
    assert worst(lambda _: found | {"detect_tokens": tokens}, module)["detect_tokens"] == np.inf


def test_fewer_tokens_are_another_shape(module: ExportedGraph) -> None:
    found = runner(module)(NOISE["noise"])
    with pytest.raises(ExportError, match=r"shape \(2, 11\), the model's \(2, 12\)"):
        worst(lambda _: found | {"detect_tokens": found["detect_tokens"][:, :-1]}, module)


def test_rows_are_as_they_were_when_a_run_has_failed(module: ExportedGraph) -> None:
    [row] = choosing_rows(module.model).values()
    with pytest.raises(RuntimeError):
        module(torch.zeros(1, 5, 40, 56))
    module(torch.from_numpy(NOISE["noise"]))
    assert not row._forward_hooks and not row._forward_pre_hooks
    assert torch.ones(3).topk(1).values.item() == 1


@pytest.mark.parametrize(
    ("text", "sets", "ordered"),
    [
        (SMALLEST, ["detect"], []),
        (OWN_CLASSES, ["detect"], []),
        (MIXED, [], ["detect"]),
        (LEARNT_ALONE, [], []),
    ],
)
def test_a_head_is_a_set_by_its_queries_whatever_is_suppressed(text: str, sets: list[str], ordered: list[str]) -> None:
    module = exported(text)
    assert (module.set_heads(), module.ordered_heads()) == (sets, ordered)
    assert ("detect_tokens" in module.output_names()["detect"]) == bool(ordered)


@pytest.mark.parametrize("text", [SMALLEST, SMALLEST.replace("supervision: c", "nms: 0.7, supervision: c")])
def test_queries_in_another_order_answer_as_the_model(text: str) -> None:
    module = exported(text)
    own = runner(module)
    assert max(worst(lambda pixels: {k: v[:, BACKWARDS] for k, v in own(pixels).items()}, module).values()) == 0


def test_a_learnt_table_has_one_order() -> None:
    module = exported(LEARNT_ALONE)
    own = runner(module)
    assert max(worst(lambda pixels: {k: v[:, BACKWARDS] for k, v in own(pixels).items()}, module).values()) > 0.01
