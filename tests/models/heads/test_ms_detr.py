"""The decoder of MS-DETR as a head: branches, moved references and their gradients, answers, classes, mistakes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from data.samples import Batch, Placement
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph, with_classes
from models.heads.ms_detr import MSDETRDecoder
from models.layers.set_answers import logit
from models.memory import Memory, MemoryWidth, Queries, QueryWidth
from models.predictions import Detections, PostprocessOptions
from models.registry import Scale, lookup
from models.set_outputs import SetOutputs
from models.spec import ModelSpec, parse_spec
from tests.tiny_ms_detr import MS_DETR, tiny_ms_detr
from utils.errors import ModelError

WIDTH, QUERIES, CLASSES, LAYERS = 16, 6, 3, 3
SHAPES = ((4, 6), (2, 3))
VARIANTS = ("a", "b", "c", "d", "none")
LEARNT = MS_DETR.replace("TwoStageQueries, [nc, queries]", "LearnedQueries, [queries]")


def head_of(points: bool = False, layers: int = LAYERS, dropout: float = 0.0, **options: Any) -> MSDETRDecoder:
    """Return a small head in training mode, whose layers all differ and move boxes."""
    torch.manual_seed(0)
    sources = [MemoryWidth(WIDTH, 2), QueryWidth(WIDTH, QUERIES, 2 if points else 4, not points)]
    args = [CLASSES, WIDTH, layers, 4, 2, 24, dropout, options]
    made = lookup("MSDETRDecoder").from_row(sources, 1, args, Scale()).module
    for mlp in made.bbox_embed:
        nn.init.normal_(mlp[-1].weight, std=0.3)
    return made


def features(points: bool = False, images: int = 2) -> tuple[Memory, Queries]:
    generator = torch.Generator().manual_seed(1)
    content, position = torch.randn(2, images, QUERIES, WIDTH, generator=generator)
    references = torch.rand(images, QUERIES, 2 if points else 4, generator=generator) * 0.6 + 0.2
    memory = Memory(torch.randn(images, 30, WIDTH, generator=generator), SHAPES)
    return memory, Queries(content, position, references)


def layers_of(raw: SetOutputs) -> list[Any]:
    return [*raw.earlier, raw.last]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_answers_in_training_and_the_last_alone_in_running(variant: str) -> None:
    head = head_of(supervision=variant)
    raw = head(features())
    assert len(raw.earlier) == LAYERS - 1 and len(raw.one_to_many) == (0 if variant == "none" else LAYERS)
    for layer in (*layers_of(raw), *raw.one_to_many):
        assert layer.logits.shape == (2, QUERIES, CLASSES) and layer.boxes.shape == (2, QUERIES, 4)
    running = head.eval()(features())
    assert running.earlier == () and running.one_to_many == () and running.proposals is None
    assert torch.equal(running.logits, raw.logits) and torch.equal(running.boxes, raw.boxes)


@pytest.mark.parametrize("variant", ["a", "c"])
def test_a_recipe_without_one_to_many_leaves_the_branch_out(variant: str) -> None:
    head = head_of(supervision=variant)
    calls: list[int] = []
    head.class_embed[0].register_forward_hook(lambda *_: calls.append(1))
    for wanted in (0, 1, 0):
        head.criterion({"o2m": wanted})
        calls.clear()
        raw = head(features())
        assert len(raw.one_to_many) == LAYERS * wanted and len(raw.earlier) == LAYERS - 1
        assert len(calls) == (2 if wanted and variant == "c" else 1)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("box_refine", [False, True])
def test_layers_move_references_step_by_step(points: bool, box_refine: bool) -> None:
    head, (memory, queries) = head_of(points, box_refine=box_refine, aux_ffn=True), features(points)
    raw = head((memory, queries))
    content, references = queries.content, queries.references
    for number, layer in enumerate(head.layers):
        content, aside = layer(content, queries.position, references[:, :, None], memory, True)
        own = number if box_refine else 0
        for state, found in ((content, layers_of(raw)[number]), (aside, raw.one_to_many[number])):
            change = head.bbox_embed[own](state)
            known = references.shape[-1]
            expected = torch.cat((change[..., :known] + logit(references), change[..., known:]), -1).sigmoid()
            assert torch.allclose(found.boxes, expected, atol=1e-5)
            assert torch.allclose(found.logits, head.class_embed[own](state), atol=1e-5)
        references = layers_of(raw)[number].boxes if box_refine else references


@pytest.mark.parametrize("variant", ["a", "b"])
def test_variants_that_read_the_same_state_have_class_layers_of_their_own(variant: str) -> None:
    raw = head_of(supervision=variant)(features())
    for one, many in zip(layers_of(raw), raw.one_to_many, strict=True):
        assert torch.equal(one.boxes, many.boxes) and not torch.allclose(one.logits, many.logits)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("branch", ["one", "many"])
def test_looking_forward_twice_teaches_the_layer_before_and_no_other(twice: bool, branch: str) -> None:
    head, given = head_of(look_forward_twice=twice), features()
    raw = head(given)
    plain = head_of()(given)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(layers_of(raw), layers_of(plain), strict=True))
    layer = layers_of(raw)[2] if branch == "one" else raw.one_to_many[2]
    layer.boxes.sum().backward()
    reached = [mlp[-1].weight.grad is not None and bool(mlp[-1].weight.grad.abs().sum() > 0) for mlp in head.bbox_embed]
    assert reached == [False, twice, True]


def test_reference_points_learn_from_the_first_layer() -> None:
    memory, queries = features(points=True)
    queries = queries._replace(references=queries.references.requires_grad_())
    head_of(points=True)((memory, queries)).earlier[0].boxes.sum().backward()
    assert queries.references.grad.abs().min() > 0


def test_gradients_are_those_of_finite_differences() -> None:
    head, (memory, queries) = head_of(layers=2, look_forward_twice=True).double(), features(images=1)
    memory, queries = memory._replace(values=memory.values.double()), Queries(*(part.double() for part in queries[:3]))
    weight = head.bbox_embed[0][-1].weight
    goal = torch.rand(QUERIES, 4, dtype=torch.float64)

    def loss() -> Tensor:
        # The first references stay, so that what the second layer looks at moves with no box.
        raw = head((memory, queries))
        return sum(((layer.boxes[0] - goal) ** 2).sum() for layer in (raw.earlier[0], raw.one_to_many[0]))

    loss().backward()
    for place in ((0, 3), (2, 7), (3, 0)):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += step
                values.append(float(loss()))
                weight[place] -= step
        assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_boxes_are_float32_under_autocast() -> None:
    head = head_of(aux_ffn=True)
    with torch.autocast("cpu", torch.bfloat16):
        raw = head(features())
    plain = head(features())
    for own, exact in zip((*layers_of(raw), *raw.one_to_many), (*layers_of(plain), *plain.one_to_many), strict=True):
        assert own.boxes.dtype == own.logits.dtype == torch.float32
        assert torch.allclose(own.boxes, exact.boxes, atol=0.05)


def test_layers_begin_as_published() -> None:
    torch.manual_seed(0)
    sources = [MemoryWidth(WIDTH, 2), QueryWidth(WIDTH, QUERIES, 2, False)]
    args = [CLASSES, WIDTH, 2, 4, 2, 24, 0.0, {"supervision": "a"}]
    head = lookup("MSDETRDecoder").from_row(sources, 1, args, Scale()).module
    assert all(torch.allclose(linear.bias.sigmoid(), torch.tensor(0.01)) for linear in head.class_embed)
    assert all(torch.allclose(linear.bias.sigmoid(), torch.tensor(0.01)) for linear in head.class_embed_o2m)
    assert [mlp[-1].bias.tolist() for mlp in head.bbox_embed] == [[0, 0, -2, -2], [0, 0, 0, 0]]
    assert all(mlp[-1].weight.abs().sum() == 0 for mlp in head.bbox_embed)


@pytest.mark.parametrize("ids", [None, [1, 2, 6]])
def test_answers_are_the_likeliest_pairs_of_query_and_class(ids: list[int] | None) -> None:
    head = head_of(supervision="none", top_k=4, category_ids=ids).eval()
    labels = 7 if ids else 3
    raw = SetOutputs(torch.randn(1, QUERIES, labels), torch.rand(1, QUERIES, 4))
    found = head.predict(raw, (32, 48))
    assert found.distinct and found.scores.shape == (1, QUERIES, CLASSES)
    kept = ids or [0, 1, 2]
    pairs = sorted(
        ((raw.logits[0, q, label].sigmoid().item(), q, c) for q in range(QUERIES) for c, label in enumerate(kept)),
        reverse=True,
    )[:4]
    (result,) = head.postprocess(found, PostprocessOptions(conf=0.0), [Placement(64, 96, 0.5, 0.5)])
    assert result.scores.tolist() == pytest.approx([score for score, _, _ in pairs])
    assert result.classes.tolist() == [c for _, _, c in pairs]
    x, y, w, h = raw.boxes[0, pairs[0][1]].tolist()
    expected = torch.tensor([(x - w / 2) * 96, (y - h / 2) * 64, (x + w / 2) * 96, (y + h / 2) * 64])
    assert torch.allclose(result.boxes[0], expected.clamp(min=0).minimum(torch.tensor([96.0, 64, 96, 64])), atol=1e-3)
    (fewer,) = head.postprocess(found, PostprocessOptions(conf=0.0, max_det=2), [Placement(64, 96, 0.5, 0.5)])
    assert torch.equal(fewer.scores, result.scores[:2])


def test_suppression_is_by_class_and_only_where_it_is_asked_for() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.42], [0.2, 0.2, 0.1, 0.1]]])
    logits = torch.tensor([[[4.0, -9, 2], [3.0, -9, -9], [1.0, -9, -9]]])
    place = [Placement(100, 100, 1.0, 1.0)]
    # The recipe of a command does not count: its threshold would keep all.
    options = PostprocessOptions(conf=0.2, iou=0.99)
    plain, suppressing = head_of(supervision="none").eval(), head_of(supervision="none", nms=0.7).eval()
    found = [
        head.postprocess(head.predict(SetOutputs(logits, boxes), (100, 100)), options, place)[0].classes.tolist()
        for head in (plain, suppressing)
    ]
    assert found == [[0, 0, 2, 0], [0, 2, 0]]


def test_valid_areas_of_padded_pictures_are_what_boxes_are_fractions_of() -> None:
    raw = SetOutputs(torch.zeros(2, 1, CLASSES), torch.tensor([[[0.5, 0.5, 1.0, 1.0]]] * 2), ((32, 48), (20, 30)))
    boxes = head_of().eval().predict(raw, (32, 48)).boxes
    assert torch.allclose(boxes[:, 0], torch.tensor([[0.0, 0, 48, 32], [0.0, 0, 30, 20]]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "there"),
    [
        ({"supervision": "c", "aux_ffn": True}, {"layers.1.linear3.weight", "layers.0.norm4.bias"}),
        ({"supervision": "a"}, {"class_embed_o2m.2.weight"}),
        ({"supervision": "none"}, set()),
    ],
)
def test_the_branch_can_be_forgotten(options: dict[str, Any], there: set[str]) -> None:
    head = head_of(**options)
    names = set(head.state_dict())
    assert there <= names
    expected = head.eval()(features())
    for _ in range(2):
        head.drop_training_branch()
    left = set(head.state_dict())
    assert left == {name for name in names if not any(part in name for part in ("o2m", "linear3", "linear4", "norm4"))}
    assert torch.equal(head(features()).boxes, expected.boxes)


def test_fused_and_deployed_graphs_have_no_branch_and_say_the_same() -> None:
    images = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    trained = tiny_ms_detr()
    whole = trained(images)["detect"]
    size = sum(value.numel() for value in trained.parameters())
    for change in (fuse_graph, deploy_graph):
        graph = change(copy.deepcopy(trained))
        small = graph(images)["detect"]
        assert torch.allclose(small.logits, whole.logits, atol=1e-4)
        assert torch.allclose(small.boxes, whole.boxes, atol=1e-5)
        assert sum(value.numel() for value in graph.parameters()) < size
        assert not any("linear3" in name for name in graph.state_dict())


@pytest.mark.parametrize("text", [MS_DETR, LEARNT], ids=["two-stage", "learnt"])
def test_a_step_on_small_pictures_reaches_every_parameter(text: str) -> None:
    graph = tiny_ms_detr(text.replace("queries: 12", "queries: 50")).train()
    head = graph.heads["detect"]
    raw = graph(torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8))["detect"]
    tokens = 50 if text == LEARNT else raw.proposals.boxes.shape[1]
    assert raw.logits.shape == (2, tokens, CLASSES) and (text == LEARNT or tokens < 12)
    criterion = head.criterion({"o2m": 1})
    batch = Batch(
        images=torch.zeros(2, 3, 16, 24, dtype=torch.uint8),
        boxes=torch.tensor([[[2.0, 2, 12, 12], [8.0, 3, 20, 15]], [[0.0] * 4] * 2]),
        classes=torch.tensor([[0, 2], [0, 0]]),
        valid=torch.tensor([[True, True], [False, False]]),
    )
    parts = criterion(raw, criterion.prepare(batch))
    assert tuple(parts) == head.loss_names
    sum(parts.values()).backward()
    learning = {name: value for name, value in graph.named_parameters() if value.requires_grad}
    assert all(value.grad is not None and value.grad.isfinite().all() for value in learning.values())


def test_class_counts_change_in_the_row_of_proposals_too() -> None:
    symbols = parse_spec(yaml.safe_load(MS_DETR), "tiny.yaml")
    proposing = next(row.index for row in symbols.rows if row.module == "TwoStageQueries")
    literal = symbols.with_argument(proposing, 0, 3)

    def told(spec: ModelSpec, classes: int) -> list[list[Any]]:
        """Return the arguments of both rows that tell classes."""
        rows = with_classes(spec, {"detect": classes}).rows
        return [rows[proposing].args, rows[-1].args]

    for spec in (symbols, literal):
        queries, head = told(spec, 5)
        assert queries == [5, 12] and head[0] == 5
    ids = {"category_ids": [0, 2, 5]}
    for index in (proposing, len(symbols.rows) - 1):
        literal = literal.with_option(index, *next(iter(ids.items())))
    queries, head = told(literal, 3)
    assert queries == [3, 12, ids] and head[-1] == {"supervision": "c", "aux_ffn": True, **ids}
    queries, head = told(literal, 4)
    assert queries == [4, 12] and head[0] == 4 and head[-1] == {"supervision": "c", "aux_ffn": True}


def test_outputs_know_the_valid_areas_of_padded_pictures() -> None:
    graph = tiny_ms_detr()
    sizes = [(32, 40), (24, 30)]
    images = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)
    assert list(graph(images, sizes=sizes)["detect"].sizes) == sizes


def test_every_layer_keeps_its_input_alone_where_layers_run_again() -> None:
    graph = tiny_ms_detr(MS_DETR.replace("[dim, 1, 4, 2, ffn", "[dim, 4, 4, 2, ffn").replace("dim, 2, 4", "dim, 4, 4"))
    graph.train()
    ran: list[nn.Module] = []
    layers = [layer for row in graph.model for layer in getattr(row, "layers", ())]
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, _: ran.append(module))
    graph.recompute = True
    raw = graph(torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8))["detect"]
    assert len(layers) == len(ran) == 8
    (raw.boxes.sum() + raw.logits.sum()).backward()
    assert ran[8:] == layers[::-1]


def test_layers_run_again_with_the_same_gradients() -> None:
    graph, grads = tiny_ms_detr().train(), []
    for again in (False, True):
        graph.recompute = again
        graph.zero_grad()
        torch.manual_seed(3)
        images = torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8)
        raw = graph(images)["detect"]
        sum(layer.boxes.sum() + layer.logits.sum() for layer in (*layers_of(raw), *raw.one_to_many)).backward()
        grads.append({name: p.grad for name, p in graph.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        ([3, 32, 2, 4, 2, 48, 0.1], {}, "its dim is 32, but it reads memory of 16 channels; write 16"),
        ([3, 16, 2, 3, 2, 48, 0.1], {}, "3 attention heads do not divide the width 16; the nearest that do are 2"),
        ([3, 16, 0, 4, 2, 48, 0.1], {}, "layers is from 1 to 100, but it is 0"),
        ([3, 16, 2, 4, 99, 48, 0.1], {}, "points is from 1 to 64, but it is 99"),
        ([3, 16, 2, 4, 2, 0, 0.1], {}, "ffn is above 0"),
        ([3, 16, 2, 4, 2, 48, 1.0], {}, "dropout is a probability from 0 to below 1, but it is 1.0"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"supervision": "e"}, "supervision is one of a, b, c, d, none, but it is 'e'"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"order": "both"}, "order is one of cross_first, self_first"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"supervision": "a", "aux_ffn": True}, "aux_ffn serves the supervision c or d"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"supervision": None, "aux_ffn": True}, "but that is none"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"look_forward_twice": True, "box_refine": False}, "but box_refine is false"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"top_k": 0}, "top_k is above 0"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"nms": 1.5}, "nms is an overlap above 0 and up to 1"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"category_ids": [3, 1, 2]}, "each above the one before"),
        ([3, 16, 2, 4, 2, 48, 0.1], {"look_twice": True}, "does not fit|look_twice"),
        ([3, 16, 2], {}, "number of arguments does not fit"),
    ],
)
def test_arguments_that_do_not_fit_are_one_sentence(args: list[Any], options: dict[str, Any], words: str) -> None:
    sources = [MemoryWidth(16, 2), QueryWidth(16, 5)]
    with pytest.raises(ValueError, match=words):
        lookup("MSDETRDecoder").from_row(sources, 1, [*args, options], Scale())


def test_a_row_that_repeats_and_none_written_in_a_file() -> None:
    values = yaml.safe_load(MS_DETR)
    values["head"][-1][1] = 2
    with pytest.raises(ModelError, match="row repeats 2 times; write 1"):
        Graph(parse_spec(values, "tiny.yaml"))
    text = MS_DETR.replace("supervision: c, aux_ffn: true", "supervision: none, order: self_first, nms: none")
    head = tiny_ms_detr(text).heads["detect"]
    assert head.supervision == "none" and head.nms is None and not any("o2m" in name for name in head.loss_names)


def test_what_several_passes_find_is_suppressed() -> None:
    head = head_of(supervision="none").eval()
    one = head.predict(SetOutputs(torch.full((1, 2, CLASSES), 2.0), torch.rand(1, 2, 4) * 0.5 + 0.2), (64, 64))
    joined = Detections.combine([one, one])
    place = [Placement(64, 64, 1.0, 1.0)]
    alone, both = (head.postprocess(each, PostprocessOptions(iou=0.9), place)[0] for each in (one, joined))
    assert not joined.distinct and len(both.scores) == len(alone.scores)
