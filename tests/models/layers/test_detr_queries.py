"""Queries of a deformable decoder: the best proposals of the encoder, or a learnt table."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from models.layers.detr_queries import LearnedQueries, TwoStageQueries
from models.layers.token_anchors import token_anchors
from models.memory import Memory, MemoryWidth, Queries
from models.registry import Scale, lookup

WIDTH, QUERIES, CLASSES = 16, 5, 3
SHAPES = ((6, 8), (3, 4))
TOKENS = 60


def row(name: str, *args: Any) -> TwoStageQueries | LearnedQueries:
    """Return a row of queries whose box layer moves something, in training mode."""
    torch.manual_seed(0)
    made = lookup(name).from_row([MemoryWidth(WIDTH, len(SHAPES))], 1, list(args), Scale()).module
    if isinstance(made, TwoStageQueries):
        torch.nn.init.normal_(made.bbox_embed[-1].weight, std=0.3)
    return made


def two_stage(**options: Any) -> TwoStageQueries:
    return row("TwoStageQueries", CLASSES, QUERIES, options)


def memory(seed: int = 0, mask: torch.Tensor | None = None, ratios: torch.Tensor | None = None) -> Memory:
    values = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Memory(values, SHAPES, mask, ratios)


def test_the_tokens_likeliest_by_label_0_become_references() -> None:
    rows, source = two_stage(), memory()
    queries = rows(source)
    anchors, proposed = token_anchors(source)
    tokens = rows.enc_output_norm(rows.enc_output(source.values * proposed[..., None]))
    for image in range(2):
        order = sorted(range(TOKENS), key=lambda s: -rows.class_embed(tokens[image, s])[0].item())[:QUERIES]
        boxes = [(rows.bbox_embed(tokens[image, s]) + anchors[0, s]).sigmoid() for s in order]
        assert torch.allclose(queries.references[image], torch.stack(boxes), atol=1e-6)
    assert queries.references.dtype == torch.float32 and not queries.references.requires_grad


def test_position_and_content_follow_from_sine_features_of_the_references() -> None:
    rows = two_stage()
    queries = rows(memory())
    features = [
        (math.sin, math.cos)[j % 2](2 * math.pi * number / 10000 ** (2 * (j // 2) / (WIDTH // 2)))
        for number in queries.references[1, 3].tolist()
        for j in range(WIDTH // 2)
    ]
    made = rows.pos_trans_norm(rows.pos_trans(torch.tensor(features)))
    assert torch.allclose(queries.position[1, 3], made[:WIDTH], atol=1e-5)
    assert torch.allclose(queries.content[1, 3], made[WIDTH:], atol=1e-5)


def test_running_gives_the_queries_of_training_and_nothing_else() -> None:
    rows, source = two_stage(category_ids=[1, 2, 6]), memory()
    training = rows(source)
    running = rows.eval()(source)
    for name in ("content", "position", "references"):
        assert torch.allclose(getattr(running, name), getattr(training, name), atol=1e-6), name
    assert running.proposals is None and not running.references.requires_grad
    proposals = training.proposals
    assert proposals.logits.shape == (2, TOKENS, 7) and proposals.boxes.shape == (2, TOKENS, 4)
    anchors, _ = token_anchors(source)
    assert torch.equal(proposals.anchors[1], anchors[0].sigmoid())


def test_matrices_begin_as_published() -> None:
    torch.manual_seed(0)
    made = row("TwoStageQueries", 3, QUERIES)
    for linear in (made.enc_output, made.pos_trans):
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert bound * 0.9 < float(linear.weight.detach().abs().max()) <= bound


def test_proposals_alone_teach_the_layers_that_propose() -> None:
    rows = two_stage()
    queries = rows(memory())
    (queries.content.sum() + queries.position.square().sum()).backward()
    assert rows.pos_trans.weight.grad is not None and rows.enc_output.weight.grad is None
    (queries.proposals.logits.sum() + queries.proposals.boxes.sum()).backward()
    named = rows.named_parameters()
    assert all(value.grad is not None and value.grad.isfinite().all() for _, value in named)


def test_mixed_selection_has_learnt_contents_and_positions_of_proposals() -> None:
    rows = two_stage(mixed_selection=True)
    first, second = rows(memory(0)), rows(memory(1))
    assert torch.equal(first.content, rows.query_embed.weight.expand(2, -1, -1))
    assert torch.equal(first.content, second.content) and not torch.allclose(first.position, second.position)
    first.content.square().sum().backward()
    assert torch.allclose(rows.query_embed.weight.grad, 4 * rows.query_embed.weight)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_there_are_no_more_queries_than_tokens(mixed: bool, training: bool) -> None:
    rows = two_stage(mixed_selection=mixed).train(training)
    queries = rows(Memory(torch.randn(2, 3, WIDTH), ((1, 2), (1, 1))))
    assert queries.content.shape == queries.position.shape == (2, 3, WIDTH) and queries.references.shape == (2, 3, 4)


def test_tokens_of_padding_and_borders_answer_alike() -> None:
    rows, mask = two_stage(), torch.zeros(2, TOKENS, dtype=torch.bool)
    mask[0], mask[1, :4] = True, True
    ratios = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.5, 1 / 6], [0.25, 1 / 3]]])
    source = memory(0, mask, ratios)
    proposals = rows(source).proposals
    nowhere = ~token_anchors(source)[1][1]
    assert nowhere[4:].all()
    assert torch.equal(proposals.boxes[1, nowhere], torch.ones(int(nowhere.sum()), 4))
    assert (proposals.logits[1, nowhere] == proposals.logits[1, nowhere][0]).all()


def test_learnt_queries_are_a_table_with_reference_points() -> None:
    rows = row("LearnedQueries", QUERIES)
    queries = rows(memory())
    table = rows.query_embed.weight
    assert torch.equal(queries.position[1], table[:, :WIDTH]) and torch.equal(queries.content[1], table[:, WIDTH:])
    assert torch.allclose(queries.references[0], rows.reference_points(table[:, :WIDTH]).sigmoid())
    assert queries.references.shape == (2, QUERIES, 2) and queries.proposals is None
    queries.references.sum().backward()
    assert rows.reference_points.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not any(part.requires_grad for part in rows(memory())[:3])


def test_names_and_shapes_of_tensors() -> None:
    linear, norm = ("weight", "bias"), ("weight", "bias")
    parts = {"enc_output": linear, "enc_output_norm": norm, "pos_trans": linear, "pos_trans_norm": norm}
    names = {f"{part}.{leaf}" for part, leaves in parts.items() for leaf in leaves}
    names |= {f"class_embed.{leaf}" for leaf in linear} | {
        f"bbox_embed.{i}.{leaf}" for i in range(3) for leaf in linear
    }
    assert set(two_stage().state_dict()) == names
    assert set(two_stage(mixed_selection=True).state_dict()) == names | {"query_embed.weight"}
    state = row("LearnedQueries", QUERIES).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "query_embed.weight": (QUERIES, 2 * WIDTH),
        "reference_points.weight": (2, WIDTH),
        "reference_points.bias": (2,),
    }


def test_rows_tell_what_the_decoder_must_know() -> None:
    found = [row("TwoStageQueries", CLASSES, QUERIES).layout, row("LearnedQueries", QUERIES).layout]
    assert [(int(w), w.queries, w.coordinates, w.proposes) for w in found] == [(16, 5, 4, True), (16, 5, 2, False)]


@pytest.mark.parametrize(
    ("name", "args", "width", "words"),
    [
        ("TwoStageQueries", [3, 0], 16, "from 1 to 10,000, but it is 0"),
        ("LearnedQueries", [20_000], 16, "but it is 20000"),
        ("TwoStageQueries", [0, 5], 16, "classes is above 0"),
        ("TwoStageQueries", [3, 5, {"category_ids": [1, 2]}], 16, "has 2 ids, but there are 3 classes"),
        ("TwoStageQueries", [3, 5], 18, "multiple of 4"),
        ("TwoStageQueries", [3, 5, {"mixed_selection": 1}], 16, "mixed_selection"),
    ],
)
def test_arguments_that_do_not_fit_are_one_sentence(name: str, args: list[Any], width: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lookup(name).from_row([MemoryWidth(width, 2)], 1, args, Scale())
    with pytest.raises(ValueError, match="made once"):
        lookup(name).from_row([MemoryWidth(16, 2)], 2, args, Scale())


def test_queries_are_a_record_that_says_its_layout() -> None:
    queries = two_stage()(memory())
    assert isinstance(queries, Queries) and queries.layout == "5 queries of 16"
